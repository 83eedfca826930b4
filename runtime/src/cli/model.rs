use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use sori::engine::{EngineChoice, EngineOptions, PrecisionChoice};
use sori::model::{Package, Precision};
use sori::{EndpointRules, Options, Recognizer};

/// Which model, and what runs it; the same for every subcommand that recognises.
#[derive(Args)]
pub(super) struct ModelArgs {
    /// Model package: the directory that holds config.json.
    #[arg(short, long, value_name = "DIR", env = "SORI_MODEL")]
    model: Option<PathBuf>,
    /// What runs the model: ONNX Runtime (ort), tract, or the first of them that works.
    #[arg(long, value_name = "ENGINE", default_value = "auto")]
    engine: EngineArg,
    /// Which graph of the package to run; auto takes the faster one on the engine.
    #[arg(long, value_name = "PRECISION", default_value = "auto")]
    precision: PrecisionArg,
    /// Threads for one chunk.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
}

/// When an utterance is over.
#[derive(Args)]
pub(super) struct EndpointArgs {
    /// Silence after speech that ends an utterance.
    #[arg(long, value_name = "SECONDS", default_value_t = EndpointRules::default().silence_after_speech, value_parser = seconds)]
    endpoint_silence: f64,
    /// Length at which an utterance is cut at its last word boundary.
    #[arg(long, value_name = "SECONDS", default_value_t = EndpointRules::default().longest, value_parser = seconds)]
    endpoint_longest: f64,
}

#[derive(Clone, Copy, ValueEnum)]
enum EngineArg {
    Auto,
    Ort,
    Tract,
}

#[derive(Clone, Copy, ValueEnum)]
enum PrecisionArg {
    Auto,
    Fp32,
    Int8,
}

impl EndpointArgs {
    pub(super) fn rules(&self) -> EndpointRules {
        EndpointRules {
            silence_after_speech: self.endpoint_silence,
            longest: self.endpoint_longest,
            ..EndpointRules::default()
        }
    }
}

impl ModelArgs {
    pub(super) fn open(&self, endpoint: EndpointRules) -> anyhow::Result<Recognizer> {
        let directory = self
            .model
            .as_ref()
            .context("no model: name a package with --model DIR, or in SORI_MODEL")?;
        let engine = EngineOptions {
            engine: match self.engine {
                EngineArg::Auto => EngineChoice::Auto,
                EngineArg::Ort => EngineChoice::Ort,
                EngineArg::Tract => EngineChoice::Tract,
            },
            precision: match self.precision {
                PrecisionArg::Auto => PrecisionChoice::Auto,
                PrecisionArg::Fp32 => PrecisionChoice::Exactly(Precision::Fp32),
                PrecisionArg::Int8 => PrecisionChoice::Exactly(Precision::Int8),
            },
            threads: usize::from(self.threads),
        };
        let package = Package::open(directory)?;
        Ok(Recognizer::new(
            package,
            Options {
                engine,
                endpoint,
                ..Options::default()
            },
        )?)
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 => Ok(seconds),
        _ => Err("expected a number of seconds above 0, or inf".to_owned()),
    }
}
