//! Test tools of Sori: everything a test needs that is not itself under test.
//!
//! - [`tone`]: a tiny recogniser that hears pure tones as words, and the audio to go with it, so that
//!   a test can assert words, times, endpoints and log-probabilities exactly.
//! - [`virtual_microphone`]: a microphone on a machine that has none, to play sound into.

pub mod tone;
pub mod virtual_microphone;
