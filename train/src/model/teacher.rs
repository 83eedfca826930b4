//! Whoever a student learns from.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use sori::features::LogMel;
use tch::{CModule, Device, IValue, Tensor, nn, no_grad};

use super::checkpoint::{self, CheckpointError};
use super::conformer::{Conformer, Pass};
use super::nemo::{self, NemoError};
use super::whisper::{self, CtcHead, Whisper};
use crate::front_end::FrontEnd;

/// Samples to an output frame of 40 ms.
const FRAME: i64 = 640;

/// Where a teacher comes from, as written in recipes and on the command line.
///
/// ```
/// use sori_train::model::TeacherSource;
///
/// let source: TeacherSource = "nemo:stt_en_conformer_ctc_large.nemo".parse()?;
/// assert!(matches!(source, TeacherSource::Nemo(_)));
/// # Ok::<(), sori_train::model::TeacherError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TeacherSource {
    /// `sori:FILE`: a checkpoint that was trained here.
    Sori(PathBuf),
    /// `nemo:FILE`: a `.nemo` file.
    Nemo(PathBuf),
    /// `whisper:ENCODER` or `whisper:ENCODER+HEAD`: the encoder of a Whisper model in safetensors. It
    /// has attention maps; a CTC head that was trained on it adds posteriors.
    Whisper {
        /// The encoder.
        encoder: PathBuf,
        /// The head.
        head: Option<PathBuf>,
    },
    /// `torchscript:FILE`: anything else, as a scripted module. It is called with samples (B, N) at
    /// 16 kHz in [-1, 1] and their counts (B), and returns log-probabilities (B, T, outputs), the
    /// blank last, and an attention map (B, heads, T, T), at 25 frames a second. Such a file is a
    /// program: open none that is not trusted.
    TorchScript(PathBuf),
}

impl TeacherSource {
    /// The files that make the teacher.
    #[must_use]
    pub fn files(&self) -> Vec<&Path> {
        match self {
            Self::Sori(path) | Self::Nemo(path) | Self::TorchScript(path) => vec![path],
            Self::Whisper { encoder, head } => [Some(encoder), head.as_ref()]
                .into_iter()
                .flatten()
                .map(PathBuf::as_path)
                .collect(),
        }
    }
}

