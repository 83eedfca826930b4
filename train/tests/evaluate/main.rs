//! Evaluation: error rates that agree with jiwer's, and decoding that agrees with a stream's.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod command;
mod counts;
mod decoding;
mod pictures;

use std::f32::consts::TAU;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sori::features::LogMel;
use sori_train::data::{Corpus, Source, manifest};
use sori_train::evaluate::{EvaluateError, Recogniser, Row, Set, Settings, evaluate};
use sori_train::model::{Conformer, ConformerConfig, Teacher};
use tch::{Device, nn};

/// Pieces of words, as many as the tiny models have tokens.
const PIECES: [&str; 9] = [
    "\u{2581}a",
    "\u{2581}the",
    "n",
    "\u{2581}c",
    "at",
    "s",
    "\u{2581}",
    "'",
    "d",
];

fn pieces() -> Vec<String> {
    PIECES.map(str::to_owned).to_vec()
}

/// Speech-like sound in files, and a manifest of it.
struct Speech {
    folder: tempfile::TempDir,
    seconds: f64,
}

impl Speech {
    /// Utterances of these lengths in samples.
    fn of(lengths: &[usize]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut lines = Vec::new();
        for (index, &samples) in lengths.iter().enumerate() {
            let name = format!("{index}.wav");
            write_sound(&folder.path().join(&name), index as u64, samples);
            let seconds = samples as f64 / 16_000.0;
            manifest::write_line(&mut lines, &name, seconds, "the cat", None).unwrap();
        }
        fs::write(folder.path().join("speech.jsonl"), lines).unwrap();
        Self {
            folder,
            seconds: lengths.iter().sum::<usize>() as f64 / 16_000.0,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn corpus(&self) -> Corpus {
        Corpus::read(
            &[Source::once(self.path("speech.jsonl"))],
            Default::default(),
        )
        .unwrap()
    }

    /// Decodes with each chunk size: the rows, and what was heard of the files in their order.
    fn decode(
        &self,
        model: &Conformer,
        settings: &Settings,
        teacher: Option<&Teacher>,
    ) -> Result<(Vec<Row>, Vec<Vec<String>>), EvaluateError> {
        let pieces = pieces();
        let recogniser = Recogniser::new(model, &pieces, Device::Cpu)?;
        let entries = self.corpus().entries().unwrap();
        let set = Set {
            name: "speech",
            entries: &entries,
        };
        let mut heard =
            vec![vec![String::new(); set.entries.len()]; settings.contexts.chunks_ms.len()];
        let rows = evaluate(recogniser, set, settings, teacher, &mut |scored| {
            let chunks = &settings.contexts.chunks_ms;
            let chunk = chunks
                .iter()
                .position(|&chunk| chunk == scored.chunk_ms)
                .unwrap();
            heard[chunk][scored.entry.line - 1] = scored.hypothesis.to_owned();
            ControlFlow::Continue(())
        })?;
        Ok((rows, heard))
    }
}

/// Tones that change every 50 ms, and noise.
fn write_sound(path: &Path, seed: u64, samples: usize) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut rng = StdRng::seed_from_u64(seed);
    let mut file = hound::WavWriter::create(path, spec).unwrap();
    let (mut pitch, mut level) = (0.0, 0.0);
    for n in 0..samples {
        if n % 800 == 0 {
            pitch = rng.random_range(100.0..4000.0);
            level = rng.random_range(100.0..8000.0);
        }
        let tone = level * (TAU * pitch * n as f32 / 16_000.0).sin();
        let noise = rng.random_range(-100.0..100.0);
        file.write_sample((tone + noise) as i16).unwrap();
    }
    file.finalize().unwrap();
}

/// A random model with large weights, so that it says something else at every other frame.
fn talkative(config: &ConformerConfig, seed: u64) -> (nn::VarStore, Conformer) {
    let (store, model) = support::model(config, seed);
    for mut weights in store
        .variables()
        .into_values()
        .filter(|weights| weights.dim() > 1)
    {
        let _ = tch::no_grad(|| weights.g_mul_scalar_(3.0));
    }
    (store, model)
}

fn of_80_bands(config: &ConformerConfig) -> ConformerConfig {
    let features = LogMel::BINS as i64;
    ConformerConfig {
        features,
        ..config.clone()
    }
}
