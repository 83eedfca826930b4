use std::sync::Arc;

use super::{Fusion, Grammar, Greedy, Hit, Phrases, fusion, grammar, phrases};
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
    phrases: Option<Arc<Phrases>>,
    fusion: Option<Arc<Fusion>>,
    grammar: Option<Arc<Grammar>>,
    frames: u64,
    /// Best first.
    beam: Vec<Hypothesis>,
    next: Vec<Hypothesis>,
    history: History,
    /// Tokens that every hypothesis has in common and that were given out.
    taken: u32,
    /// The best hypothesis without these.
    hits: Vec<Hit>,
    /// Tokens worth trying at this frame.
    tried: Vec<TokenId>,
}

/// No node, no token.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Hypothesis {
    /// Of the tokens: two hypotheses with one hash are one.
    hash: u64,
    /// Tokens since the last that was given out with all others.
    length: u32,
    last: u32,
    /// Alignments that end in a blank, and in `last`.
    blank: Track,
    token: Track,
    led: Led,
    /// Log-score by which hypotheses are compared.
    score: f32,
}

/// What leads a hypothesis besides the sound.
#[derive(Debug, Clone, Copy, Default)]
struct Led {
    phrase: phrases::State,
    words: fusion::State,
    sentence: grammar::State,
}

impl Led {
    fn bonus(self) -> f32 {
        self.phrase.bonus() + self.words.bonus()
    }
}

/// Alignments of one hypothesis that end alike.
#[derive(Debug, Clone, Copy)]
struct Track {
    /// Log of the sum of their probabilities.
    sum: f32,
    /// Log-probability of the best; the rest belongs to it.
    best: f32,
    /// All tokens but the last.
    history: u32,
    /// A token that is still to be added to `history`.
    fresh: Option<Hit>,
    /// The last token; `None` when it was given out or there is none.
    hit: Option<Hit>,
}

impl Track {
    const IMPOSSIBLE: Self = Self {
        sum: f32::NEG_INFINITY,
        best: f32::NEG_INFINITY,
        history: NONE,
        fresh: None,
        hit: None,
    };

    /// Joins alignments of the same hypothesis with the same ending.
    fn merge(&mut self, other: Self) {
        let sum = log_add(self.sum, other.sum);
        if other.best > self.best {
            *self = other;
        }
        self.sum = sum;
    }

    /// One frame on, which says this with that log-probability.
    fn then(self, log_prob: f32) -> Self {
        Self {
            sum: self.sum + log_prob,
            best: self.best + log_prob,
            ..self
        }
    }
}

impl Hypothesis {
    fn probability(&self) -> f32 {
        log_add(self.blank.sum, self.token.sum)
    }

    /// Both endings as one.
    fn any(&self) -> Track {
        let mut any = self.blank;
        any.merge(self.token);
        any
    }

    fn rank(mut self) -> Self {
        self.score = self.probability() + self.led.bonus();
        self
    }
}

impl Beam {
    /// A decoder for a model with `blank + 1` tokens, whose last is the CTC blank.
    #[must_use]
    pub fn new(blank: TokenId, options: BeamOptions) -> Self {
        let width = options.width.clamp(1, MAX_WIDTH);
        let mut decoder = Self {
            options: BeamOptions { width, ..options },
            blank,
            phrases: None,
            fusion: None,
            grammar: None,
            frames: 0,
            beam: Vec::with_capacity(width),
            next: Vec::with_capacity(width * 16),
            history: History::default(),
            taken: 0,
            hits: Vec::new(),
            tried: Vec::with_capacity(blank),
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
            start.token = std::mem::replace(&mut start.blank, Track::IMPOSSIBLE);
        }
        beam
    }

    /// Boosts other phrases from here on. What the utterance so far earned stays with it.
    pub fn set_phrases(&mut self, phrases: Option<Arc<Phrases>>) {
        for hypothesis in &mut self.beam {
            hypothesis.led.phrase = hypothesis.led.phrase.settled();
        }
        self.phrases = phrases;
    }

    /// Asks another language model from here on. What the utterance so far earned stays with it, but
    /// its words are not known to the new model.
    pub fn set_language_model(&mut self, fusion: Option<Arc<Fusion>>) {
        for hypothesis in &mut self.beam {
            if let Some(fusion) = &fusion {
                hypothesis.led.words = fusion.begin_after(hypothesis.led.words);
            }
        }
        self.fusion = fusion;
    }

