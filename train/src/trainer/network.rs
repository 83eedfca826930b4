//! What is trained: a model of one of the kinds that a recipe can ask for.

use std::rc::Rc;

use tch::{Device, Tensor, nn::VarStore};

use super::error::TrainError;
use crate::config::Network;
use crate::front_end::FrontEnd;
use crate::model::whisper::{self, CtcHead, CtcHeadConfig, Whisper};
use crate::model::{self, ConfigError, Conformer, ConformerConfig, Output, Pass, TeacherOutput};

/// A kind of model with its numbers.
pub(super) enum Architecture {
    Conformer(ConformerConfig),
    Head {
        encoder: Rc<Whisper>,
        config: CtcHeadConfig,
    },
}

/// A model with parameters.
pub(super) enum Model {
    Conformer(Box<Conformer>),
    Head {
        encoder: Rc<Whisper>,
        head: Box<CtcHead>,
    },
}

impl Architecture {
    /// Opens the encoder under a head.
    pub(super) fn open(network: Network, device: Device) -> Result<Self, TrainError> {
        Ok(match network {
            Network::Conformer(config) => Self::Conformer(config),
            Network::Head {
                encoder, config, ..
            } => {
                let encoder = whisper::load(&encoder, device).map_err(model::TeacherError::from)?;
                let config = CtcHeadConfig {
                    encoder_width: encoder.width(),
                    encoder_layers: encoder.layers() as i64,
                    ..config
                };
                let encoder = Rc::new(encoder);
                Self::Head { encoder, config }
            }
        })
    }

    /// A model with fresh parameters in `store`.
    pub(super) fn build(&self, store: &VarStore) -> Result<Model, ConfigError> {
        Ok(match self {
            Self::Conformer(config) => {
                Model::Conformer(Box::new(Conformer::new(&store.root(), config)?))
            }
            Self::Head { encoder, config } => Model::Head {
                encoder: encoder.clone(),
                head: Box::new(CtcHead::new(store, config, encoder)?),
            },
        })
    }

    /// Heads of the attention map that a teacher's is compared with.
    pub(super) fn heads(&self) -> i64 {
        match self {
            Self::Conformer(config) => config.heads,
            Self::Head { config, .. } => config.heads,
        }
    }

    /// Width of the hidden vectors that a teacher's are compared with.
    pub(super) fn width(&self) -> i64 {
        match self {
            Self::Conformer(config) => config.d_model,
            Self::Head { config, .. } => config.d_model,
        }
    }

    /// What the model hears, if it is anything else than our log-mel frames.
    pub(super) fn front_end(&self) -> Option<&FrontEnd> {
        match self {
            Self::Conformer(_) => None,
            Self::Head { encoder, .. } => Some(&encoder.front_end),
        }
    }

    /// The longest utterance that the model hears, in log-mel frames.
    pub(super) fn max_frames(&self) -> Option<i64> {
        match self {
            Self::Conformer(_) => None,
            Self::Head { encoder, .. } => Some(encoder.max_frames()),
        }
    }
}

impl Model {
    /// Listens to features (B, T, width) with so many real frames each.
    pub(super) fn listen(&self, features: &Tensor, lengths: &[i64], pass: Pass) -> Output {
        match self {
            Self::Conformer(model) => model.forward(features, lengths, pass),
            Self::Head { encoder, head } => {
                head.listen(encoder, features, lengths, None, pass).output
            }
        }
    }

    /// Hears what the encoder under it said, where that is all that the model needs.
    pub(super) fn hear(&self, said: &TeacherOutput, pass: Pass) -> Option<Output> {
        match self {
            Self::Conformer(_) => None,
            Self::Head { head, .. } => head.hear(said.hidden.as_ref()?, said.lengths.clone(), pass),
        }
    }

    /// The key under which a file's header describes a model of this kind, and the description in
    /// JSON.
    pub(super) fn description(&self) -> serde_json::Result<(&'static str, String)> {
        Ok(match self {
            Self::Conformer(model) => {
                (model::CONFORMER_KEY, serde_json::to_string(model.config())?)
            }
            Self::Head { head, .. } => (whisper::HEAD_KEY, serde_json::to_string(head.config())?),
        })
    }
}
