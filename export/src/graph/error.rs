use sori_train::model::ConfigError;

/// Why a model has no streaming graph.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// The configuration describes no model. Correct the field that is named.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The model looks into the future. Export a model that was trained with `causal = true`.
    #[error(
        "the model is not causal, so it cannot run chunk by chunk; export a model trained with causal = true"
    )]
    NotCausal,
    /// A parameter is not among the weights: they belong to another model.
    #[error("tensor {name} is missing")]
    Missing {
        /// The tensor.
        name: String,
    },
    /// A parameter has another shape than the configuration says.
    #[error("tensor {name}: expected shape {expected:?}, found {found:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// What the configuration asks for.
        expected: Vec<i64>,
        /// What is there.
        found: Vec<i64>,
    },
}

/// Why a model cannot be run in such pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamingError {
    /// A chunk or left context that output frames do not fill. Choose another multiple of 40 ms.
    #[error("{what}: expected a multiple of 40 ms from 40 to 600000, found {found}")]
    Time {
        /// Which of the two.
        what: &'static str,
        /// What was asked for, ms.
        found: u32,
    },
    /// An impossible number of streams.
    #[error("batch: expected 1 to 1024 streams, found {found}")]
    Batch {
        /// What was asked for.
        found: u32,
    },
}
