//! Training as a user meets it: a recipe and speech in, a run's folder out. The speech is made of
//! tones, one for each letter.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod cache;
mod checkpoints;
mod learning;
mod teachers;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use safetensors::SafeTensors;
use sori_train::config::{self, Recipe};
use sori_train::trainer::{Options, Outcome, Peers, TrainError, train};
use support::{TEXTS, write_speech};
use tch::Device;

/// A folder with speech, a tokenizer and a recipe. Torch's random numbers belong to the whole
/// process, so that one test trains at a time.
struct Workshop {
    folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Workshop {
    fn new() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        tch::set_num_threads(1);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        write_speech(path, &TEXTS);
        Self {
            folder,
            _alone: alone,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A recipe for a tiny model, with changes.
    fn recipe(&self, stages: &str, changes: &[&str]) -> Recipe {
        let text = format!(
            r#"
            name = "tiny"
            seed = 3
            [model]
            d_model = 16
            layers = 2
            heads = 2
            feed_forward = 24
            kernel = 3
            subsampling_channels = 4
            [data]
            tokenizer = {tokenizer:?}
            train = [{{ manifest = {speech:?} }}]
            workers = 1
            batching = {{ max_seconds = 6.0, longest = 3.0, buckets = 2 }}
            augmentation.noise.probability = 0.0
            augmentation.room.probability = 0.0
            spec_augment = {{ frequency_masks = 1, frequency_width = 4, time_masks = 1 }}
            [contexts]
            chunks_ms = [160, 320, "full"]
            left_ms = 320
            [optimiser]
            peak_learning_rate = 0.01
            warm_up_steps = 2
            [metrics]
            every_steps = 1
            {stages}
            "#,
            tokenizer = self.path("tokenizer"),
            speech = self.path("speech.jsonl"),
        );
        let path = self.path("recipe.toml");
        fs::write(&path, text).unwrap();
        let changes: Vec<_> = changes.iter().map(|&change| change.to_owned()).collect();
        config::read(&path, &changes).unwrap()
    }

    fn train(&self, recipe: &Recipe, run: &str) -> Result<Outcome, TrainError> {
        let run = self.path(run);
        train(recipe, options(&run, false, &AtomicBool::new(false)))
    }
}

static NO_PEERS: Peers = Peers::none();

fn options<'a>(run: &'a Path, resume: bool, stop: &'a AtomicBool) -> Options<'a> {
    Options {
        run,
        resume,
        device: Device::Cpu,
        stop,
        peers: &NO_PEERS,
    }
}

/// One figure of each line of a run's metrics that has it.
fn figures(run: &Path, name: &str) -> Vec<f64> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter_map(|line| line.get(name)?.as_f64()).collect()
}

fn finished(outcome: Outcome) -> PathBuf {
    match outcome {
        Outcome::Finished(model) => model,
        Outcome::Stopped(_) => panic!("the run was stopped"),
    }
}

const CTC: &str = "[[stage]]\nname = \"ctc\"\nsteps = 6\nloss = { ctc = 1.0 }";

const SAM_GUIDED: &str = r#"
[[stage]]
name = "sam"
steps = 6
loss = { sam = 1.0 }
[[stage]]
name = "guided"
steps = 6
loss = { ctc = 1.0, guided = 1.0 }
"#;

impl Workshop {
    /// Trains a teacher for a few steps, and gives its specification as a change of a recipe.
    fn teacher(&self) -> String {
        let recipe = self.recipe(CTC, &["seed=8", "contexts.chunks_ms=[\"full\"]"]);
        let model = finished(self.train(&recipe, "teacher").unwrap());
        format!("teacher.source=sori:{}", model.display())
    }
}

/// The tensors of a file whose names begin with `prefix`, by name, as bytes.
fn tensors(path: &Path, prefix: &str) -> Vec<(String, Vec<u8>)> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut found: Vec<_> = file
        .iter()
        .filter_map(|(name, view)| Some((name.strip_prefix(prefix)?.into(), view.data().to_vec())))
        .collect();
    found.sort();
    found
}

fn checkpoint(run: &Path, step: u64) -> PathBuf {
    run.join(format!("checkpoints/step-{step:08}.safetensors"))
}
