//! What can be wrong with a recipe.

use std::path::PathBuf;

use crate::data::DataError;
use crate::model::ConfigError;

/// Why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// The file cannot be read. Check the path.
    #[error("{path}: {reason}")]
    Io {
        /// The recipe, or one that it extends.
        path: PathBuf,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// The file is no TOML. The reason shows the place.
    #[error("{path} is no valid TOML: {reason}")]
    Toml {
        /// The recipe, or one that it extends.
        path: PathBuf,
        /// Where and why.
        reason: toml::de::Error,
    },
    /// Recipes extend each other without end, or very deeply.
    #[error("{path}: more than {limit} recipes extend each other; is there a circle?")]
    Circle {
        /// The recipe at which reading stopped.
        path: PathBuf,
        /// Most recipes in a row.
        limit: usize,
    },
    /// `--set` was given something that changes nothing. Write `--set a.b=value`.
    #[error("--set {text}: {reason}")]
    Override {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A key is unknown or missing, or its value is of the wrong type. Keys are described in the
    /// documentation of `Recipe`.
    #[error("{path}: {key}{reason}")]
    Key {
        /// The recipe.
        path: PathBuf,
        /// The dotted key with a colon, or nothing for the recipe itself.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// A value is out of bounds, or does not go with another.
    #[error("recipe: {field} must be {expected}, found {found}")]
    Value {
        /// The dotted key.
        field: String,
        /// What would have been accepted.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The model's numbers describe no model.
    #[error("recipe: [model]: {0}")]
    Model(ConfigError),
    /// The settings of the data are out of bounds.
    #[error("recipe: [data]: {0}")]
    Data(DataError),
}

impl From<ConfigError> for RecipeError {
    fn from(error: ConfigError) -> Self {
        Self::Model(error)
    }
}

impl From<DataError> for RecipeError {
    fn from(error: DataError) -> Self {
        Self::Data(error)
    }
}

/// Fails unless a value holds.
pub(super) fn require(
    field: impl Into<String>,
    expected: impl Into<String>,
    found: impl std::fmt::Display,
    holds: bool,
) -> Result<(), RecipeError> {
    if holds {
        return Ok(());
    }
    Err(RecipeError::Value {
        field: field.into(),
        expected: expected.into(),
        found: found.to_string(),
    })
}
