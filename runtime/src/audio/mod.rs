//! Sources of sound: mono `f32` samples in `[-1, 1]`, in pieces, in bounded memory.
//!
//! Four sources give samples at the rate that the input has, and [`Resampler`] brings any of them
//! to the [`SAMPLE_RATE`] that the recogniser hears:
//!
//! | Source | Input | Feature |
//! |---|---|---|
//! | `AudioFile` | WAV, FLAC, MP3, Ogg Vorbis, Opus, M4A and other files | `files` |
//! | [`PcmReader`] | raw samples without a header, for example from a pipe | always there |
//! | `OpusPackets` | Opus packets without a container, for example of a call | `files` |
//! | `Microphone` | the sound system's input devices | `microphone` |
//!
//! Channels are averaged. Whoever has samples already needs none of the sources: convert with
//! [`i16_to_f32`] where they are integers, and resample.
//!
//! ```
//! use sori::audio::Resampler;
//!
//! // Half a second of silence at 44.1 kHz becomes half a second at 16 kHz.
//! let mut resampler = Resampler::new(44_100)?;
//! let mut samples = Vec::new();
//! resampler.accept(&vec![0.0; 22_050], &mut samples);
//! resampler.finish(&mut samples);
//! assert_eq!(samples.len(), 8_000);
//! # Ok::<(), sori::audio::AudioError>(())
//! ```

#[cfg(feature = "microphone")]
mod devices;
mod error;
#[cfg(feature = "files")]
mod file;
#[cfg(feature = "files")]
mod formats;
#[cfg(feature = "microphone")]
mod microphone;
mod mono;
#[cfg(feature = "files")]
mod opus;
mod pcm;
mod resample;
#[cfg(feature = "microphone")]
mod ring;

use std::ops::RangeInclusive;

#[cfg(feature = "microphone")]
pub use devices::{DeviceFormat, DeviceInfo, devices};
pub use error::AudioError;
#[cfg(feature = "files")]
pub use file::AudioFile;
#[cfg(feature = "microphone")]
pub use microphone::Microphone;
#[cfg(feature = "files")]
pub use opus::OpusPackets;
pub use pcm::{PcmFormat, PcmReader, i16_to_f32};
pub use resample::Resampler;

/// Samples per second that the features and the model are made for.
pub const SAMPLE_RATE: u32 = 16_000;

/// Sample rates in Hz that are read: telephone speech up to studio recordings.
///
/// Below 8 kHz too much of speech is missing; above 192 kHz is either not sound or a wrong header.
pub const SAMPLE_RATES: RangeInclusive<u32> = 8_000..=192_000;

/// Most channels that are mixed; more is a wrong argument or a broken header.
pub const MAX_CHANNELS: u16 = 64;

/// Refuses a rate that [`Resampler`] does not take, before anything is built on it.
fn check_rate(input: &str, rate: u32) -> Result<(), AudioError> {
    if SAMPLE_RATES.contains(&rate) {
        return Ok(());
    }
    Err(AudioError::UnsupportedRate {
        input: input.to_owned(),
        found: rate,
    })
}
