use std::sync::Arc;

use super::alignment::{Ends, History, NONE, Track};
use super::guides::{Ended, Guides};
use super::hypothesis::{Hypothesis, mix, sort};
use super::{Fusion, Grammar, Greedy, Hit, Phrases, grammar};
use crate::model::TokenId;

/// How wide a [`Beam`] search looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BeamOptions {
    /// Hypotheses kept after each frame. Default 8.
    pub width: usize,
    /// A token is tried at a frame when its log-probability, with the bonus that it earns, is above
    /// this. Default -8.
    pub token_floor: f32,
    /// Hypotheses whose log-score is so far below the best are dropped. Default 14.
    pub range: f32,
}

impl Default for BeamOptions {
    fn default() -> Self {
        Self {
            width: 8,
            token_floor: -8.0,
            range: 14.0,
        }
    }
}

/// Widest beam: beyond it the search only gets slower.
const MAX_WIDTH: usize = 1 << 12;

/// CTC prefix beam search, frame by frame.
///
/// A hypothesis is a sequence of tokens; its probability is the sum over the alignments that
/// collapse to it, kept in two parts by whether they end in a blank (Graves 2008, "Supervised sequence
/// labelling with recurrent neural networks", section 7.5.3; Hannun et al. 2014, arXiv 1408.2873).
/// What [`Phrases`] and a language model ([`Fusion`]) add counts when hypotheses are compared. Times
/// are those of the most probable single alignment.
///
/// Once warm a frame allocates nothing.
#[derive(Debug)]
pub struct Beam {
    options: BeamOptions,
    blank: TokenId,
    guides: Guides,
    frames: u64,
    /// Best first.
    beam: Vec<Hypothesis>,
    next: Vec<Hypothesis>,
    history: History,
    /// Tokens that every hypothesis has in common and that were given out.
    taken: u32,
    /// The best hypothesis without these.
    hits: Vec<Hit>,
    /// Tokens worth trying at this frame, and those that are only if they begin a phrase.
    tried: Vec<TokenId>,
    lent: Vec<TokenId>,
    /// Which of the hypotheses that stay as they are a token leads to from the one that is at hand; `NONE` else.
    known: Vec<u32>,
}

/// Scores that are further apart than this are not equal but for rounding.
const ROUNDING: f32 = 0.01;

/// A hypothesis that is to go on.
struct Parent {
    hypothesis: Hypothesis,
    /// All its alignments.
    any: Track,
    ended: Ended,
    /// What is worth less is not kept.
    least: f32,
}

impl Beam {
    /// A decoder for a model with `blank + 1` tokens, whose last is the CTC blank.
    #[must_use]
    pub fn new(blank: TokenId, options: BeamOptions) -> Self {
        let width = options.width.clamp(1, MAX_WIDTH);
        let mut decoder = Self {
            options: BeamOptions { width, ..options },
            blank,
            guides: Guides::default(),
            frames: 0,
            beam: Vec::with_capacity(width),
            next: Vec::with_capacity(width * 16),
            history: History::default(),
            taken: 0,
            hits: Vec::new(),
            tried: Vec::with_capacity(blank),
            lent: Vec::with_capacity(blank),
            known: vec![NONE; blank],
        };
        decoder.reset();
        decoder
    }

    /// A decoder that goes on where a greedy one is, whose tokens were all taken.
    pub(super) fn after(greedy: &Greedy, options: BeamOptions) -> Self {
        let (blank, last) = greedy.last();
        let mut beam = Self::new(blank, options);
        beam.frames = greedy.frames();
        if last != blank {
            let start = &mut beam.beam[0];
            start.last = last as u32;
            let ends = &mut start.ends;
            ends.token = std::mem::replace(&mut ends.blank, Track::IMPOSSIBLE);
        }
        beam
    }

    /// Boosts other phrases from here on. What the utterance so far earned stays with it.
    pub fn set_phrases(&mut self, phrases: Option<Arc<Phrases>>) {
        for hypothesis in &mut self.beam {
            hypothesis.led.phrase = hypothesis.led.phrase.settled();
        }
        self.guides.phrases = phrases;
    }

    /// Asks another language model from here on. What the utterance so far earned stays with it, but
    /// its words are not known to the new model.
    pub fn set_language_model(&mut self, fusion: Option<Arc<Fusion>>) {
        for hypothesis in &mut self.beam {
            if let Some(fusion) = &fusion {
                hypothesis.led.words = fusion.begin_after(hypothesis.led.words);
            }
        }
        self.guides.fusion = fusion;
    }

