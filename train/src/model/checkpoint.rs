//! Weights in files: one `.safetensors` file with the model's configuration in its header.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::{SafeTensorError, SafeTensors};
use serde::de::DeserializeOwned;
use tch::{Device, nn};

use super::config::{ConfigError, ConformerConfig};
use super::conformer::Conformer;
use super::weights::{self, WeightError};
use crate::torch::write_safetensors;

/// The header's key for the model's configuration, in JSON.
pub(crate) const CONFIG: &str = "conformer";

/// Why a checkpoint could not be written or read. Each names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file system refused. Check the path, the permissions and the free space.
    #[error("{path}: {reason}")]
    Io {
        /// The checkpoint.
        path: PathBuf,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// The file is not in the safetensors format, or it was cut. Copy it again.
    #[error("{path} is no valid safetensors file: {reason}")]
    Format {
        /// The checkpoint.
        path: PathBuf,
        /// The reader's reason.
        reason: SafeTensorError,
    },
    /// The header does not describe a model of the kind that was asked for: the file holds another
    /// kind, or another program wrote it.
    #[error("{path} carries no \"{key}\" entry in its header: not such a checkpoint of sori-train")]
    NoConfig {
        /// The checkpoint.
        path: PathBuf,
        /// The header's key that such a file has.
        key: &'static str,
    },
    /// The header's configuration cannot be understood. Use the version that wrote the file.
    #[error("{path}: \"{key}\" in the header: {reason}")]
    Json {
        /// The checkpoint.
        path: PathBuf,
        /// The header's key.
        key: &'static str,
        /// Where and why.
        reason: serde_json::Error,
    },
    /// The header's configuration describes no model.
    #[error("{path}: {reason}")]
    Config {
        /// The checkpoint.
        path: PathBuf,
        /// The field.
        reason: ConfigError,
    },
    /// The tensors are not the weights of the model that the header describes.
    #[error("{path}: {reason}")]
    Weights {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        reason: WeightError,
    },
    /// The file holds no encoder with Hugging Face's names for Whisper, or one of another make. Export
    /// the encoder of a Whisper model.
    #[error("{path} is no Whisper encoder: {reason}")]
    Whisper {
        /// The file.
        path: PathBuf,
        /// The tensor that is missing or odd.
        reason: String,
    },
    /// The header describes a far larger model than the file has data for. The file is damaged.
    #[error("{path}: the header describes {expected} parameters, the file holds {found} values")]
    TooSmall {
        /// The checkpoint.
        path: PathBuf,
        /// Parameters of the configuration.
        expected: i64,
        /// Values in the file.
        found: i64,
    },
}

/// Writes a model's weights and configuration. The file appears whole or not at all.
///
/// # Errors
/// If the file cannot be written.
pub fn save(
    path: &Path,
    store: &nn::VarStore,
    config: &ConformerConfig,
) -> Result<(), CheckpointError> {
    let json = serde_json::to_string(config).map_err(|reason| CheckpointError::Json {
        path: path.into(),
        key: CONFIG,
        reason,
    })?;
    let header = HashMap::from([(CONFIG.to_owned(), json)]);
    write_safetensors(path, store.variables(), header).map_err(|reason| CheckpointError::Io {
        path: path.into(),
        reason,
    })
}

/// Reads a model that [`save`] wrote, or the newest weights from a run's checkpoint. The file need not be trusted: what does not fit is an error,
/// and no more memory is taken than a few times the file's size.
///
/// # Errors
/// If the file cannot be read, is damaged, or holds other tensors than its configuration needs.
pub fn load(path: &Path, device: Device) -> Result<(nn::VarStore, Conformer), CheckpointError> {
    let bytes = read(path)?;
    let file = parse(path, &bytes)?;
    let invalid = |reason| CheckpointError::Config {
        path: path.into(),
        reason,
    };
    let config: ConformerConfig = described(path, &bytes, CONFIG)?;
    config.validate().map_err(invalid)?;
    let parameters = config.parameters();
    check_size(path, &file, parameters.iter().map(|(_, count)| count).sum())?;
    let store = nn::VarStore::new(device);
    let model = Conformer::new(&store.root(), &config).map_err(invalid)?;
    fill(path, &file, &store)?;
    Ok((store, model))
}

/// A file's bytes.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    std::fs::read(path).map_err(|reason| CheckpointError::Io {
        path: path.into(),
        reason,
    })
}

/// The tensors of a file.
pub(super) fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>, CheckpointError> {
    SafeTensors::deserialize(bytes).map_err(|reason| CheckpointError::Format {
        path: path.into(),
        reason,
    })
}

/// The model's configuration from the header's entry `key`.
pub(super) fn described<C: DeserializeOwned>(
    path: &Path,
    bytes: &[u8],
    key: &'static str,
) -> Result<C, CheckpointError> {
    let (_, header) =
        SafeTensors::read_metadata(bytes).map_err(|reason| CheckpointError::Format {
            path: path.into(),
            reason,
        })?;
    let entries = header.metadata().as_ref();
    let json = entries
        .and_then(|entries| entries.get(key))
        .ok_or_else(|| CheckpointError::NoConfig {
            path: path.into(),
            key,
        })?;
    serde_json::from_str(json).map_err(|reason| CheckpointError::Json {
        path: path.into(),
        key,
        reason,
    })
}

/// That a file may hold a model of so many parameters, before memory is taken for them. One that
/// lacks little is let through, so that the missing tensor can be named.
pub(super) fn check_size(
    path: &Path,
    file: &SafeTensors<'_>,
    expected: i64,
) -> Result<(), CheckpointError> {
    let found = file.iter().map(|(_, tensor)| count(tensor.shape())).sum();
    if found < expected / 2 {
        return Err(CheckpointError::TooSmall {
            path: path.into(),
            expected,
            found,
        });
    }
    Ok(())
}

/// Where a file holds the weights: a run's checkpoint has the running average, if there is one, beside
/// the weights themselves and the optimiser's state; a trained model has nothing else.
pub(super) fn prefix(file: &SafeTensors<'_>) -> &'static str {
    let names = file.names();
    let has = |prefix: &&str| names.iter().any(|name| name.starts_with(prefix));
    ["average/", "model/"].into_iter().find(has).unwrap_or("")
}

/// Fills a model's variables with the weights in a trained model or a run's checkpoint.
///
/// # Errors
/// If the file cannot be read or holds other weights than these.
pub(crate) fn restore(path: &Path, store: &nn::VarStore) -> Result<(), CheckpointError> {
    let bytes = read(path)?;
    fill(path, &parse(path, &bytes)?, store)
}

/// Fills a model's variables with a file's weights, which have to be exactly these.
pub(super) fn fill(
    path: &Path,
    file: &SafeTensors<'_>,
    store: &nn::VarStore,
) -> Result<(), CheckpointError> {
    let weights = |reason| CheckpointError::Weights {
        path: path.into(),
        reason,
    };
    let variables = store.variables();
    let prefix = prefix(file);
    let names = file.names();
    let mut own = names.iter().filter_map(|name| name.strip_prefix(prefix));
    if let Some(name) = own.find(|name| !variables.contains_key(*name)) {
        return Err(weights(WeightError::Unknown { name: name.into() }));
    }
    weights::fill(store, |name| {
        weights::stored(file, &format!("{prefix}{name}"))
    })
    .map_err(weights)
}

fn count(shape: &[usize]) -> i64 {
    shape.iter().map(|&n| n as i64).product()
}
