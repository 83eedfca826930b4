//! Test tools of Sori: everything a test needs that is not itself under test.
//!
//! - [`tone`]: a tiny recogniser that hears pure tones as words, and the audio to go with it, so that
//!   a test can assert words, times, endpoints and log-probabilities exactly.
//! - [`chance`]: random numbers that are the same everywhere.
//! - [`hostile`]: input made to harm, from the fuzzer's corpora; [`memory`] bounds what it takes.
//! - [`skipped`] and [`not_for_this_machine`]: a test that is left out prints why.
//! - [`virtual_microphone`]: a microphone on a machine that has none, to play sound into.

#![deny(unsafe_code)]

pub mod chance;
pub mod hostile;
mod left_out;
#[allow(unsafe_code, reason = "an allocator can be replaced in no other way")]
pub mod memory;
pub mod tone;
pub mod virtual_microphone;

pub use left_out::{not_for_this_machine, skipped};
