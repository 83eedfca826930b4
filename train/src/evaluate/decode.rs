//! Speech to text, as it will come out on the device.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use sori::decode::Greedy;
use sori::features::LogMel;
use sori::model::WORD_START;
use tch::{Device, Tensor, no_grad};

use super::batches::{Listeners, Prepared, prepare};
use super::diagnostics::{HiddenFrames, SpikeAgreement, spike_agreement};
use super::error::EvaluateError;
use crate::data::manifest::Entry;
use crate::data::{Strictness, text};
use crate::loss::Frames;
use crate::model::{Conformer, Context, Pass, Teacher};

/// A trained model and the tokens that its outputs stand for.
#[derive(Debug, Clone, Copy)]
pub struct Recogniser<'a> {
    model: Model<'a>,
    pieces: &'a [String],
    device: Device,
}

/// What is evaluated.
#[derive(Debug, Clone, Copy)]
enum Model<'a> {
    /// It hears our log-mel frames.
    Conformer(&'a Conformer),
    /// It has a front-end of its own and hears whole utterances.
    Teacher(&'a Teacher),
}

/// How a set is decoded.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decoding {
    /// What attention may see; every utterance is decoded with each of them.
    pub(super) contexts: Vec<Context>,
    /// Longer utterances are left out, in seconds.
    pub(super) longest: f64,
    /// Most seconds of audio in a batch, padding included; at least one utterance.
    pub(super) batch_seconds: f64,
    /// What to do about broken audio.
    pub(super) strictness: Strictness,
}

/// An utterance and what the model heard.
#[derive(Debug)]
pub(super) struct Heard<'a> {
    /// The utterance.
    pub(super) entry: &'a Entry,
    /// Which of [`Decoding::contexts`].
    pub(super) context: usize,
    /// What was heard, spelled by the rules of [`text`].
    pub(super) text: String,
}

/// What one context shows besides text.
#[derive(Debug, Default)]
pub(super) struct Diagnosis {
    /// Spikes compared with those of a teacher.
    pub(super) spikes: SpikeAgreement,
    /// The last layer's hidden vectors.
    pub(super) hidden: HiddenFrames,
}

/// What a model says to a batch.
struct Said {
    /// (B, T, outputs), the blank last.
    log_probs: Tensor,
    /// The last layer's output, (B, T, width), where the model gives it.
    hidden: Option<Tensor>,
    /// Real frames of each utterance.
    lengths: Vec<i64>,
}

/// Utterances that were not decoded, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Missing {
    pub(super) unreadable: usize,
    pub(super) too_long: usize,
}

impl<'a> Recogniser<'a> {
    /// Joins a model, which lies on `device`, and its tokens in the order of its outputs, without the
    /// blank.
    ///
    /// # Errors
    /// [`EvaluateError::Tokens`] if there are more or fewer than the model has outputs;
    /// [`EvaluateError::Features`] if it hears other features than ours.
    pub fn new(
        model: &'a Conformer,
        pieces: &'a [String],
        device: Device,
    ) -> Result<Self, EvaluateError> {
        check_features(model)?;
        let vocabulary = model.config().vocabulary;
        if usize::try_from(vocabulary) != Ok(pieces.len()) {
            return Err(EvaluateError::Tokens {
                model: vocabulary,
                tokens: pieces.len(),
            });
        }
        let model = Model::Conformer(model);
        Ok(Self {
            model,
            pieces,
            device,
        })
    }

    /// Joins a teacher and its tokens, likewise.
    #[must_use]
    pub fn of_teacher(teacher: &'a Teacher, pieces: &'a [String], device: Device) -> Self {
        Self {
            model: Model::Teacher(teacher),
            pieces,
            device,
        }
    }

    /// Whether the model can be run in chunks.
    pub(super) fn is_causal(&self) -> bool {
        matches!(self.model, Model::Conformer(model) if model.config().causal)
    }