    /// Keeps to a grammar from here on, or to none. All tokens were taken.
    pub(super) fn set_grammar(&mut self, grammar: Option<Arc<Grammar>>) {
        self.grammar = grammar;
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
            let led = &mut hypothesis.led;
            if let Some(phrases) = &self.phrases {
                led.phrase = phrases.finish(led.phrase);
            }
            if let Some(fusion) = &self.fusion {
                led.words = fusion.finish(led.words);
            }
            let sentence = led.sentence;
            *hypothesis = hypothesis.rank();
            if let Some(grammar) = &self.grammar
                && !grammar.may_end(sentence)
            {
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
            self.history.hits(hypothesis.any(), self.taken, &mut hits);
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
                history.hits(hypothesis.any(), taken, &mut hits);
                hits.len() > count && hits.iter().zip(said).all(|(a, b)| a.token == b.token)
            });
            self.taken += count as u32;
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
        let goes_on = best.token.sum > best.blank.sum;
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
        best.any().best
    }

    /// Forgets everything but the phrases and the language model, the clock included.
    pub fn reset(&mut self) {
        self.frames = 0;
        self.hits.clear();
        self.begin(Hypothesis {
            hash: 0,
            length: 0,
            last: NONE,
            blank: Track {
                sum: 0.0,
                best: 0.0,
                ..Track::IMPOSSIBLE
            },
            token: Track::IMPOSSIBLE,
            led: self.unled(),
            score: 0.0,
        });
    }

    /// Nothing is said yet, except that the last token may go on.
    fn begin_utterance(&mut self) {
        let best = self.beam[0];
        let without = |track: Track, whole: f32| Track {
            sum: track.sum - whole,
            best: track.sum - whole,
            ..Track::IMPOSSIBLE
        };
        let whole = best.probability();
        self.begin(Hypothesis {
            hash: 0,
            length: 0,
            last: best.last,
            blank: without(best.blank, whole),
            token: without(best.token, whole),
            led: self.unled(),
            score: 0.0,
        });
    }

    /// At the start of an utterance.
    fn unled(&self) -> Led {
        Led {
            words: self
                .fusion
                .as_ref()
                .map(|fusion| fusion.begin())
                .unwrap_or_default(),
            ..Led::default()
        }
    }

    fn begin(&mut self, hypothesis: Hypothesis) {
        self.history.clear();
        self.taken = 0;
        self.beam.clear();
        self.beam.push(hypothesis);
    }

    /// One frame.
    fn step(&mut self, row: &[f32]) {
        // A grammar leaves few tokens, none of which may be missed.
        let floor = match self.grammar {
            Some(_) => f32::NEG_INFINITY,
            None => self.options.token_floor,
        };
        self.tried.clear();
        let above = |&(token, &log_prob): &(usize, &f32)| token != self.blank && log_prob > floor;
        let tried = row.iter().enumerate().filter(above).map(|(token, _)| token);
        self.tried.extend(tried);

        self.next.clear();
        for hypothesis in &self.beam {
            let mut stays = *hypothesis;
            stays.blank = hypothesis.any().then(row[self.blank]);
            stays.token = match row.get(hypothesis.last as usize) {
                Some(&log_prob) => prolong(hypothesis.token, self.frames, log_prob),
                None => Track::IMPOSSIBLE,
            };
            self.next.push(stays);
        }
        for index in 0..self.beam.len() {
            self.extend(index, row);
        }
        for hypothesis in &mut self.next {
            *hypothesis = hypothesis.rank();
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

    /// Adds what a hypothesis becomes with one more token.
    fn extend(&mut self, index: usize, row: &[f32]) {
        let hypothesis = self.beam[index];
        let any = hypothesis.any();
        let mut ended = None;
        for position in 0..self.tried.len() {
            let token = self.tried[position];
            if let Some(led) = self.lead(hypothesis.led, &mut ended, token) {
                self.add(&hypothesis, any, token, led, row[token]);
            }
        }
        // What a phrase goes on with may be far less probable.
        let Some(phrases) = self.phrases.clone() else {
            return;
        };
        let floor = self.options.token_floor;
        for (token, earns) in phrases.continuations(hypothesis.led.phrase) {
            let log_prob = row[token];
            if log_prob <= floor
                && log_prob + earns > floor
                && let Some(led) = self.lead(hypothesis.led, &mut ended, token)
            {
                self.add(&hypothesis, any, token, led, log_prob);
            }
        }
    }

    /// What leads a hypothesis once it says one more token, if it may be said. `ended` keeps what is the same for all
    /// tokens that begin a word: that the one before is over.
    fn lead(&self, led: Led, ended: &mut Option<fusion::State>, token: TokenId) -> Option<Led> {
        let Led {
            phrase,
            words,
            sentence,
        } = led;
        let sentence = match &self.grammar {
            Some(grammar) => grammar.advance(sentence, token)?,
            None => sentence,
        };
        let advance = |phrases: &Arc<Phrases>| phrases.advance(phrase, token);
        let spell = |fusion: &Arc<Fusion>| {
            let words = if fusion.starts_word(token) {
                *ended.get_or_insert_with(|| fusion.end_word(words))
            } else {
                words
            };
            fusion.spell(words, token)
        };
        Some(Led {
            phrase: self.phrases.as_ref().map_or(phrase, advance),
            words: self.fusion.as_ref().map_or(words, spell),
            sentence,
        })
    }

    fn add(
        &mut self,
        hypothesis: &Hypothesis,
        any: Track,
        token: TokenId,
        led: Led,
        log_prob: f32,
    ) {
        // After the same token only a blank between makes another.
        let from = if token as u32 == hypothesis.last {
            hypothesis.blank
        } else {
            any
        };
        if from.sum == f32::NEG_INFINITY {
            return;
        }
        let said = Track {
            fresh: from.hit,
            hit: Some(Hit::new(token, self.frames, log_prob)),
            ..from.then(log_prob)
        };
        let hash = mix(hypothesis.hash, token);
        // Nothing but a hypothesis that is one longer already can be the same.
        let length = hypothesis.length + 1;
        let known = self.next[..self.beam.len()]
            .iter_mut()
            .find(|other| other.hash == hash && other.length == length);
        match known {
            Some(other) => other.token.merge(said),
            None => self.next.push(Hypothesis {
                hash,
                length,
                last: token as u32,
                blank: Track::IMPOSSIBLE,
                token: said,
                led,
                score: 0.0,
            }),
        }
    }

    /// Writes down the best hypothesis.
    fn spell(&mut self) {
        self.history
            .hits(self.beam[0].any(), self.taken, &mut self.hits);
    }
}

/// The last token goes on for a frame.
fn prolong(track: Track, frame: u64, log_prob: f32) -> Track {
    Track {
        hit: track.hit.map(|hit| hit.prolonged(frame, log_prob)),
        ..track.then(log_prob)
    }
}

/// Best first. What orders equals is the same on every machine.
fn sort(beam: &mut [Hypothesis]) {
    beam.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.hash.cmp(&b.hash)));
}

