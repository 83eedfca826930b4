//! The model to train: a preset and what differs from it.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::Table;

use crate::model::whisper::CtcHeadConfig;
use crate::model::{ConfigError, ConformerConfig};

/// `[model]`: `preset = "student"` (the default) or `"teacher"`, and any numbers of
/// [`ConformerConfig`] that differ from it; or `preset = "head"`, a CTC head on the Whisper encoder
/// in the file `encoder`, and any numbers of [`CtcHeadConfig`]. What follows from tokenizer and
/// encoder is left out. A head whose `hears = "output"` may have a `cache`: a folder where what the
/// encoder says is kept, so that it hears each utterance once at each speed, without quiet, room and
/// noise; SpecAugment then hides some of what it said. With `init`, a trained model or a run's
/// checkpoint, it begins with these weights instead of random ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Table", into = "Table")]
pub struct ModelRecipe {
    preset: String,
    overrides: Table,
    /// With the preset's vocabulary.
    merged: Network,
    init: Option<PathBuf>,
}

/// What a recipe trains.
#[derive(Debug, Clone, PartialEq)]
pub enum Network {
    /// A teacher or a student.
    Conformer(ConformerConfig),
    /// A CTC head.
    Head {
        /// The file of the Whisper encoder, which decides over the encoder's numbers in `config`.
        encoder: PathBuf,
        /// The folder where what it says is kept.
        cache: Option<PathBuf>,
        /// The head.
        config: CtcHeadConfig,
    },
}

impl ModelRecipe {
    /// What is trained over a vocabulary of so many tokens, the blank not counted.
    ///
    /// # Errors
    /// If the numbers describe no model.
    pub fn network(&self, vocabulary: usize) -> Result<Network, ConfigError> {
        let mut network = self.merged.clone();
        match &mut network {
            Network::Conformer(config) => config.vocabulary = vocabulary as i64,
            Network::Head { config, .. } => config.vocabulary = vocabulary as i64,
        }
        network.validate()?;
        Ok(network)
    }

    /// The file with the weights to begin with.
    #[must_use]
    pub fn init(&self) -> Option<&Path> {
        self.init.as_deref()
    }

    /// The encoder under a head; `None` if the recipe trains a Conformer.
    #[must_use]
    pub fn encoder(&self) -> Option<&PathBuf> {
        match &self.merged {
            Network::Conformer(_) => None,
            Network::Head { encoder, .. } => Some(encoder),
        }
    }

    /// Where what the encoder under a head says is kept, if it is.
    #[must_use]
    pub fn cache(&self) -> Option<&PathBuf> {
        match &self.merged {
            Network::Conformer(_) => None,
            Network::Head { cache, .. } => cache.as_ref(),
        }
    }

    /// Whether the model can stream, so that attention may be cut into chunks.
    #[must_use]
    pub fn causal(&self) -> bool {
        matches!(&self.merged, Network::Conformer(config) if config.causal)
    }

    /// Checks the numbers as far as that goes without vocabulary and encoder.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        self.merged.validate()
    }
}

impl Network {
    fn validate(&self) -> Result<(), ConfigError> {
        match self {
            Self::Conformer(config) => config.validate(),
            Self::Head { config, .. } => {
                // How many layers there are is known once the encoder is opened.
                let encoder_layers = config.unfrozen_layers.max(1);
                let config = config.clone();
                let config = CtcHeadConfig {
                    encoder_layers,
                    ..config
                };
                config.validate()
            }
        }
    }
}

impl Default for ModelRecipe {
    fn default() -> Self {
        Self {
            preset: "student".into(),
            overrides: Table::new(),
            merged: Network::Conformer(ConformerConfig::student()),
            init: None,
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
        let derived = |field: &str, from: &str| match overrides.contains_key(field) {
            true => Err(format!("{field}: leave it out, it is the {from}'s")),
            false => Ok(()),
        };
        derived("vocabulary", "tokenizer")?;
        let mut numbers = overrides.clone();
        let mut file = |key: &str| match numbers.remove(key) {
            None => Ok(None),
            Some(toml::Value::String(file)) => Ok(Some(PathBuf::from(file))),
            Some(other) => Err(format!("{key}: expected a file, found {other}")),
        };
        let init = file("init")?;
        let merged = match preset.as_str() {
            "student" => Network::Conformer(merge(ConformerConfig::student(), numbers)?),
            "teacher" => Network::Conformer(merge(ConformerConfig::teacher(), numbers)?),
            "head" => {
                derived("encoder_width", "encoder")?;
                derived("encoder_layers", "encoder")?;
                let encoder = file("encoder")?
                    .ok_or("encoder: expected the file of a Whisper encoder, found none")?;
                let cache = file("cache")?;
                let config = merge(CtcHeadConfig::default(), numbers)?;
                if cache.is_some() && !config.hears_only_output() {
                    return Err(
                        "cache: expected none, as the head needs more of the encoder than what \
                                is kept: give hears = \"output\" and leave out unfrozen_layers"
                            .into(),
                    );
                }
                Network::Head {
                    encoder,
                    cache,
                    config,
                }
            }
            other => {
                return Err(format!(
                    "preset: expected \"student\", \"teacher\" or \"head\", found {other:?}"
                ));
            }
        };
        Ok(Self {
            preset,
            overrides,
            merged,
            init,
        })
    }
}

/// A preset's numbers with those that differ.
fn merge<C: Serialize + DeserializeOwned>(preset: C, overrides: Table) -> Result<C, String> {
    let mut merged = Table::try_from(preset).map_err(|error| error.to_string())?;
    merged.extend(overrides);
    serde_path_to_error::deserialize(merged).map_err(|error| error.to_string())
}

impl From<ModelRecipe> for Table {
    fn from(model: ModelRecipe) -> Self {
        let mut table = model.overrides;
        table.insert("preset".into(), model.preset.into());
        table
    }
}