/// Why a teacher cannot be had or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TeacherError {
    /// The text names no kind of teacher. Write one of the four prefixes before the path.
    #[error(
        "expected sori:FILE, nemo:FILE, whisper:ENCODER, whisper:ENCODER+HEAD or torchscript:FILE, \
         found {found:?}"
    )]
    Source {
        /// The text.
        found: String,
    },
    /// A checkpoint or Whisper encoder that cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A `.nemo` file that cannot be imported.
    #[error(transparent)]
    Nemo(#[from] NemoError),
    /// A TorchScript module that cannot be read, or that fails or returns something else than it
    /// should. Script it so that it returns (log-probs, attention).
    #[error("{path}: {reason}")]
    TorchScript {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// The layer whose map was asked for does not exist. Count from 0, or leave it out for the last.
    #[error("the teacher has {layers} layers: there is no layer {layer}, counted from 0")]
    Layer {
        /// The layer that was asked for.
        layer: usize,
        /// Layers of the teacher.
        layers: usize,
    },
    /// A checkpoint that hears other features than those that training computes. Take one that was
    /// trained here.
    #[error("{path}: expected a model of {expected} log-mel bands, found {found}")]
    Bands {
        /// The checkpoint.
        path: PathBuf,
        /// Bands of our features.
        expected: usize,
        /// Bands of the model.
        found: i64,
    },
    /// Only Whisper encoders give another layer's map than the last.
    #[error("a layer can be chosen in a whisper: teacher only")]
    LastLayerOnly,
}

/// A model that is listened to, never trained: no gradient, no dropout.
#[derive(Debug)]
pub struct Teacher {
    kind: Kind,
    front_end: FrontEnd,
}

#[derive(Debug)]
enum Kind {
    Conformer {
        model: Conformer,
        tokens: Option<Vec<String>>,
        _store: nn::VarStore,
    },
    Whisper {
        model: Whisper,
        layer: usize,
        head: Option<CtcHead>,
        _store: Option<nn::VarStore>,
    },
    TorchScript {
        module: CModule,
        path: PathBuf,
    },
}

/// What a teacher says about a batch, at 25 frames a second.
#[derive(Debug)]
pub struct TeacherOutput {
    /// Log-probabilities (B, T, outputs), the blank last.
    pub log_probs: Option<Tensor>,
    /// The chosen layer's attention map, (B, heads, T, T).
    pub attention: Option<Tensor>,
    /// The last layer's output, (B, T, width).
    pub hidden: Option<Tensor>,
    /// Real frames of each utterance.
    pub lengths: Vec<i64>,
}

impl FromStr for TeacherSource {
    type Err = TeacherError;

    fn from_str(text: &str) -> Result<Self, TeacherError> {
        let unknown = || TeacherError::Source { found: text.into() };
        match text.split_once(':').ok_or_else(unknown)? {
            (_, "") => Err(unknown()),
            ("sori", path) => Ok(Self::Sori(path.into())),
            ("nemo", path) => Ok(Self::Nemo(path.into())),
            ("whisper", paths) => Ok(match paths.split_once('+') {
                Some((encoder, head)) => Self::Whisper {
                    encoder: encoder.into(),
                    head: Some(head.into()),
                },
                None => Self::Whisper {
                    encoder: paths.into(),
                    head: None,
                },
            }),
            ("torchscript", path) => Ok(Self::TorchScript(path.into())),
            _ => Err(unknown()),
        }
    }
}

impl Teacher {
    /// Reads a teacher. `layer` chooses whose attention map it gives, from 0; the last without.
    ///
    /// # Errors
    /// If the file is no such teacher or has no such layer.
    pub fn open(
        source: &TeacherSource,
        layer: Option<usize>,
        device: Device,
    ) -> Result<Self, TeacherError> {
        if layer.is_some() && !matches!(source, TeacherSource::Whisper { .. }) {
            return Err(TeacherError::LastLayerOnly);
        }
        let (kind, front_end) = match source {
            TeacherSource::Sori(path) => {
                let (store, model) = checkpoint::load(path, device)?;
                let (expected, found) = (LogMel::BINS, model.config().features);
                if usize::try_from(found) != Ok(expected) {
                    let path = path.clone();
                    return Err(TeacherError::Bands {
                        path,
                        expected,
                        found,
                    });
                }
                (
                    Kind::Conformer {
                        model,
                        tokens: None,
                        _store: store,
                    },
                    FrontEnd::Sori,
                )
            }
            TeacherSource::Nemo(path) => {
                let nemo = nemo::load(path, device)?;
                let (model, tokens) = (nemo.model, Some(nemo.tokens));
                (
                    Kind::Conformer {
                        model,
                        tokens,
                        _store: nemo.store,
                    },
                    nemo.front_end,
                )
            }
            TeacherSource::Whisper { encoder, head } => {
                let model = whisper::load(encoder, device)?;
                let layers = model.layers();
                let layer = layer.unwrap_or(layers - 1);
                if layer >= layers {
                    return Err(TeacherError::Layer { layer, layers });
                }
                let (store, head) = match head {
                    Some(path) => {
                        let (store, head) = whisper::load_head(path, &model, device)?;
                        (Some(store), Some(head))
                    }
                    None => (None, None),
                };
                let front_end = model.front_end.clone();
                (
                    Kind::Whisper {
                        model,
                        layer,
                        head,
                        _store: store,
                    },
                    front_end,
                )
            }
            TeacherSource::TorchScript(path) => (open_script(path, device)?, FrontEnd::Samples),
        };
        Ok(Self { kind, front_end })
    }

    /// What the teacher hears: compute its features with this.
    #[must_use]
    pub fn front_end(&self) -> &FrontEnd {
        &self.front_end
    }

    /// The tokens in the order of the outputs, without the blank, if the teacher brings them.
    #[must_use]
    pub fn tokens(&self) -> Option<&[String]> {
        match &self.kind {
            Kind::Conformer { tokens, .. } => tokens.as_deref(),
            Kind::Whisper { .. } | Kind::TorchScript { .. } => None,
        }
    }

    /// The longest utterance that it hears, in frames of its front-end.
    #[must_use]
    pub fn max_frames(&self) -> Option<i64> {
        match &self.kind {
            Kind::Whisper { model, .. } => Some(model.max_frames()),
            Kind::Conformer { .. } | Kind::TorchScript { .. } => None,
        }
    }

    /// Listens to features (B, T, width) of its front-end with so many real frames each.
    ///
    /// # Errors
    /// If a TorchScript module fails or returns something else than it should.
    ///
    /// # Panics
    /// If the features are not those of its front-end, or longer than
    /// [`max_frames`](Self::max_frames).
    pub fn listen(
        &self,
        features: &Tensor,
        lengths: &[i64],
        attention: bool,
    ) -> Result<TeacherOutput, TeacherError> {
        no_grad(|| match &self.kind {
            Kind::Conformer { model, .. } => {
                let output = model.forward(
                    features,
                    lengths,
                    Pass {
                        attention,
                        ..Pass::default()
                    },
                );
                Ok(TeacherOutput {
                    log_probs: Some(output.log_probs),
                    attention: output.attention,
                    hidden: Some(output.hidden),
                    lengths: output.lengths,
                })
            }
            Kind::Whisper {
                model,
                layer,
                head: Some(head),
                ..
            } => {
                let wanted = attention.then_some(*layer);
                let heard = head.listen(model, features, lengths, wanted, Pass::default());
                Ok(TeacherOutput {
                    log_probs: Some(heard.output.log_probs),
                    attention: heard.attention,
                    hidden: Some(heard.hidden),
                    lengths: heard.output.lengths,
                })
            }
            Kind::Whisper { model, layer, .. } => {
                let output = model.listen(features, lengths, attention.then_some(*layer));
                Ok(TeacherOutput {
                    log_probs: None,
                    attention: output.attention,
                    hidden: Some(output.hidden),
                    lengths: output.lengths,
                })
            }
            Kind::TorchScript { module, path } => {
                call_script(module, features, lengths).map_err(|reason| TeacherError::TorchScript {
                    path: path.clone(),
                    reason,
                })
            }
        })
    }

    /// What its head says about its own [`hidden`](TeacherOutput::hidden) vectors, (B, T, width) with so
    /// many real frames each: [`log_probs`](TeacherOutput::log_probs). `None` if hidden vectors do not
    /// say enough for that.
    #[must_use]
    pub fn say(&self, hidden: &Tensor, lengths: &[i64]) -> Option<Tensor> {
        let Kind::Whisper { head, .. } = &self.kind else {
            return None;
        };
        let output = no_grad(|| {
            head.as_ref()?
                .hear(hidden, lengths.to_vec(), Pass::default())
        })?;
        Some(output.log_probs)
    }

    /// Whether [`say`](Self::say) says anything.
    #[must_use]
    pub fn speaks_from_hidden(&self) -> bool {
        let Kind::Whisper { head, .. } = &self.kind else {
            return false;
        };
        head.as_ref()
            .is_some_and(|head| head.config().hears_only_output())
    }
}

fn open_script(path: &Path, device: Device) -> Result<Kind, TeacherError> {
    let failed = |reason: tch::TchError| TeacherError::TorchScript {
        path: path.into(),
        reason: first_line(&reason),
    };
    let mut module = CModule::load_on_device(path, device).map_err(failed)?;
    module.f_set_eval().map_err(failed)?;
    Ok(Kind::TorchScript {
        module,
        path: path.into(),
    })
}

fn call_script(
    module: &CModule,
    samples: &Tensor,
    counts: &[i64],
) -> Result<TeacherOutput, String> {
    let arguments = [
        IValue::Tensor(samples.squeeze_dim(-1)),
        IValue::Tensor(Tensor::from_slice(counts).to_device(samples.device())),
    ];
    let returned = module
        .forward_is(&arguments)
        .map_err(|error| first_line(&error))?;
    let IValue::Tuple(returned) = returned else {
        return Err("expected (log-probs, attention) from the module, found one value".into());
    };
    let [IValue::Tensor(log_probs), IValue::Tensor(map)] = &returned[..] else {
        let found = returned.len();
        return Err(format!(
            "expected two tensors, (log-probs, attention), found {found} values"
        ));
    };
    let batch = counts.len() as i64;
    match (&log_probs.size()[..], &map.size()[..]) {
        ([b, frames, _], [same, _, queries, keys])
            if *b == batch && *same == batch && queries == frames && keys == frames =>
        {
            Ok(TeacherOutput {
                lengths: counts
                    .iter()
                    .map(|&count| (count / FRAME).min(*frames))
                    .collect(),
                log_probs: Some(log_probs.shallow_clone()),
                attention: Some(map.shallow_clone()),
                hidden: None,
            })
        }
        (log_probs, map) => Err(format!(
            "expected log-probs ({batch}, T, outputs) and attention ({batch}, heads, T, T), found \
             {log_probs:?} and {map:?}"
        )),
    }
}

/// What torch says first; a trace of its own source follows.
fn first_line(error: &tch::TchError) -> String {
    let message = error.to_string();
    message
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default()
        .to_owned()
}
