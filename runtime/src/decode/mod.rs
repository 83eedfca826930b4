//! Log-probabilities to a hypothesis: which tokens were said, and when.
//!
//! [`Greedy`] takes the best token of every frame. [`Beam`] keeps several hypotheses and can be led:
//! by [`Phrases`] that are expected, and by a language model through [`Fusion`]. Both give [`Hit`]s, of
//! which words and utterances are made alike.

mod beam;
mod fusion;
mod greedy;
mod phrases;

pub use beam::{Beam, BeamOptions};
pub use fusion::Fusion;
pub use greedy::Greedy;
pub use phrases::{PhraseError, Phrases};

use std::sync::Arc;

use crate::model::TokenId;

/// A token in a hypothesis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Which token.
    pub token: TokenId,
    /// First output frame of its run, from the start of the stream.
    pub onset: u64,
    /// Output frame at which its posterior is highest; on a plateau, where the rounding of an engine
    /// would decide, the plateau's first frame.
    pub frame: u64,
    /// First output frame after the token's run.
    pub end: u64,
    /// Natural logarithm of its posterior at `frame`.
    pub log_prob: f32,
}

/// Log-posteriors closer than this are equally high.
const PLATEAU: f32 = 0.01;

impl Hit {
    /// A token at its first frame.
    fn new(token: TokenId, frame: u64, log_prob: f32) -> Self {
        Self {
            token,
            onset: frame,
            frame,
            end: frame + 1,
            log_prob,
        }
    }

    /// The same token once `frame` belongs to its run, too.
    fn prolonged(self, frame: u64, log_prob: f32) -> Self {
        let higher = log_prob > self.log_prob + PLATEAU;
        Self {
            frame: if higher { frame } else { self.frame },
            log_prob: if higher { log_prob } else { self.log_prob },
            end: frame + 1,
            ..self
        }
    }
}

/// One way of decoding, chosen when a stream is opened.
#[derive(Debug)]
pub(crate) enum Decoder {
    Greedy(Greedy),
    Beam(Box<Beam>),
}

impl Decoder {
    pub(crate) fn accept(&mut self, log_probs: &[f32]) -> bool {
        match self {
            Self::Greedy(greedy) => greedy.accept(log_probs),
            Self::Beam(beam) => beam.accept(log_probs),
        }
    }

    /// Boosts other phrases, of which there are none in a search that is greedy.
    pub(crate) fn set_phrases(&mut self, phrases: Option<Arc<Phrases>>) {
        if phrases.is_some() {
            self.widen();
        }
        if let Self::Beam(beam) = self {
            beam.set_phrases(phrases);
        }
    }

    /// Asks another language model, or none.
    pub(crate) fn set_language_model(&mut self, fusion: Option<Arc<Fusion>>) {
        if fusion.is_some() {
            self.widen();
        }
        if let Self::Beam(beam) = self {
            beam.set_language_model(fusion);
        }
    }

    /// Turns a greedy search to a beam of default width.
    fn widen(&mut self) {
        if let Self::Greedy(greedy) = self {
            let beam = Beam::after(greedy, BeamOptions::default());
            *self = Self::Beam(Box::new(beam));
        }
    }

    /// The best hypotheses and their log-scores, best first; none of a greedy search.
    pub(crate) fn alternatives(&self, count: usize, spell: impl FnMut(&[Hit], f32)) {
        if let Self::Beam(beam) = self {
            beam.alternatives(count, spell);
        }
    }

    /// To be called before all tokens are taken.
    pub(crate) fn finish(&mut self) {
        if let Self::Beam(beam) = self {
            beam.finish();
        }
    }

    pub(crate) fn hits(&self) -> &[Hit] {
        match self {
            Self::Greedy(greedy) => greedy.hits(),
            Self::Beam(beam) => beam.hits(),
        }
    }

    pub(crate) fn take(&mut self, count: usize) {
        match self {
            Self::Greedy(greedy) => greedy.take(count).for_each(drop),
            Self::Beam(beam) => beam.take(count).for_each(drop),
        }
    }

    pub(crate) fn frames(&self) -> u64 {
        match self {
            Self::Greedy(greedy) => greedy.frames(),
            Self::Beam(beam) => beam.frames(),
        }
    }

    pub(crate) fn reset(&mut self) {
        match self {
            Self::Greedy(greedy) => greedy.reset(),
            Self::Beam(beam) => beam.reset(),
        }
    }
}
