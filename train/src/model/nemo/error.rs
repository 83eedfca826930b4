//! Why a `.nemo` file cannot be imported.

use std::path::PathBuf;

use crate::model::{ConfigError, WeightError};

/// Why a `.nemo` file cannot be imported.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {kind}")]
pub struct NemoError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub kind: NemoErrorKind,
}

/// What is wrong with a `.nemo` file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NemoErrorKind {
    /// The file cannot be read, or is no tar archive. Check the path; download it again.
    #[error("cannot be read as a tar archive: {reason}")]
    Archive {
        /// The system's or the reader's reason.
        reason: std::io::Error,
    },
    /// The archive lacks a file that every `.nemo` has: another program wrote it.
    #[error("holds no {member}: not a .nemo file, or of another kind of model")]
    Missing {
        /// The file inside the archive.
        member: &'static str,
    },
    /// A file inside the archive is larger than its kind can be. The archive is damaged or made to
    /// harm.
    #[error("{member} is larger than {limit} bytes")]
    TooLarge {
        /// The file inside the archive.
        member: &'static str,
        /// The most that would have been read.
        limit: u64,
    },
    /// The configuration inside is no valid YAML, or lacks what a CTC model has: it may be another
    /// kind of model.
    #[error("model_config.yaml: {reason}")]
    Yaml {
        /// Where and why.
        reason: String,
    },
    /// The model is built in a way that this importer does not know. Only Conformer-CTC models with
    /// four-fold striding subsampling and full context are.
    #[error("model_config.yaml: {field} must be {expected}, found {found}")]
    Unsupported {
        /// The field, dotted.
        field: &'static str,
        /// What would have been accepted.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The configuration describes no model.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The PyTorch checkpoint inside is damaged, or holds more than tensors by name.
    #[error("model_weights.ckpt: {reason}")]
    Checkpoint {
        /// Where and why.
        reason: String,
    },
    /// The tensors are not the weights of the model that the configuration describes.
    #[error("model_weights.ckpt: {0}")]
    Weights(#[from] WeightError),
}
