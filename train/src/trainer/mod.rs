//! Training: stages of steps, each a batch that teacher and student hear, losses between them, and a
//! step of the optimiser.
//!
//! A run lives in a folder:
//!
//! | | |
//! |---|---|
//! | `recipe.resolved.toml` | the recipe with every default written out |
//! | `teacher.contents` | what tells its teacher from another under the same name |
//! | `metrics.jsonl` | figures, one JSON object a line |
//! | `tensorboard/` | the same for TensorBoard |
//! | `checkpoints/` | the newest states, each enough to go on from |
//! | `final.safetensors` | the trained model, with its [`Provenance`] in the header |
//!
//! A run that was cut off and resumed gives the same losses as an unbroken one: all random numbers
//! follow from the seed and the step.

mod bucket;
mod cache;
mod checkpoint;
mod classroom;
mod error;
mod exchange;
mod feed;
mod folder;
mod held_out;
mod listener;
mod metrics;
mod muon;
mod network;
mod objective;
mod optimiser;
mod peers;
mod precision;
mod progress;
mod provenance;
mod record;
mod run;
mod schedule;
mod student;
mod sums;
mod teach;
mod tensorboard;
mod trained;
mod window;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use tch::Device;

use crate::config::{Recipe, TeacherRecipe};
use crate::data::{Position, Shard};
use crate::model::Teacher;
use listener::Listener;
use run::{Parts, Run};

pub use error::TrainError;
pub use folder::{contents, learns_from};
pub use peers::Peers;
pub use provenance::{Provenance, commit};
pub use teach::{Taught, teach};

/// How a recipe is run.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// The run's folder.
    pub run: &'a Path,
    /// Go on from the newest checkpoint in the folder, if there is one.
    pub resume: bool,
    /// Where the models are computed.
    pub device: Device,
    /// Once this is true, the run saves its state and ends; all processes do, if it is so in one.
    pub stop: &'a AtomicBool,
    /// Who else trains this model; the first of them writes its files.
    pub peers: &'a Peers,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All stages are done: the trained model.
    Finished(PathBuf),
    /// It was stopped: the checkpoint to go on from.
    Stopped(PathBuf),
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// There is no state to go on from.
    Unbegun,
    /// There is a checkpoint to go on from.
    Begun,
    /// All stages are done: the trained model.
    Finished(PathBuf),
}

/// Checks that a recipe, its data and its teacher go together, as [`train`] does before its first
/// step. Nothing is written.
///
/// # Errors
/// What is found wrong.
pub fn check(recipe: &Recipe, device: Device) -> Result<(), TrainError> {
    Parts::open(recipe, recipe.model.init(), device)?.load(
        recipe,
        Shard::WHOLE,
        Position::start_of(0),
    )?;
    Ok(())
}

/// How far the run of a recipe in a folder is.
///
/// # Errors
/// [`TrainError::OtherRecipe`] if it is another recipe's, [`TrainError::OtherTeacher`] if it is another
/// teacher's; or if its files are damaged.
pub fn standing(recipe: &Recipe, run: &Path) -> Result<Standing, TrainError> {
    folder::standing(recipe, run)
}

/// Opens a teacher to compare spikes with those of a student with these tokens, in the order of its
/// outputs and without the blank; `None` if the teacher has other tokens, or no CTC posteriors.
///
/// # Errors
/// If the teacher cannot be opened.
pub fn spike_teacher(
    teacher: &TeacherRecipe,
    pieces: &[String],
    device: Device,
) -> Result<Option<Teacher>, TrainError> {
    let listener = Listener::open(teacher, device)?;
    Ok(listener
        .has_posteriors_over(pieces)
        .then_some(listener.teacher))
}

/// Trains a model as a recipe says.
///
/// # Errors
/// Whatever is found wrong before training, and what stops it: see [`TrainError`].
pub fn train(recipe: &Recipe, options: Options<'_>) -> Result<Outcome, TrainError> {
    Run::open(recipe, options)?.go()
}