    /// What the model says to a batch under one of the contexts.
    fn listen(
        &self,
        batch: &Prepared<'_>,
        index: usize,
        context: Context,
    ) -> Result<Said, EvaluateError> {
        match (self.model, &batch.own) {
            (Model::Teacher(teacher), Some(heard)) => self.hear_teacher(teacher, heard),
            (Model::Conformer(model), _) => {
                let features = batch.features.to_device(self.device);
                let pass = Pass {
                    context,
                    ..Pass::default()
                };
                let output = no_grad(|| model.forward(&features, &batch.lengths[index], pass));
                Ok(Said {
                    log_probs: output.log_probs,
                    hidden: Some(output.hidden),
                    lengths: output.lengths,
                })
            }
            (Model::Teacher(_), None) => unreachable!("a teacher's features are prepared"),
        }
    }

    /// What a teacher says, which has to have as many outputs as there are tokens.
    fn hear_teacher(
        &self,
        teacher: &Teacher,
        (features, lengths): &(Tensor, Vec<i64>),
    ) -> Result<Said, EvaluateError> {
        let features = features.to_device(self.device);
        let heard = teacher.listen(&features, lengths, false)?;
        let log_probs = heard.log_probs.ok_or(EvaluateError::NoPosteriors)?;
        let outputs = log_probs.size()[2];
        let expected = self.pieces.len() as i64 + 1;
        if outputs != expected {
            let reason = format!("has {outputs} outputs, expected {expected}");
            return Err(EvaluateError::OtherTokens { reason });
        }
        Ok(Said {
            log_probs,
            hidden: heard.hidden,
            lengths: heard.lengths,
        })
    }

