//! One model of several.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use tch::{Kind, Tensor, no_grad};

use super::checkpoint::{CheckpointError, parse, prefix, read};
use super::weights::{self, WeightError};
use crate::torch::write_safetensors;

/// Writes the mean of the weights in `files`: trained models, or checkpoints of runs, of one geometry.
///
/// It is worth something where they grew from the same weights: later checkpoints of one run, or runs
/// that began with one model and heard other speech; their mean then is often better than each. With
/// `half` the weights are stored as float16: half the bytes, and every reader here takes them. What the
/// header says, origin included, is the first file's.
///
/// # Errors
/// If a file cannot be read, or holds other tensors than the first.
pub fn average(files: &[PathBuf], half: bool, out: &Path) -> Result<(), CheckpointError> {
    let Some((first, others)) = files.split_first() else {
        return Ok(());
    };
    let bytes = read(first)?;
    let file = parse(first, &bytes)?;
    let mut mean = tensors(first, &file)?;
    for (path, count) in others.iter().zip(2..) {
        let bytes = read(path)?;
        let file = parse(path, &bytes)?;
        let unfit = |reason| CheckpointError::Weights {
            path: path.clone(),
            reason,
        };
        let theirs = tensors(path, &file)?;
        if let Some((name, _)) = theirs
            .iter()
            .find(|(name, _)| mean.iter().all(|(own, _)| own != name))
        {
            return Err(unfit(WeightError::Unknown { name: name.clone() }));
        }
        for (name, mean) in &mut mean {
            let Some((_, tensor)) = theirs.iter().find(|(theirs, _)| theirs == name) else {
                return Err(unfit(WeightError::Missing { name: name.clone() }));
            };
            let (expected, found) = (mean.size(), tensor.size());
            if expected != found {
                return Err(unfit(WeightError::Shape {
                    name: name.clone(),
                    expected,
                    found,
                }));
            }
            // The mean moves by 1/2, 1/3, ... to each other.
            let _ = no_grad(|| mean.lerp_(tensor, 1.0 / f64::from(count)));
        }
    }
    let kind = if half { Kind::Half } else { Kind::Float };
    let mean = mean
        .into_iter()
        .map(|(name, tensor)| (name, tensor.to_kind(kind)));
    let (_, header) =
        SafeTensors::read_metadata(&bytes).map_err(|reason| CheckpointError::Format {
            path: first.clone(),
            reason,
        })?;
    let header = header.metadata().clone().unwrap_or_default();
    write_safetensors(out, mean, header).map_err(|reason| CheckpointError::Io {
        path: out.into(),
        reason,
    })
}

/// The weights of a file, as float32.
fn tensors(path: &Path, file: &SafeTensors<'_>) -> Result<Vec<(String, Tensor)>, CheckpointError> {
    let prefix = prefix(file);
    let mut names = file.names();
    names.sort_unstable();
    let own = names.into_iter().filter(|name| name.starts_with(prefix));
    own.map(|name| {
        let tensor = weights::stored(file, name)?;
        let tensor = tensor.ok_or_else(|| WeightError::Missing { name: name.into() })?;
        if !bool::try_from(tensor.isfinite().all()).unwrap_or(false) {
            return Err(WeightError::NotFinite { name: name.into() });
        }
        Ok((name[prefix.len()..].to_owned(), tensor))
    })
    .collect::<Result<_, _>>()
    .map_err(|reason| CheckpointError::Weights {
        path: path.into(),
        reason,
    })
}
