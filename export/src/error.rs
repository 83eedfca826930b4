use std::io;
use std::path::PathBuf;

use sori::audio::AudioError;
use sori::engine::EngineError;
use sori::model::PackageError;
use sori_train::config::Chunk;
use sori_train::model::{CheckpointError, StreamError};

use crate::graph::{GraphError, StreamingError};

/// Why there is no package.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The checkpoint cannot be read, or is none of ours. The message says what is wrong with it.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The model has no streaming graph.
    #[error("{path}: {reason}")]
    Graph {
        /// The checkpoint.
        path: PathBuf,
        /// Why not.
        reason: GraphError,
    },
    /// The model hears other features than the runtime computes. Train it on 80 log-mel bins.
    #[error(
        "{path}: expected a model of 80 log-mel bins, which is what the runtime computes, found {found}"
    )]
    Features {
        /// The checkpoint.
        path: PathBuf,
        /// Log-mel bins of the model.
        found: i64,
    },
    /// The checkpoint says which chunks it was trained with, and this is none of them. Choose one
    /// of those.
    #[error(
        "{path}: expected one of the chunks that the model was trained with ({}), found {found} ms",
        chunks(trained)
    )]
    Chunk {
        /// The checkpoint.
        path: PathBuf,
        /// The chunks that it was trained with.
        trained: Vec<Chunk>,
        /// The chunk that was asked for, ms.
        found: u32,
    },
    /// A chunk, left context or batch that no graph can have.
    #[error(transparent)]
    Streaming(#[from] StreamingError),
    /// The tokens are another model's: their number differs from the model's outputs. Give the
    /// file that the model was trained with.
    #[error("{path}: expected the {expected} tokens of the model, blank included, found {found}")]
    Tokens {
        /// The tokens file.
        path: PathBuf,
        /// Outputs of the model.
        expected: i64,
        /// Tokens in the file.
        found: i64,
    },
    /// A file could not be read or written. Check the path, the permissions and the free space.
    #[error("{path}: {reason}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// There is something under the package's name already. Remove it, or choose another name.
    #[error("{path}: exists already; remove it or choose another name")]
    Exists {
        /// The package that was to be written.
        path: PathBuf,
    },
    /// What was written does not pass the runtime's own check: most often the tokens are another
    /// model's.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// An engine does not run what was written. Both must, so that the package can be trusted.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The trained model itself refused the chunks it was given. This is a fault of the exporter;
    /// please report it.
    #[error("the trained model: {0}")]
    Stream(#[from] StreamError),
    /// tract does not run the graph for several streams. Leave that graph out.
    #[error("the graph for several streams: tract: {reason}")]
    Batched {
        /// What tract said.
        reason: String,
    },
    /// The audio to verify with cannot be read. Give a WAV file of integers or 32-bit floats.
    #[error("{path}: no readable WAV file: {reason}")]
    Wav {
        /// The file.
        path: PathBuf,
        /// The reader's reason.
        reason: hound::Error,
    },
    /// The audio to verify with has a sample rate that is not read.
    #[error(transparent)]
    Audio(#[from] AudioError),
    /// An engine gives other results than the trained model does. The package was not kept. This is
    /// a fault of the exporter or of the engine, unless the weights are extreme: please report it.
    #[error(
        "{graph} graph on {engine}, {signal}: {what} is {found:.1e} off the trained model's, at most {allowed:.1e} is allowed; no package was written"
    )]
    Differs {
        /// `fp32`, `int8` or `batched`.
        graph: &'static str,
        /// `ort` or `tract`.
        engine: &'static str,
        /// `speech` or `noise`.
        signal: &'static str,
        /// What was compared.
        what: &'static str,
        /// How far it is off.
        found: f64,
        /// How far it may be off.
        allowed: f64,
    },
}

fn chunks(trained: &[Chunk]) -> String {
    let names = trained.iter().map(|chunk| match chunk {
        Chunk::Ms(ms) => format!("{ms} ms"),
        Chunk::Full => "the whole utterance".to_owned(),
    });
    names.collect::<Vec<_>>().join(", ")
}
