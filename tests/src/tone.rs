//! The tone model: a streaming recogniser of pure tones, written by hand.
//!
//! It keeps the whole contract of a real model package (features, chunks, `length`, both caches and
//! the cache length all matter to its result), yet what it must say is known beforehand: each token
//! has a [`frequency`], and a tone of that frequency is that token. [`speak`] makes audio from a
//! script, [`expected`] tells which output frames must say what, [`ToneModel::write_package`] writes
//! the package and [`ToneModel::log_probs`] evaluates the model in plain Rust. [`SAMPLE`] is the
//! script of the audio that comes with a package.
//!
//! ```
//! use sori_tests::tone::{Sound, expected, speak, transcript};
//!
//! // "▁go" and "ing" make one word, "▁two" begins the next.
//! let script = [
//!     Sound::Silence(400),
//!     Sound::Token(3, 200),
//!     Sound::Token(5, 200),
//!     Sound::Silence(400),
//!     Sound::Token(1, 200),
//!     Sound::Silence(400),
//! ];
//! assert_eq!(speak(&script).len(), 16 * 1800);
//! assert_eq!(transcript(&script), "going two");
//!
//! let go = &expected(&script)[0];
//! assert_eq!(go.milliseconds, 400..600);
//! assert_eq!(go.frames, 11..16); // one output frame of delay
//! ```
//!
//! # How it hears
//!
//! From the 80 log-mels of one 10 ms frame, the contrast of token `k` is the mean log-mel at its
//! two bins minus the mean log-mel at the bins of the other tokens. Its presence is that contrast, clipped
//! linearly: none below [`CONTRAST_ABSENT`], full above [`CONTRAST_PRESENT`]. Every 4 frames (40 ms)
//! a score is the mean presence over the 4 new frames and the 4 before them (`cache_last_time`). The
//! scores of the last [`HISTORY`] outputs (`cache_last_channel`) are averaged in with weights 3, 2, 1
//! from new to old, over as many as `cache_last_channel_len` says are valid. The average times
//! [`TONE_LOGIT`] is the logit of a tone, [`BLANK_LOGIT`] that of the blank.
//!
//! A frame at or beyond `length` counts as zeros, whatever it holds.

mod graph;
mod package;
mod reference;
mod speech;

pub use graph::Precision;
pub use speech::{SAMPLE, Sound, Spoken, expected, speak, speak_at, transcript};
pub use tract_onnx::pb;

/// The symbols, in the order of their ids; the last is the blank.
pub const TOKENS: [&str; 9] = [
    "▁one", "▁two", "▁three", "▁go", "s", "ing", "▁소", "리", "<blk>",
];

/// The id of the blank, which is also the number of tones.
pub const BLANK: usize = TOKENS.len() - 1;

/// Mel bins of one feature frame.
pub const MEL_BINS: usize = 80;

/// Feature frames (10 ms) for one output frame (40 ms).
pub const SUBSAMPLING: usize = 4;

/// Feature frames of the past that travel in `cache_last_time`.
pub const PAST_FRAMES: usize = 4;

/// Output frames of the past that travel in `cache_last_channel`.
pub const HISTORY: usize = 2;

/// Log-mel contrast up to which a tone counts as absent. White noise stays below it.
pub const CONTRAST_ABSENT: f32 = 6.0;

/// Log-mel contrast from which on a tone counts as fully present. A tone of a tenth of
/// [`speak`]'s amplitude is still above it.
pub const CONTRAST_PRESENT: f32 = 10.0;

/// The logit of a tone that is fully present in all that the model hears: a posterior of 0.993.
pub const TONE_LOGIT: f32 = 12.0;

/// The constant logit of the blank: a posterior of 0.993 in silence. It is passed by a tone whose
/// average score is above 7/12, midway between the scores of two neighbouring output frames at a
/// tone's edge, so that tones on a 40 ms grid switch on and off at known output frames.
pub const BLANK_LOGIT: f32 = 7.0;

/// The share of the score that the frames of the overlap have, all together, relative to the 8
/// frames that each output hears without one.
const OVERLAP_WEIGHT: f32 = 0.5;

/// The lower of the two neighbouring mel bins between whose centres the tone of `token` lies.
fn mel_bin(token: usize) -> usize {
    assert!(
        token < BLANK,
        "token {token} has no tone: expected 0 to {}",
        BLANK - 1
    );
    28 + 5 * token
}

/// The frequency of the tone of `token`, in Hz: midway, in mel, between the centres of two of the 80
/// mel bins that Slaney's scale has from 0 to 8000 Hz. Tokens 0 to 6 lie between 1107 and 3503 Hz
/// and so survive 8 kHz audio; token 7 is at 4245 Hz.
///
/// # Panics
///
/// If `token` is the blank or not a token.
#[must_use]
pub fn frequency(token: usize) -> f64 {
    // Slaney's scale above 1000 Hz, which are 15 mel: 27 mel more are a factor of 6.4.
    let mel_per_log = 27.0 / 6.4_f64.ln();
    let step = (15.0 + mel_per_log * 8.0_f64.ln()) / (MEL_BINS + 1) as f64;
    let middle = (mel_bin(token) as f64 + 1.5) * step;
    1000.0 * ((middle - 15.0) / mel_per_log).exp()
}

/// The geometry of a tone model; everything else about it is fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToneModel {
    /// Feature frames by which one chunk moves on (`chunk_shift`): a multiple of [`SUBSAMPLING`].
    pub chunk_frames: usize,
    /// Feature frames after the chunk that the window shows ahead of time
    /// (`window_size - chunk_shift`). They take part in the scores with little weight.
    pub overlap_frames: usize,
}

impl Default for ToneModel {
    /// Chunks of 320 ms without overlap.
    fn default() -> Self {
        Self {
            chunk_frames: 32,
            overlap_frames: 0,
        }
    }
}

impl ToneModel {
    /// Feature frames in the window of one chunk.
    #[must_use]
    pub fn window_frames(&self) -> usize {
        self.chunk_frames + self.overlap_frames
    }

    /// Output frames of one chunk.
    #[must_use]
    pub fn chunk_outputs(&self) -> usize {
        self.chunk_frames / SUBSAMPLING
    }

    /// What each feature frame that one output hears adds to its score, from old to new:
    /// [`PAST_FRAMES`] before the output frame, [`SUBSAMPLING`] of its own, then the overlap.
    fn frame_weights(&self) -> Vec<f32> {
        let near = PAST_FRAMES + SUBSAMPLING;
        let mut weights = vec![1.0; near];
        weights.resize(
            near + self.overlap_frames,
            OVERLAP_WEIGHT / self.overlap_frames as f32,
        );
        let sum: f32 = weights.iter().sum();
        weights.iter().map(|weight| weight / sum).collect()
    }
}

/// How much the score of `lag` outputs ago counts in the average.
fn lag_weight(lag: usize) -> f32 {
    (HISTORY + 1 - lag) as f32
}
