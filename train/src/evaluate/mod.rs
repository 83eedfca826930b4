//! How good a model is, and what is wrong with it.
//!
//! [`evaluate()`] decodes a set of utterances as a device would and counts errors in words and
//! characters; [`picture`] draws learning curves and attention maps; [`collapse`] and
//! [`spike_agreement`] show early what will come of a distillation.

mod batches;
mod decode;
mod diagnostics;
mod error;
pub mod picture;
mod result;
mod wer;

pub use decode::{Recogniser, texts};
pub use diagnostics::{Collapse, HiddenFrames, SpikeAgreement, collapse, spike_agreement};
pub use error::EvaluateError;
pub use result::{Row, Scored, Set, Settings, evaluate};
pub use wer::{ErrorCounts, character_errors, right_words, word_errors};
