use std::sync::Arc;

use super::Grammar;
use crate::decode::{Beam, Greedy, Hit};

/// A beam that follows a grammar, beside a greedy search that follows nothing: the one says which
/// sentence it is if it is one, the other whether it is.
#[derive(Debug)]
pub(crate) struct Matcher {
    grammar: Arc<Grammar>,
    beam: Beam,
    free: Greedy,
    /// Log-probability of the best path since the utterance began.
    free_path: f32,
    verdict: Verdict,
}

/// What an utterance is, once it is over.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Verdict {
    Open,
    Sentence,
    /// Somebody spoke, but said none of the sentences.
    Unmatched,
    /// Nobody spoke.
    Silence,
}

impl Matcher {
    /// Begins an utterance with a beam whose tokens were all taken.
    pub(crate) fn new(mut beam: Beam, grammar: Arc<Grammar>) -> Self {
        beam.set_grammar(Some(grammar.clone()));
        Self {
            free: Greedy::after(&beam),
            grammar,
            beam,
            free_path: 0.0,
            verdict: Verdict::Open,
        }
    }

    pub(crate) fn into_beam(mut self) -> Beam {
        self.beam.set_grammar(None);
        self.beam
    }

    pub(crate) fn beam(&self) -> &Beam {
        &self.beam
    }

    pub(crate) fn beam_mut(&mut self) -> &mut Beam {
        &mut self.beam
    }

    pub(crate) fn accept(&mut self, log_probs: &[f32]) -> bool {
        let outputs = self.beam.outputs();
        for row in log_probs.chunks_exact(outputs) {
            self.free_path += row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        }
        self.free.accept(log_probs);
        self.beam.accept(log_probs)
    }

    /// What was heard freely: when somebody spoke, whatever was said.
    pub(crate) fn heard(&self) -> &[Hit] {
        self.free.hits()
    }

    /// Whether what was heard is none of the sentences; known once the utterance is over.
    pub(crate) fn is_unmatched(&self) -> bool {
        self.verdict == Verdict::Unmatched
    }

    pub(crate) fn hits(&self) -> &[Hit] {
        match self.verdict {
            Verdict::Open | Verdict::Sentence => self.beam.hits(),
            Verdict::Unmatched | Verdict::Silence => &[],
        }
    }

    /// The utterance is over.
    pub(crate) fn finish(&mut self) {
        self.beam.finish();
        self.verdict = self.judge();
    }

    fn judge(&self) -> Verdict {
        if self.free.hits().is_empty() {
            return Verdict::Silence;
        }
        let hits = self.beam.hits();
        let letters: usize = hits.iter().map(|hit| self.grammar.letters(hit.token)).sum();
        let path = self.beam.best_path();
        let to_its_end = path > f32::NEG_INFINITY;
        let allowed = self.grammar.tolerance * letters as f32;
        if to_its_end && self.free_path - path <= allowed {
            Verdict::Sentence
        } else {
            Verdict::Unmatched
        }
    }

    /// Begins the next utterance.
    pub(crate) fn take_all(&mut self) {
        self.beam.take(usize::MAX).for_each(drop);
        self.free.take(usize::MAX).for_each(drop);
        self.free_path = 0.0;
        self.verdict = Verdict::Open;
    }

    pub(crate) fn reset(&mut self) {
        self.beam.reset();
        self.free.reset();
        self.free_path = 0.0;
        self.verdict = Verdict::Open;
    }
}