    /// Keeps to a grammar from here on, or to none. All tokens were taken.
    pub(super) fn set_grammar(&mut self, grammar: Option<Arc<Grammar>>) {
        self.guides.grammar = grammar;
        for hypothesis in &mut self.beam {
            hypothesis.led.sentence = grammar::State::default();
        }
    }

    /// Hears log-probabilities, row-major `(frames, blank + 1)`. Returns whether the best hypothesis
    /// is another than before.
    pub fn accept(&mut self, log_probs: &[f32]) -> bool {
        let before = self.beam[0].hash;
        for row in log_probs.chunks_exact(self.blank + 1) {
            self.step(row);
            self.frames += 1;
        }
        self.spell();
        self.beam[0].hash != before
    }

    /// Puts first what is best once the utterance is over: phrases that are only begun lose what
    /// they were lent, the language model hears the last word. Call it once, before the last tokens
    /// of an utterance are taken.
    pub fn finish(&mut self) {
        for hypothesis in &mut self.beam {
            hypothesis.led = self.guides.finish(hypothesis.led);
            *hypothesis = hypothesis.rank();
            if !self.guides.may_end(hypothesis.led) {
                hypothesis.score = f32::NEG_INFINITY;
            }
        }
        sort(&mut self.beam);
        self.spell();
    }

    /// The tokens of the best hypothesis since the last [`take`](Self::take), in order of time.
    #[must_use]
    pub fn hits(&self) -> &[Hit] {
        &self.hits
    }

    /// The best hypotheses and their log-scores, best first, without what was taken before. `spell`
    /// is called with the tokens of each.
    pub fn alternatives(&self, count: usize, mut spell: impl FnMut(&[Hit], f32)) {
        let mut hits = Vec::new();
        let possible = |hypothesis: &&Hypothesis| hypothesis.score > f32::NEG_INFINITY;
        for hypothesis in self.beam.iter().filter(possible).take(count) {
            self.history
                .hits(hypothesis.ends.any(), self.taken, &mut hits);
            spell(&hits, hypothesis.score);
        }
    }

