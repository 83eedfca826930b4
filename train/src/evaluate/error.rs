//! Why a model cannot be evaluated.

use crate::data::DataError;
use crate::model::TeacherError;

/// Why a model cannot be evaluated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// The tokens are not those of the model. Take the tokenizer that it was trained with.
    #[error(
        "the model has {model} outputs besides the blank, but there are {tokens} tokens: take the \
         tokenizer that it was trained with"
    )]
    Tokens {
        /// The model's outputs, without the blank.
        model: i64,
        /// Tokens, without the blank.
        tokens: usize,
    },
    /// The model hears other features than ours. Take a model that was trained here.
    #[error("the model hears {found} log-mel bands, expected {expected}")]
    Features {
        /// Bands of our log-mel features.
        expected: usize,
        /// What the model was made for.
        found: i64,
    },
    /// A model that hears the whole utterance cannot be run in chunks. Leave the chunk sizes out, or
    /// take a causal model.
    #[error(
        "a model that is not causal cannot run in chunks of {chunk_ms} ms: only \"full\" will do"
    )]
    NotCausal {
        /// The chunk that was asked for.
        chunk_ms: u32,
    },
    /// A setting is out of bounds. The message gives the bounds.
    #[error("{field} must be {expected}, found {found}")]
    Setting {
        /// The setting.
        field: &'static str,
        /// What would have been accepted.
        expected: String,
        /// What was found.
        found: String,
    },
    /// Spikes cannot be compared with those of a teacher without a CTC head. Take another teacher.
    #[error("the teacher has no CTC posteriors, so there are no spikes to compare with")]
    NoPosteriors,
    /// The teacher has other tokens than the model. Take the teacher that the model was trained with.
    #[error("the teacher {reason}: its spikes cannot be compared with the model's")]
    OtherTokens {
        /// How they differ.
        reason: String,
    },
    /// Whoever is told of the utterances asked to stop. Evaluate again for a result.
    #[error("the evaluation was stopped before its end")]
    Stopped,
    /// The teacher gives no attention map.
    #[error("the teacher gives no attention map")]
    NoAttention,
    /// Teacher and student cannot be compared.
    #[error(transparent)]
    Loss(#[from] crate::loss::LossError),
    /// The data cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The teacher fails.
    #[error(transparent)]
    Teacher(#[from] TeacherError),
    /// libtorch failed: out of memory, as a rule. Make batches smaller.
    #[error("libtorch: {0}")]
    Torch(tch::TchError),
}

impl From<tch::TchError> for EvaluateError {
    fn from(error: tch::TchError) -> Self {
        Self::Torch(error)
    }
}
