//! The model to train: a preset and what differs from it.

use serde::{Deserialize, Serialize};
use toml::Table;

use crate::model::{ConfigError, ConformerConfig};

/// `[model]`: `preset = "student"` (the default) or `"teacher"`, and any numbers of
/// [`ConformerConfig`] that differ from it, except the vocabulary: that is the tokenizer's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Table", into = "Table")]
pub struct ModelRecipe {
    preset: String,
    overrides: Table,
    /// With the preset's vocabulary.
    merged: ConformerConfig,
}

impl ModelRecipe {
    /// The model's configuration over a vocabulary of so many tokens, the blank not counted.
    ///
    /// # Errors
    /// If [`ConformerConfig::validate`] finds fault.
    pub fn conformer(&self, vocabulary: usize) -> Result<ConformerConfig, ConfigError> {
        let config = ConformerConfig {
            vocabulary: vocabulary as i64,
            ..self.merged.clone()
        };
        config.validate()?;
        Ok(config)
    }

    /// Whether the model can stream, so that attention may be cut into chunks.
    pub(super) fn causal(&self) -> bool {
        self.merged.causal
    }

    /// Checks the numbers as far as that goes without a vocabulary.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        self.merged.validate()
    }
}

impl Default for ModelRecipe {
    fn default() -> Self {
        Self {
            preset: "student".into(),
            overrides: Table::new(),
            merged: ConformerConfig::student(),
        }
    }
}

impl TryFrom<Table> for ModelRecipe {
    type Error = String;

    fn try_from(mut overrides: Table) -> Result<Self, String> {
        let preset = match overrides.remove("preset") {
            None => "student".to_owned(),
            Some(toml::Value::String(preset)) => preset,
            Some(other) => return Err(format!("preset: expected a string, found {other}")),
        };
        let numbers = match preset.as_str() {
            "student" => ConformerConfig::student(),
            "teacher" => ConformerConfig::teacher(),
            other => {
                return Err(format!(
                    "preset: expected \"student\" or \"teacher\", found {other:?}"
                ));
            }
        };
        if overrides.contains_key("vocabulary") {
            return Err("vocabulary: leave it out, it is the tokenizer's".into());
        }
        let mut merged = Table::try_from(numbers).map_err(|error| error.to_string())?;
        merged.extend(overrides.clone());
        let merged = serde_path_to_error::deserialize(merged).map_err(|error| error.to_string())?;
        Ok(Self {
            preset,
            overrides,
            merged,
        })
    }
}

impl From<ModelRecipe> for Table {
    fn from(model: ModelRecipe) -> Self {
        let mut table = model.overrides;
        table.insert("preset".into(), model.preset.into());
        table
    }
}
