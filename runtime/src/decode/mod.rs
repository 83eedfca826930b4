//! Log-probabilities to a hypothesis: which tokens were said, and when.

mod greedy;

pub use greedy::Greedy;

use crate::model::TokenId;

/// A token in a hypothesis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Which token.
    pub token: TokenId,
    /// First output frame of its run, from the start of the stream.
    pub onset: u64,
    /// Output frame at which its posterior is highest.
    pub frame: u64,
    /// First output frame after the token's run.
    pub end: u64,
    /// Natural logarithm of its posterior at `frame`.
    pub log_prob: f32,
}
