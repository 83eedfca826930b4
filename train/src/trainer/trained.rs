//! The trained model: what a run ends with.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::checkpoint::{self, Checkpoint, State};
use super::classroom::Classroom;
use super::error::TrainError;
use super::provenance::{PROVENANCE, Provenance};
use super::student::Named;
use crate::config::Recipe;
use crate::torch::write_safetensors;

pub(super) const TRAINED: &str = "final.safetensors";

/// Writes the mean of the last stage's newest checkpoints.
pub(super) fn write(
    run: &Path,
    recipe: &Recipe,
    classroom: &Classroom,
    state: &State,
) -> Result<PathBuf, TrainError> {
    let best = classroom.student.best();
    let copied = best.variables().into_iter();
    let trained: Named = copied
        .map(|(name, tensor)| (name, tensor.detach().copy()))
        .collect();
    let earlier = recipe.stages.iter().rev().skip(1);
    let begun: u64 = earlier.map(|stage| stage.steps).sum();
    let newest_first = checkpoint::list(run)?.into_iter().rev();
    // The newest is what the run ends with; the mean moves by 1/2, 1/3, ... to each other.
    let others = newest_first.take(recipe.checkpoints.average_last).skip(1);
    for (path, count) in others.zip(2..) {
        let other = Checkpoint::read(&path)?;
        if other.state.step <= begun {
            break;
        }
        let prefix = classroom.student.best_prefix();
        let empty = trained.iter();
        let values: Named = empty
            .map(|(name, tensor)| (format!("{prefix}{name}"), tensor.zeros_like()))
            .collect();
        other.restore(&values)?;
        for ((_, mean), (_, value)) in trained.iter().zip(values) {
            let _ = mean.shallow_clone().lerp_(&value, 1.0 / f64::from(count));
        }
    }
    let path = path(run);
    let header = header(&path, recipe, classroom, state)?;
    write_safetensors(&path, trained, header).map_err(|reason| TrainError::Io {
        path: path.clone(),
        reason,
    })?;
    Ok(path)
}

/// Where the trained model of a run lies.
pub(super) fn path(run: &Path) -> PathBuf {
    run.join(TRAINED)
}

/// What a file of the run says about the model in it.
pub(super) fn header(
    path: &Path,
    recipe: &Recipe,
    classroom: &Classroom,
    state: &State,
) -> Result<HashMap<String, String>, TrainError> {
    let description = classroom.student.best().model.description();
    let (key, description) = description.map_err(|reason| TrainError::Io {
        path: path.into(),
        reason: reason.into(),
    })?;
    let provenance = Provenance::of(recipe, state, &classroom.tokenizer);
    Ok(HashMap::from([
        (key.to_owned(), description),
        (
            PROVENANCE.to_owned(),
            checkpoint::to_json(path, &provenance)?,
        ),
    ]))
}