/// `ln(e^a + e^b)`.
fn log_add(a: f32, b: f32) -> f32 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    if low == f32::NEG_INFINITY {
        return high;
    }
    high + (low - high).exp().ln_1p()
}

/// The hash of a sequence with one more token (the finaliser of `SplitMix64`).
fn mix(hash: u64, token: TokenId) -> u64 {
    let mut z = hash
        .wrapping_add(token as u64 + 1)
        .wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The tokens of all hypotheses but their last ones, as a tree whose branches are shared.
#[derive(Debug, Default)]
struct History {
    nodes: Vec<Node>,
    /// New places of nodes while the tree is cleared of what nobody needs.
    places: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    parent: u32,
    /// Tokens on the way from the root, this one included.
    depth: u32,
    hit: Hit,
}

/// Nodes kept before the tree is first cleared.
const ROOM: usize = 1 << 10;

impl History {
    fn clear(&mut self) {
        self.nodes.clear();
    }

    /// Adds the fresh tokens of a beam.
    fn write(&mut self, beam: &mut [Hypothesis], taken: u32) {
        let room = self.nodes.capacity().max(ROOM);
        if self.nodes.len() + 2 * beam.len() > room {
            self.clear_unused(beam, taken);
        }
        for hypothesis in beam {
            for track in [&mut hypothesis.blank, &mut hypothesis.token] {
                if let Some(hit) = track.fresh.take() {
                    let parent = track.history;
                    let depth = self.depth(parent).max(taken) + 1;
                    track.history = self.nodes.len() as u32;
                    self.nodes.push(Node { parent, depth, hit });
                }
            }
        }
    }

    fn depth(&self, node: u32) -> u32 {
        self.nodes.get(node as usize).map_or(0, |node| node.depth)
    }

    /// Keeps the nodes that the beam leads to, without those that were given out.
    fn clear_unused(&mut self, beam: &mut [Hypothesis], taken: u32) {
        self.places.clear();
        self.places.resize(self.nodes.len(), NONE);
        for hypothesis in &*beam {
            for track in [&hypothesis.blank, &hypothesis.token] {
                let mut at = track.history;
                while let Some(node) = self.nodes.get(at as usize) {
                    if node.depth <= taken || self.places[at as usize] != NONE {
                        break;
                    }
                    self.places[at as usize] = at;
                    at = node.parent;
                }
            }
        }
        // Parents come before their children, so that their places are known.
        let mut kept = 0;
        for at in 0..self.nodes.len() {
            if self.places[at] == NONE {
                continue;
            }
            let node = self.nodes[at];
            let parent = self.places.get(node.parent as usize).copied();
            self.nodes[kept] = Node {
                parent: parent.unwrap_or(NONE),
                ..node
            };
            self.places[at] = kept as u32;
            kept += 1;
        }
        self.nodes.truncate(kept);
        for hypothesis in beam {
            for track in [&mut hypothesis.blank, &mut hypothesis.token] {
                let place = self.places.get(track.history as usize).copied();
                track.history = place.unwrap_or(NONE);
            }
        }
    }

    /// The tokens of a track beyond the first `taken`, in order of time.
    fn hits(&self, track: Track, taken: u32, hits: &mut Vec<Hit>) {
        hits.clear();
        hits.extend(track.hit);
        hits.extend(track.fresh);
        let mut at = track.history;
        while let Some(node) = self.nodes.get(at as usize) {
            if node.depth <= taken {
                break;
            }
            hits.push(node.hit);
            at = node.parent;
        }
        hits.reverse();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

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
}
