//! Hypotheses to what people read: words with times and confidence, and where an utterance ends.

mod endpoint;
mod words;

pub(crate) use endpoint::Silence;
pub use endpoint::{Endpoint, EndpointRule, EndpointRules};
pub use words::{Alternative, Segment, TimedToken, Word};
pub(crate) use words::{Clock, Speller, alternatives, milliseconds, segment, word_starts};