    /// Removes the first `count` tokens of the best hypothesis; those that begin otherwise are given
    /// up. A token that is being said across this point is not said twice.
    pub fn take(&mut self, count: usize) -> impl Iterator<Item = Hit> + '_ {
        let count = count.min(self.hits.len());
        if count == self.hits.len() {
            self.begin_utterance();
        } else if count > 0 {
            let mut hits = Vec::new();
            let (history, taken) = (&self.history, self.taken);
            let said = &self.hits[..count];
            self.beam.retain(|hypothesis| {
                history.hits(hypothesis.ends.any(), taken, &mut hits);
                hits.len() > count && hits.iter().zip(said).all(|(a, b)| a.token == b.token)
            });
            self.taken += count as u32;
            self.count_anew();
        }
        self.hits.drain(..count)
    }

    /// Output frames heard since the start of the stream.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Sets the clock.
    #[cfg(test)]
    pub(super) fn start_at(&mut self, frames: u64) {
        self.frames = frames;
    }

    /// Outputs of the model.
    pub(super) fn outputs(&self) -> usize {
        self.blank + 1
    }

    /// The blank's id, and the last token if it may be said on.
    pub(super) fn last(&self) -> (TokenId, TokenId) {
        let best = &self.beam[0];
        let goes_on = best.ends.token.sum > best.ends.blank.sum;
        let last = (best.last as TokenId).min(self.blank);
        (self.blank, if goes_on { last } else { self.blank })
    }

    /// Log-probability of the best alignment of the best hypothesis since the last tokens were all
    /// taken; negative infinity if no hypothesis can be the whole utterance.
    pub(super) fn best_path(&self) -> f32 {
        let best = &self.beam[0];
        if best.score == f32::NEG_INFINITY {
            return best.score;
        }
        best.ends.any().best
    }

    /// Forgets everything but the phrases and the language model, the clock included.
    pub fn reset(&mut self) {
        self.frames = 0;
        self.hits.clear();
        self.begin(Hypothesis {
            hash: 0,
            length: 0,
            last: NONE,
            ends: Ends {
                blank: Track {
                    sum: 0.0,
                    best: 0.0,
                    ..Track::IMPOSSIBLE
                },
                token: Track::IMPOSSIBLE,
            },
            led: self.guides.begin(),
            score: 0.0,
        });
    }

    /// Scores count from the best hypothesis on, so that they do not lose their digits in hours without a pause.
    fn count_anew(&mut self) {
        let Some(&best) = self.beam.first() else {
            return;
        };
        for hypothesis in &mut self.beam {
            hypothesis.ends = hypothesis.ends.over(best.ends.probability());
            hypothesis.led = hypothesis.led.over(best.led);
            *hypothesis = hypothesis.rank();
        }
    }

    /// Nothing is said yet, except that the last token may go on.
    fn begin_utterance(&mut self) {
        let best = self.beam[0];
        let without = |track: Track| Track {
            sum: track.sum,
            best: track.sum,
            ..Track::IMPOSSIBLE
        };
        let ends = best.ends.over(best.ends.probability());
        self.begin(Hypothesis {
            hash: 0,
            length: 0,
            last: best.last,
            ends: Ends {
                blank: without(ends.blank),
                token: without(ends.token),
            },
            led: self.guides.begin(),
            score: 0.0,
        });
    }

    fn begin(&mut self, hypothesis: Hypothesis) {
        self.history.clear();
        self.taken = 0;
        self.beam.clear();
        self.beam.push(hypothesis);
    }

    /// One frame.
    fn step(&mut self, row: &[f32]) {
        let floor = self.floor();
        let tokens = &row[..self.blank];
        self.tried.clear();
        let above = tokens.iter().enumerate().filter(|(_, p)| **p > floor);
        self.tried.extend(above.map(|(token, _)| token));
        self.lent.clear();
        if let Some(phrases) = &self.guides.phrases {
            let begin = phrases.beginnings().filter(|&(token, earns)| {
                let log_prob = tokens[token];
                log_prob <= floor && log_prob + earns > floor
            });
            self.lent.extend(begin.map(|(token, _)| token));
        }

        self.next.clear();
        for hypothesis in &self.beam {
            let mut stays = *hypothesis;
            stays.ends.blank = hypothesis.ends.any().then(row[self.blank]);
            stays.ends.token = match row.get(hypothesis.last as usize) {
                Some(&log_prob) => hypothesis.ends.token.prolonged(self.frames, log_prob),
                None => Track::IMPOSSIBLE,
            };
            self.next.push(stays.rank());
        }
        let least = self.least();
        for index in 0..self.beam.len() {
            self.extend(index, row, least);
        }
        sort(&mut self.next);
        let worst = self.next[0].score - self.options.range;
        let kept = self.next.iter().take(self.options.width);
        let kept = kept
            .take_while(|hypothesis| hypothesis.score >= worst)
            .count()
            .max(1);
        self.next.truncate(kept);
        std::mem::swap(&mut self.beam, &mut self.next);
        self.history.write(&mut self.beam, self.taken);
    }

    /// The log-probability above which every token is tried: a grammar leaves few, none of which may be missed.
    fn floor(&self) -> f32 {
        match self.guides.grammar {
            Some(_) => f32::NEG_INFINITY,
            None => self.options.token_floor,
        }
    }

    /// A score below which no new hypothesis will be kept, as those that only stay are better already.
    fn least(&self) -> f32 {
        let scores = || self.next.iter().map(|hypothesis| hypothesis.score);
        let best = scores().fold(f32::NEG_INFINITY, f32::max);
        let fills = self.next.len() >= self.options.width;
        let worst = scores().fold(f32::INFINITY, f32::min);
        let least = best - self.options.range;
        let least = if fills { least.max(worst) } else { least };
        least - ROUNDING
    }

    /// Adds what a hypothesis becomes with one more token, as far as its score can reach `least`.
    fn extend(&mut self, index: usize, row: &[f32], least: f32) {
        let hypothesis = self.beam[index];
        let length = hypothesis.length + 1;
        for at in 0..self.beam.len() {
            let other = &self.beam[at];
            if other.length == length && other.hash == mix(hypothesis.hash, other.last as TokenId) {
                self.known[other.last as usize] = at as u32;
            }
        }
        let mut from = Parent {
            any: hypothesis.ends.any(),
            hypothesis,
            ended: Ended::default(),
            least,
        };
        for at in 0..self.tried.len() {
            let token = self.tried[at];
            self.add(&mut from, token, row[token]);
        }
        // What a phrase goes on with may be far less probable.
        if let Some(phrases) = self.guides.phrases.clone() {
            let floor = self.floor();
            let state = hypothesis.led.phrase;
            for (token, earns) in phrases.continuations(state) {
                let log_prob = row[token];
                if log_prob <= floor && log_prob + earns > floor {
                    self.add(&mut from, token, log_prob);
                }
            }
            for at in 0..self.lent.len() {
                let token = self.lent[at];
                if !phrases.goes_on(state, token) {
                    self.add(&mut from, token, row[token]);
                }
            }
        }
        for at in 0..self.beam.len() {
            if let Some(known) = self.known.get_mut(self.beam[at].last as usize) {
                *known = NONE;
            }
        }
    }

    /// Adds a hypothesis with one more token.
    fn add(&mut self, from: &mut Parent, token: TokenId, log_prob: f32) {
        let Parent {
            hypothesis, any, ..
        } = from;
        // After the same token only a blank between makes another.
        let track = if token as u32 == hypothesis.last {
            hypothesis.ends.blank
        } else {
            *any
        };
        if track.sum == f32::NEG_INFINITY {
            return;
        }
        let said = Track {
            fresh: track.hit,
            hit: Some(Hit::new(token, self.frames, log_prob)),
            ..track.then(log_prob)
        };
        if let Some(other) = self.next.get_mut(self.known[token] as usize) {
            other.ends.token.merge(said);
            *other = other.rank();
            return;
        }
        let (led, ended) = (from.hypothesis.led, &mut from.ended);
        if said.sum + self.guides.at_most(led, ended, token) < from.least {
            return;
        }
        let Some(led) = self.guides.advance(led, ended, token) else {
            return;
        };
        let longer = Hypothesis {
            hash: mix(from.hypothesis.hash, token),
            length: from.hypothesis.length + 1,
            last: token as u32,
            ends: Ends {
                blank: Track::IMPOSSIBLE,
                token: said,
            },
            led,
            score: 0.0,
        };
        self.next.push(longer.rank());
    }

    /// Writes down the best hypothesis.
    fn spell(&mut self) {
        self.history
            .hits(self.beam[0].ends.any(), self.taken, &mut self.hits);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::model::Tokens;

    /// Log-probabilities that look random and are the same everywhere.
    fn noise(frames: usize, outputs: usize) -> Vec<f32> {
        let mut state = 1;
        let mut rows = Vec::new();
        for _ in 0..frames {
            let row: Vec<f32> = (0..outputs)
                .map(|_| {
                    state = mix(state, 1);
                    (state >> 40) as f32 / (1 << 21) as f32
                })
                .collect();
            let sum: f32 = row.iter().map(|value| value.exp()).sum();
            rows.extend(row.iter().map(|value| value - sum.ln()));
        }
        rows
    }

    #[test]
    fn clearing_the_history_changes_nothing() {
        let rows = noise(4000, 6);
        let mut cleared = Beam::new(5, BeamOptions::default());
        let mut kept = Beam::new(5, BeamOptions::default());
        kept.history.nodes.reserve(1 << 20);
        for piece in rows.chunks(8 * 6) {
            cleared.accept(piece);
            kept.accept(piece);
            assert_eq!(cleared.hits(), kept.hits());
            // As a long utterance is cut: the oldest tokens are given out.
            if kept.hits().len() > 600 {
                let said: Vec<_> = kept.take(7).collect();
                assert_eq!(cleared.take(7).collect::<Vec<_>>(), said);
                // What was given out no longer counts: over hours a score would lose its digits.
                assert!(kept.beam[0].score.abs() < 1e-3, "{}", kept.beam[0].score);
                assert_eq!(cleared.hits(), kept.hits());
            }
        }
        assert!(kept.history.nodes.len() > 20_000);
        assert!(
            cleared.history.nodes.capacity() < 1 << 14,
            "{}",
            cleared.history.nodes.capacity()
        );
        let hits = kept.hits();
        assert!(hits.windows(2).all(|pair| pair[0].end <= pair[1].onset));
        assert!(
            hits.iter()
                .all(|hit| (hit.onset..hit.end).contains(&hit.frame))
        );
    }

    #[test]
    fn under_a_grammar_a_phrase_adds_no_hypothesis_twice() {
        let text = "\u{2581}a 0\n\u{2581}b 1\nc 2\n<blk> 3\n";
        let tokens = Tokens::parse(text, Path::new("tokens.txt")).unwrap();
        let phrases = Phrases::parse(&b"ac 15.0"[..], "phrases", &tokens).unwrap();
        let grammar = Grammar::parse(&b"a\nac\nb\n"[..], "grammar", &tokens).unwrap();
        let mut beam = Beam::new(3, BeamOptions::default());
        beam.set_phrases(Some(Arc::new(phrases)));
        beam.set_grammar(Some(Arc::new(grammar)));
        // The `c` is below the floor, and above it with what the phrase earns.
        for row in [
            [-0.1, -3.0, -12.0, -3.0],
            [-6.0, -6.0, -12.0, -0.1],
            [-6.0, -6.0, -12.0, -0.1],
        ] {
            beam.accept(&row);
            let mut known: Vec<_> = beam.beam.iter().map(|h| (h.length, h.hash)).collect();
            let count = known.len();
            known.sort_unstable();
            known.dedup();
            assert_eq!(known.len(), count);
        }
        assert_eq!(
            beam.hits().iter().map(|hit| hit.token).collect::<Vec<_>>(),
            [0, 2]
        );
    }
}
