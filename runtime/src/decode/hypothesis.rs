//! What a search compares.

use super::alignment::Ends;
use super::guides::Led;
use crate::model::TokenId;

/// A sequence of tokens that may have been said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hypothesis {
    /// Of the tokens: two hypotheses with one hash are one.
    pub(super) hash: u64,
    /// Tokens since the last that was given out with all others.
    pub(super) length: u32,
    pub(super) last: u32,
    pub(super) ends: Ends,
    pub(super) led: Led,
    /// Log-score by which hypotheses are compared.
    pub(super) score: f32,
}

impl Hypothesis {
    /// With the score that follows from the rest.
    pub(super) fn rank(mut self) -> Self {
        self.score = self.ends.probability() + self.led.bonus();
        self
    }
}

impl AsMut<Ends> for Hypothesis {
    fn as_mut(&mut self) -> &mut Ends {
        &mut self.ends
    }
}

/// Best first. What orders equals is the same on every machine.
pub(super) fn sort(beam: &mut [Hypothesis]) {
    beam.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.hash.cmp(&b.hash)));
}

/// The hash of a sequence with one more token (the finaliser of `SplitMix64`).
pub(super) fn mix(hash: u64, token: TokenId) -> u64 {
    let mut z = hash
        .wrapping_add(token as u64 + 1)
        .wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
