//! Log-probabilities to a hypothesis: which tokens were said, and when.
//!
//! [`Greedy`] takes the best token of every frame. [`Beam`] keeps several hypotheses and can be led:
//! by [`Phrases`] that are expected, by a language model through [`Fusion`], and by a [`Grammar`] that it
//! must keep to. Both give [`Hit`]s, of which words and utterances are made alike.

mod alignment;
mod beam;
mod fusion;
mod grammar;
mod greedy;
mod guides;
mod hypothesis;
mod letters;
mod phrases;

pub use beam::{Beam, BeamOptions};
pub use fusion::Fusion;
pub use grammar::{Grammar, GrammarError};
pub use greedy::Greedy;
pub use phrases::{PhraseError, Phrases};

use std::sync::Arc;

use crate::model::TokenId;
use grammar::Matcher;

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
    Grammar(Box<Matcher>),
}

impl Decoder {
    pub(crate) fn accept(&mut self, log_probs: &[f32]) -> bool {
        match self {
            Self::Greedy(greedy) => greedy.accept(log_probs),
            Self::Beam(beam) => beam.accept(log_probs),
            Self::Grammar(matcher) => matcher.accept(log_probs),
        }
    }

    /// Boosts other phrases, of which there are none in a search that is greedy.
    pub(crate) fn set_phrases(&mut self, phrases: Option<Arc<Phrases>>) {
        if let Some(beam) = self.beam_mut(phrases.is_some()) {
            beam.set_phrases(phrases);
        }
    }

    /// Asks another language model, or none.
    pub(crate) fn set_language_model(&mut self, fusion: Option<Arc<Fusion>>) {
        if let Some(beam) = self.beam_mut(fusion.is_some()) {
            beam.set_language_model(fusion);
        }
    }

    /// Keeps to another grammar, or to none: all tokens were taken.
    pub(crate) fn set_grammar(&mut self, grammar: Option<Arc<Grammar>>) {
        let beam = match std::mem::replace(self, Self::Greedy(Greedy::new(0))) {
            Self::Greedy(greedy) if grammar.is_none() => {
                *self = Self::Greedy(greedy);
                return;
            }
            Self::Greedy(greedy) => Beam::after(&greedy, BeamOptions::default()),
            Self::Beam(beam) => *beam,
            Self::Grammar(matcher) => matcher.into_beam(),
        };
        *self = match grammar {
            Some(grammar) => Self::Grammar(Box::new(Matcher::new(beam, grammar))),
            None => Self::Beam(Box::new(beam)),
        };
    }

    /// The beam, if there is one. A greedy search first turns to one of default width where it is
    /// `wanted`.
    fn beam_mut(&mut self, wanted: bool) -> Option<&mut Beam> {
        if let Self::Greedy(greedy) = self
            && wanted
        {
            let beam = Beam::after(greedy, BeamOptions::default());
            *self = Self::Beam(Box::new(beam));
        }
        match self {
            Self::Greedy(_) => None,
            Self::Beam(beam) => Some(beam),
            Self::Grammar(matcher) => Some(matcher.beam_mut()),
        }
    }

    /// The best hypotheses and their log-scores, best first; none of a greedy search.
    pub(crate) fn alternatives(&self, count: usize, spell: impl FnMut(&[Hit], f32)) {
        match self {
            Self::Greedy(_) => {}
            Self::Beam(beam) => beam.alternatives(count, spell),
            Self::Grammar(matcher) => matcher.beam().alternatives(count, spell),
        }
    }

    /// To be called before all tokens are taken.
    pub(crate) fn finish(&mut self) {
        match self {
            Self::Greedy(_) => {}
            Self::Beam(beam) => beam.finish(),
            Self::Grammar(matcher) => matcher.finish(),
        }
    }

    /// What somebody said that is not in [`hits`](Self::hits), as it is none of a grammar's sentences;
    /// known after [`finish`](Self::finish).
    pub(crate) fn unmatched(&self) -> Option<&[Hit]> {
        match self {
            Self::Grammar(matcher) if matcher.is_unmatched() => Some(matcher.heard()),
            _ => None,
        }
    }

    /// Tokens that somebody said, whether or not they may be given out.
    pub(crate) fn heard(&self) -> &[Hit] {
        match self {
            Self::Grammar(matcher) => matcher.heard(),
            _ => self.hits(),
        }
    }

    /// Whether an utterance can be given out in parts.
    pub(crate) fn has_parts(&self) -> bool {
        !matches!(self, Self::Grammar(_))
    }

    pub(crate) fn hits(&self) -> &[Hit] {
        match self {
            Self::Greedy(greedy) => greedy.hits(),
            Self::Beam(beam) => beam.hits(),
            Self::Grammar(matcher) => matcher.hits(),
        }
    }

    pub(crate) fn take(&mut self, count: usize) {
        match self {
            Self::Greedy(greedy) => greedy.take(count).for_each(drop),
            Self::Beam(beam) => beam.take(count).for_each(drop),
            Self::Grammar(matcher) => matcher.take_all(),
        }
    }

    pub(crate) fn frames(&self) -> u64 {
        match self {
            Self::Greedy(greedy) => greedy.frames(),
            Self::Beam(beam) => beam.frames(),
            Self::Grammar(matcher) => matcher.beam().frames(),
        }
    }

    /// Sets the clock.
    #[cfg(test)]
    pub(crate) fn start_at(&mut self, frames: u64) {
        match self {
            Self::Greedy(greedy) => greedy.start_at(frames),
            Self::Beam(beam) => beam.start_at(frames),
            Self::Grammar(matcher) => matcher.beam_mut().start_at(frames),
        }
    }

    pub(crate) fn reset(&mut self) {
        match self {
            Self::Greedy(greedy) => greedy.reset(),
            Self::Beam(beam) => beam.reset(),
            Self::Grammar(matcher) => matcher.reset(),
        }
    }
}
