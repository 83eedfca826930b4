//! Weights in files: one `.safetensors` file with the model's configuration in its header.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::{SafeTensorError, SafeTensors};
use tch::{Device, nn};

use super::config::{ConfigError, ConformerConfig};
use super::conformer::Conformer;
use super::weights::{self, WeightError};
use crate::torch::write_safetensors;

/// The header's key for the model's configuration, in JSON.
const CONFIG: &str = "conformer";

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
    /// The header says nothing of a Conformer: another program wrote the file.
    #[error("{path} carries no \"{CONFIG}\" entry in its header: not a checkpoint of sori-train")]
    NoConfig {
        /// The checkpoint.
        path: PathBuf,
    },
    /// The header's configuration cannot be understood. Use the version that wrote the file.
    #[error("{path}: \"{CONFIG}\" in the header: {reason}")]
    Json {
        /// The checkpoint.
        path: PathBuf,
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
        reason,
    })?;
    let header = HashMap::from([(CONFIG.to_owned(), json)]);
    write_safetensors(path, store.variables(), header).map_err(|reason| CheckpointError::Io {
        path: path.into(),
        reason,
    })
}

/// Reads a model that [`save`] wrote. The file need not be trusted: what does not fit is an error,
/// and no more memory is taken than a few times the file's size.
///
/// # Errors
/// If the file cannot be read, is damaged, or holds other tensors than its configuration needs.
pub fn load(path: &Path, device: Device) -> Result<(nn::VarStore, Conformer), CheckpointError> {
    let io = |reason| CheckpointError::Io {
        path: path.into(),
        reason,
    };
    let format = |reason| CheckpointError::Format {
        path: path.into(),
        reason,
    };
    let weights = |reason| CheckpointError::Weights {
        path: path.into(),
        reason,
    };

    let bytes = std::fs::read(path).map_err(io)?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(format)?;
    let file = SafeTensors::deserialize(&bytes).map_err(format)?;
    let config = read_config(path, header.metadata().as_ref())?;

    let expected = config.parameters().iter().map(|(_, count)| count).sum();
    let found = file.iter().map(|(_, tensor)| count(tensor.shape())).sum();
    // A model that lacks little is let through, so that the missing tensor can be named.
    if found < expected / 2 {
        return Err(CheckpointError::TooSmall {
            path: path.into(),
            expected,
            found,
        });
    }
    let store = nn::VarStore::new(device);
    let model =
        Conformer::new(&store.root(), &config).map_err(|reason| CheckpointError::Config {
            path: path.into(),
            reason,
        })?;
    let variables = store.variables();
    if let Some((name, _)) = file.iter().find(|(name, _)| !variables.contains_key(*name)) {
        return Err(weights(WeightError::Unknown { name: name.into() }));
    }
    weights::fill(&store, |name| weights::stored(&file, name)).map_err(weights)?;
    Ok((store, model))
}

fn read_config(
    path: &Path,
    header: Option<&HashMap<String, String>>,
) -> Result<ConformerConfig, CheckpointError> {
    let json = header
        .and_then(|header| header.get(CONFIG))
        .ok_or_else(|| CheckpointError::NoConfig { path: path.into() })?;
    let config: ConformerConfig =
        serde_json::from_str(json).map_err(|reason| CheckpointError::Json {
            path: path.into(),
            reason,
        })?;
    config
        .validate()
        .map_err(|reason| CheckpointError::Config {
            path: path.into(),
            reason,
        })?;
    Ok(config)
}

fn count(shape: &[usize]) -> i64 {
    shape.iter().map(|&n| n as i64).product()
}
