//! The results table as a user meets it: recipes in, runs and a table out. The speech is made of
//! tones, one for each letter.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod comparison;
mod interruption;
mod mistakes;

use std::fs;
use std::path::PathBuf;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use sori_train::table::Table;
use support::{TEXTS, write_manifest, write_speech};

/// Methods are `none.toml` and `guided.toml`, test sets `speech.jsonl` and `few/manifest.jsonl`.
struct Workshop {
    folder: tempfile::TempDir,
}

impl Workshop {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("few")).unwrap();
        write_speech(folder.path(), &TEXTS);
        write_manifest(&path("few"), "manifest.jsonl", &TEXTS[..3]);
        fs::write(path("common.toml"), COMMON).unwrap();
        for (name, losses) in [("none", "ctc = 1"), ("guided", "ctc = 1, guided = 1")] {
            let stage = format!("[[stage]]\nname = \"ctc\"\nsteps = 60\nloss = {{ {losses} }}\n");
            let recipe = format!("extends = \"common.toml\"\n{stage}");
            fs::write(path(&format!("{name}.toml")), recipe).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, words: &str) -> Assert {
        let mut command = Command::cargo_bin("sori-train").unwrap();
        command
            .current_dir(self.folder.path())
            .env("OMP_NUM_THREADS", "1")
            .args(shlex::split(words).unwrap())
            .assert()
    }

    /// Trains a teacher for both recipes.
    fn teacher(&self) {
        self.run(
            "train none.toml -o teacher --device cpu --set seed=8 \
             --set 'contexts.chunks_ms=[\"full\"]'",
        )
        .success();
    }

    fn table(&self, folder: &str) -> Table {
        let json = fs::read(self.path(folder).join("table.json")).unwrap();
        serde_json::from_slice(&json).unwrap()
    }
}

/// A tiny model that learns to spell something within a second.
const COMMON: &str = r#"
    ema_decay = 0.0
    [model]
    d_model = 32
    layers = 2
    heads = 2
    feed_forward = 24
    kernel = 3
    subsampling_channels = 4
    dropout = 0.0
    dropout_attention = 0.0
    [data]
    tokenizer = "tokenizer"
    train = [{ manifest = "speech.jsonl" }]
    workers = 1
    batching = { max_seconds = 30.0, longest = 3.0, buckets = 1 }
    augmentation.noise.probability = 0.0
    augmentation.room.probability = 0.0
    augmentation.quiet.probability = 0.0
    augmentation.speed.factors = []
    spec_augment = { frequency_masks = 0, time_masks = 0 }
    [contexts]
    chunks_ms = [160, "full"]
    left_ms = 320
    [optimiser]
    peak_learning_rate = 0.01
    warm_up_steps = 10
    [metrics]
    every_steps = 1
"#;
