//! Hypotheses to what people read: words with times and confidence, and where an utterance ends.

mod endpoint;
mod words;

pub(crate) use endpoint::Silence;
pub use endpoint::{Endpoint, EndpointRule, EndpointRules};
pub(crate) use words::{Clock, milliseconds, segment, word_starts};
pub use words::{Segment, TimedToken, Word};
