//! Training: stages of steps, each a batch that teacher and student hear, losses between them, and a
//! step of the optimiser.
//!
//! A run lives in a folder:
//!
//! | | |
//! |---|---|
//! | `recipe.resolved.toml` | the recipe with every default written out |
//! | `metrics.jsonl` | figures, one JSON object a line |
//! | `tensorboard/` | the same for TensorBoard |
//! | `checkpoints/` | the newest states, each enough to go on from |
//! | `final.safetensors` | the trained model, with its [`Provenance`] in the header |
//!
//! A run that was cut off and resumed gives the same losses as an unbroken one: all random numbers
//! follow from the seed and the step.

mod checkpoint;
mod classroom;
mod error;
mod feed;
mod folder;
mod held_out;
mod listener;
mod metrics;
mod network;
mod objective;
mod optimiser;
mod progress;
mod provenance;
mod run;
mod schedule;
mod student;
mod tensorboard;
mod trained;
mod window;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use tch::Device;

use crate::config::Recipe;
use run::Run;

pub use error::TrainError;
pub use provenance::{Provenance, commit};

/// How a recipe is run.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// The run's folder.
    pub run: &'a Path,
    /// Go on from the newest checkpoint in the folder, if there is one.
    pub resume: bool,
    /// Where the models are computed.
    pub device: Device,
    /// Once this is true, the run saves its state and ends.
    pub stop: &'a AtomicBool,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All stages are done: the trained model.
    Finished(PathBuf),
    /// It was stopped: the checkpoint to go on from.
    Stopped(PathBuf),
}

/// Trains a model as a recipe says.
///
/// # Errors
/// Whatever is found wrong before training, and what stops it: see [`TrainError`].
pub fn train(recipe: &Recipe, options: Options<'_>) -> Result<Outcome, TrainError> {
    Run::open(recipe, options)?.go()
}