    /// Decodes utterances, the longest first. `each` is told of every utterance with every context,
    /// and may stop it; what could not be heard is counted. With a teacher, spikes are compared with
    /// its own. There is one diagnosis for each context.
    ///
    /// One pass under the chunk's mask gives what a stream gives. Where the model can stream, it hears
    /// the silence behind the last sample that the runtime feeds it: without it the last word would
    /// often be lost.
    pub(super) fn decode(
        &self,
        entries: &[Entry],
        how: &Decoding,
        teacher: Option<&Teacher>,
        each: &mut dyn FnMut(Heard<'_>) -> ControlFlow<()>,
    ) -> Result<(Missing, Vec<Diagnosis>), EvaluateError> {
        let own = match self.model {
            Model::Conformer(_) => None,
            Model::Teacher(own) => Some(own),
        };
        let limits = [own, teacher].into_iter().flatten();
        let longest = limits
            .filter_map(Teacher::max_frames)
            .map(|frames| frames as f64 / 100.0)
            .fold(how.longest, f64::min);
        let (short, long): (Vec<_>, Vec<_>) =
            entries.iter().partition(|entry| entry.duration <= longest);
        let mut missing = Missing {
            too_long: long.len(),
            ..Missing::default()
        };
        let listeners = Listeners {
            causal: self.is_causal(),
            contexts: &how.contexts,
            own: own.map(Teacher::front_end),
            teacher: teacher.map(Teacher::front_end),
        };
        let mut diagnoses: Vec<_> = how.contexts.iter().map(|_| Diagnosis::default()).collect();
        thread::scope(|scope| {
            // One batch is heard, one waits, one is read.
            let (sender, receiver) = sync_channel(1);
            scope.spawn(move || prepare(short, how.batch_seconds, &listeners, &sender));
            self.hear(&receiver, how, teacher, &mut missing, &mut diagnoses, each)
        })?;
        Ok((missing, diagnoses))
    }

    fn hear<'e>(
        &self,
        batches: &Receiver<Prepared<'e>>,
        how: &Decoding,
        teacher: Option<&Teacher>,
        missing: &mut Missing,
        diagnoses: &mut [Diagnosis],
        each: &mut dyn FnMut(Heard<'_>) -> ControlFlow<()>,
    ) -> Result<(), EvaluateError> {
        for mut batch in batches {
            for error in std::mem::take(&mut batch.unreadable) {
                if how.strictness == Strictness::Strict {
                    return Err(error.into());
                }
                tracing::warn!("left out: {error}");
                missing.unreadable += 1;
            }
            if batch.entries.is_empty() {
                continue;
            }
            let of_teacher = match (teacher, &batch.for_teacher) {
                (Some(teacher), Some(heard)) => Some(self.spikes_of(teacher, heard)?),
                _ => None,
            };
            for (index, &context) in how.contexts.iter().enumerate() {
                let said = self.listen(&batch, index, context)?;
                if let Some(hidden) = &said.hidden {
                    diagnoses[index].hidden.add(Frames {
                        values: hidden,
                        lengths: &said.lengths,
                    });
                }
                if let Some(theirs) = &of_teacher {
                    let teacher = Frames {
                        values: &theirs.log_probs,
                        lengths: &theirs.lengths,
                    };
                    let student = Frames {
                        values: &said.log_probs,
                        lengths: &said.lengths,
                    };
                    let blank = self.pieces.len() as i64;
                    diagnoses[index].spikes += spike_agreement(teacher, student, blank);
                }
                let texts = texts(self.pieces, &said.log_probs, &said.lengths)?;
                for (entry, text) in batch.entries.iter().zip(texts) {
                    let heard = Heard {
                        entry,
                        context: index,
                        text,
                    };
                    if each(heard).is_break() {
                        return Err(EvaluateError::Stopped);
                    }
                }
            }
        }
        Ok(())
    }

    /// What a teacher says that has the model's tokens.
    fn spikes_of(
        &self,
        teacher: &Teacher,
        heard: &(Tensor, Vec<i64>),
    ) -> Result<Said, EvaluateError> {
        let said = self.hear_teacher(teacher, heard)?;
        let theirs = teacher.tokens().unwrap_or(self.pieces);
        match theirs
            .iter()
            .zip(self.pieces)
            .position(|(theirs, ours)| theirs != ours)
        {
            None => Ok(said),
            Some(id) => Err(EvaluateError::OtherTokens {
                reason: format!(
                    "means {:?} by token {id}, the model {:?}",
                    theirs[id], self.pieces[id]
                ),
            }),
        }
    }
}

/// What log-probabilities (B, T, outputs) with so many real frames each say over `pieces`, the tokens
/// without the blank: the most probable token of each frame, collapsed by the runtime's own
/// [`Greedy`], in the spelling of [`text`].
///
/// # Errors
/// If the tensor has another shape.
pub fn texts(
    pieces: &[String],
    log_probs: &Tensor,
    lengths: &[i64],
) -> Result<Vec<String>, EvaluateError> {
    let mut decoder = Greedy::new(pieces.len());
    let rows = lengths.iter().enumerate().map(|(row, &frames)| {
        let values = log_probs.f_get(row as i64)?.f_narrow(0, 0, frames)?;
        let values = Vec::<f32>::try_from(values.f_reshape([-1])?)?;
        decoder.reset();
        decoder.accept(&values);
        let hits = decoder.hits().iter();
        let spelled = hits
            .filter_map(|hit| pieces.get(hit.token))
            .map(String::as_str)
            .collect::<String>()
            .replace(WORD_START, " ");
        // A token that has no spelling stays as it is: it cannot be right.
        Ok(text::normalise(&spelled).unwrap_or_else(|_| spelled.trim().to_owned()))
    });
    rows.collect()
}

/// That a model hears our features.
pub(super) fn check_features(model: &Conformer) -> Result<(), EvaluateError> {
    let (expected, found) = (LogMel::BINS, model.config().features);
    if usize::try_from(found) == Ok(expected) {
        return Ok(());
    }
    Err(EvaluateError::Features { expected, found })
}
