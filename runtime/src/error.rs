use crate::audio::AudioError;
use crate::engine::EngineError;
use crate::model::PackageError;

/// Anything that can go wrong in this library, by the room it went wrong in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Audio could not be opened, decoded or resampled.
    #[error(transparent)]
    Audio(#[from] AudioError),
    /// A model package is not what it should be.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// No engine can run the model, or a step failed.
    #[error(transparent)]
    Engine(EngineError),
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        match error {
            // The package is at fault, whoever found it out.
            EngineError::Package(error) => Self::Package(error),
            other => Self::Engine(other),
        }
    }
}
