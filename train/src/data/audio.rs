//! A manifest line's audio, as the models hear it: mono, 16 kHz, [-1, 1].

use std::path::PathBuf;
use std::sync::Arc;

use sori::audio::{AudioError, AudioFile, Resampler, SAMPLE_RATE};

use super::error::{AudioFault, DataError};
use super::manifest::Entry;

/// Seconds that audio may end before its line says: coders round to their frames.
const TOLERANCE: f64 = 0.25;

/// Samples in so many seconds at 16 kHz.
#[must_use]
pub fn samples_in(seconds: f64) -> usize {
    (seconds * f64::from(SAMPLE_RATE)).round() as usize
}

/// Reads an utterance: at most [`samples_in`] its duration.
///
/// # Errors
/// [`DataError::Audio`], which names the manifest's line: the file cannot be decoded as a whole, or
/// ends more than a quarter of a second too early.
pub fn read(entry: &Entry) -> Result<Vec<f32>, DataError> {
    read_part(entry, 0.0, entry.duration)
}

/// Reads `seconds` of an utterance from `start` seconds into it.
///
/// # Errors
/// As [`read`].
pub fn read_part(entry: &Entry, start: f64, seconds: f64) -> Result<Vec<f32>, DataError> {
    let read = || {
        let path = entry.path();
        let file = AudioFile::open(&path)?;
        decode(file, path, entry.offset + start, seconds)
    };
    read().map_err(|reason| fault(entry, reason))
}

/// Reads an utterance from the bytes of its file, which is called `name` in errors.
///
/// # Errors
/// As [`read`].
pub(super) fn read_bytes(
    entry: &Entry,
    bytes: Arc<[u8]>,
    name: PathBuf,
) -> Result<Vec<f32>, DataError> {
    let read = || {
        let file = AudioFile::from_bytes(bytes, &name.to_string_lossy())?;
        decode(file, name, entry.offset, entry.duration)
    };
    read().map_err(|reason| fault(entry, reason))
}

/// Samples of a part of a file at the file's own rate, and this.
pub(super) fn cut(entry: &Entry) -> Result<(Vec<f32>, u32), DataError> {
    let read = || {
        let path = entry.path();
        let mut file = AudioFile::open(&path)?;
        let sound = part(&mut file, path, entry.offset, entry.duration)?;
        Ok((sound, file.sample_rate()))
    };
    read().map_err(|reason| fault(entry, reason))
}

/// That something is wrong with the audio of a line.
pub(super) fn fault(entry: &Entry, reason: AudioFault) -> DataError {
    DataError::Audio {
        path: entry.manifest.to_path_buf(),
        line: entry.line,
        reason,
    }
}

fn decode(
    mut file: AudioFile,
    path: PathBuf,
    start: f64,
    seconds: f64,
) -> Result<Vec<f32>, AudioFault> {
    let sound = part(&mut file, path, start, seconds)?;
    let mut samples = resample(sound, file.sample_rate())?;
    samples.truncate(samples_in(seconds));
    Ok(samples)
}

/// `seconds` of a file from `start` seconds on, at its own rate.
fn part(
    file: &mut AudioFile,
    path: PathBuf,
    start: f64,
    seconds: f64,
) -> Result<Vec<f32>, AudioFault> {
    let rate = f64::from(file.sample_rate());
    let from = (start * rate).round() as usize;
    let wanted = (seconds * rate).round() as usize;

    let mut passed = 0;
    let mut sound = Vec::new();
    while sound.len() < wanted {
        let before = sound.len();
        if !file.read(&mut sound)? {
            break;
        }
        // Formats cannot all seek exactly, so what lies before the utterance is decoded as well.
        let superfluous = (from - passed).min(sound.len() - before);
        sound.drain(before..before + superfluous);
        passed += superfluous;
    }
    if file.skipped_packets() > 0 {
        return Err(AudioFault::Damaged {
            path,
            packets: file.skipped_packets(),
        });
    }
    let (found, expected) = ((passed + sound.len()) as f64 / rate, start + seconds);
    if sound.is_empty() || expected - found > TOLERANCE {
        return Err(AudioFault::Short {
            path,
            expected,
            found,
        });
    }
    sound.truncate(wanted);
    Ok(sound)
}

/// Hears `sound` as if it had been recorded at `rate` Hz.
pub(super) fn resample(sound: Vec<f32>, rate: u32) -> Result<Vec<f32>, AudioError> {
    if rate == SAMPLE_RATE {
        return Ok(sound);
    }
    let mut resampler = Resampler::new(rate)?;
    let mut samples = Vec::new();
    resampler.accept(&sound, &mut samples);
    resampler.finish(&mut samples);
    Ok(samples)
}
