use super::{Beam, Hit};
use crate::model::TokenId;

/// Greedy (best path) CTC decoding, frame by frame.
///
/// The best token of each frame is taken, runs of the same token are collapsed, blanks dropped
/// (Graves et al., "Connectionist temporal classification", ICML 2006, section 3.2).
#[derive(Debug)]
pub struct Greedy {
    blank: TokenId,
    /// Best token of the last frame.
    previous: TokenId,
    /// Output frames heard so far.
    frames: u64,
    hits: Vec<Hit>,
}

impl Greedy {
    /// A decoder for a model with `blank + 1` tokens, whose last is the CTC blank.
    #[must_use]
    pub fn new(blank: TokenId) -> Self {
        Self {
            blank,
            previous: blank,
            frames: 0,
            hits: Vec::new(),
        }
    }

    /// A decoder that goes on where a beam is, whose tokens were all taken.
    pub(super) fn after(beam: &Beam) -> Self {
        let (blank, last) = beam.last();
        Self {
            previous: last,
            frames: beam.frames(),
            ..Self::new(blank)
        }
    }

    /// Hears log-probabilities, row-major `(frames, blank + 1)`. Returns whether the hypothesis has
    /// a new token.
    pub fn accept(&mut self, log_probs: &[f32]) -> bool {
        let before = self.hits.len();
        for row in log_probs.chunks_exact(self.blank + 1) {
            let (token, log_prob) = best(row);
            let frame = self.frames;
            self.frames += 1;
            let continues = token == self.previous;
            self.previous = token;
            if token == self.blank {
                continue;
            }
            match self.hits.last_mut() {
                // The run began before the hypothesis was last taken: its token was given out then.
                None if continues => {}
                Some(hit) if continues => *hit = hit.prolonged(frame, log_prob),
                _ => self.hits.push(Hit::new(token, frame, log_prob)),
            }
        }
        self.hits.len() > before
    }

    /// The tokens said since the last [`take`](Greedy::take), in order of time.
    #[must_use]
    pub fn hits(&self) -> &[Hit] {
        &self.hits
    }

    /// Removes the first `count` tokens, and leaves the state of the search as it is: a token that
    /// is being said across this point is not said twice.
    pub fn take(&mut self, count: usize) -> impl Iterator<Item = Hit> + '_ {
        self.hits.drain(..count.min(self.hits.len()))
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

    /// The blank's id, and the best token of the last frame.
    pub(super) fn last(&self) -> (TokenId, TokenId) {
        (self.blank, self.previous)
    }

    /// Forgets everything, the clock included.
    pub fn reset(&mut self) {
        self.previous = self.blank;
        self.frames = 0;
        self.hits.clear();
    }
}

/// The largest element and where it is; the first of equals. A row of NaN gives its first element.
fn best(row: &[f32]) -> (TokenId, f32) {
    let mut best = (0, row[0]);
    for (token, value) in row.iter().enumerate().skip(1) {
        if *value > best.1 {
            best = (token, *value);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One frame per letter: `-` is the blank (id 2), an upper-case letter is more certain.
    fn hear(decoder: &mut Greedy, frames: &str) {
        for frame in frames.chars() {
            let token = match frame.to_ascii_lowercase() {
                'a' => 0,
                'b' => 1,
                _ => 2,
            };
            let mut row = [-9.0; 3];
            row[token] = if frame.is_ascii_uppercase() {
                -0.1
            } else {
                -0.5
            };
            decoder.accept(&row);
        }
    }

    fn tokens(decoder: &Greedy) -> Vec<(TokenId, u64, u64)> {
        decoder
            .hits()
            .iter()
            .map(|hit| (hit.token, hit.frame, hit.end))
            .collect()
    }

    #[test]
    fn runs_collapse_and_blanks_part_equal_tokens() {
        let mut decoder = Greedy::new(2);
        hear(&mut decoder, "-aAa-ab-");
        assert_eq!(tokens(&decoder), [(0, 2, 4), (0, 5, 6), (1, 6, 7)]);
    }

    #[test]
    fn a_run_across_a_take_is_said_once() {
        let mut decoder = Greedy::new(2);
        hear(&mut decoder, "-aa");
        assert_eq!(decoder.take(usize::MAX).count(), 1);
        hear(&mut decoder, "aa-");
        assert_eq!(tokens(&decoder), []);
        hear(&mut decoder, "a");
        assert_eq!(tokens(&decoder), [(0, 6, 7)]);
    }
}
