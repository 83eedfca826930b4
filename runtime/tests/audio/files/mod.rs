//! Sound files of every format.

mod hostile;
mod refused;
mod wav;

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sori::audio::{AudioError, AudioFile};

use crate::{level, pitch, resample};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/data/audio")
        .join(name)
}

fn bytes_of(name: &str) -> Vec<u8> {
    fs::read(data(name)).unwrap()
}

/// All samples, and how the reading ended.
fn drain(file: &mut AudioFile) -> (Vec<f32>, Result<(), AudioError>) {
    let mut samples = Vec::new();
    loop {
        match file.read(&mut samples) {
            Ok(true) => {}
            Ok(false) => return (samples, Ok(())),
            Err(error) => return (samples, Err(error)),
        }
    }
}

fn read(file: Result<AudioFile, AudioError>) -> Vec<f32> {
    let (samples, end) = drain(&mut file.unwrap());
    end.unwrap();
    samples
}

fn from_bytes(bytes: &[u8]) -> Result<AudioFile, AudioError> {
    AudioFile::from_reader(Cursor::new(bytes.to_vec()), "test")
}

/// As a file, which is read in another way than a stream.
fn as_file(bytes: &[u8], name: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// Seconds where a tone begins and ends.
fn bounds(samples: &[f32], rate: u32) -> (f64, f64) {
    let first = samples
        .iter()
        .position(|x| x.abs() > 0.25)
        .expect("no tone");
    let last = samples.iter().rposition(|x| x.abs() > 0.25).unwrap();
    (
        first as f64 / f64::from(rate),
        last as f64 / f64::from(rate),
    )
}

/// One second with a tone of 1 kHz from 0.25 s to 0.75 s, at 16 kHz, with this delay.
fn assert_is_the_tone(name: &str, samples: &[f32], delay: f64) {
    let (start, end) = bounds(samples, 16_000);
    assert!(
        (start - delay - 0.25).abs() < 0.003,
        "{name}: begins at {start} s"
    );
    assert!(
        (end - delay - 0.75).abs() < 0.003,
        "{name}: ends at {end} s"
    );
    let middle = &samples[(start * 16_000.0) as usize + 800..(end * 16_000.0) as usize - 800];
    let pitch = pitch(middle, 16_000);
    assert!((pitch - 1_000.0).abs() < 3.0, "{name}: {pitch} Hz");
    let level = level(middle);
    assert!(level.abs() < 1.0, "{name}: {level} dB");
}

/// Name, rate, length in seconds, delay in seconds that the file does not tell.
const TONES: [(&str, u32, f64, f64); 15] = [
    ("adpcm-ima.wav", 8_000, 1.0205, 0.0),
    ("adpcm-ms.wav", 8_000, 1.018, 0.0),
    ("alac.m4a", 16_000, 1.0, 0.0),
    ("alaw.wav", 8_000, 1.0, 0.0),
    ("mulaw.wav", 8_000, 1.0, 0.0),
    ("tone.aac", 44_100, 1.0449, 0.0232),
    ("tone.aiff", 8_000, 1.0, 0.0),
    ("tone.caf", 8_000, 1.0, 0.0),
    ("tone.flac", 22_050, 1.0, 0.0),
    ("tone.m4a", 44_100, 1.0449, 0.0232),
    ("tone.mkv", 22_050, 1.0, 0.0),
    ("tone.mp3", 44_100, 1.0, 0.0),
    ("tone.ogg", 44_100, 1.0, 0.0),
    ("tone.opus", 48_000, 1.0, 0.0),
    ("tone.webm", 48_000, 1.0135, 0.0),
];

#[test]
fn every_format_gives_the_tone_in_its_place() {
    for (name, rate, length, delay) in TONES {
        let mut file = AudioFile::open(data(name)).unwrap();
        assert_eq!(file.sample_rate(), rate, "{name}");
        if let Some(duration) = file.duration() {
            assert!(
                (duration - length).abs() < 0.03,
                "{name}: {duration} s claimed"
            );
        }
        let (samples, end) = drain(&mut file);
        end.unwrap();
        let seconds = samples.len() as f64 / f64::from(rate);
        assert!((seconds - length).abs() < 0.001, "{name}: {seconds} s");
        assert_eq!(file.skipped_packets(), 0, "{name}");
        assert_is_the_tone(name, &resample(&samples, rate), delay);
    }
}

#[test]
fn a_stream_gives_the_same_as_the_file() {
    for (name, ..) in TONES {
        let stream = from_bytes(&bytes_of(name));
        // These two are read from their ends, where a stream does not go.
        if name.ends_with(".m4a") || name.ends_with(".caf") {
            let error = stream.unwrap_err().to_string();
            assert!(error.contains("not from a pipe"), "{error}");
        } else {
            assert_eq!(read(stream), read(AudioFile::open(data(name))), "{name}");
        }
    }
}

#[test]
fn memory_gives_the_same_as_the_file_whole_or_not() {
    for (name, ..) in TONES {
        let bytes = bytes_of(name);
        for part in [&bytes[..], &bytes[..bytes.len() * 2 / 3]] {
            let (_folder, path) = as_file(part, "file");
            let from = |file: Result<AudioFile, AudioError>| {
                file.map(|mut file| (file.duration(), drain(&mut file).0))
                    .map_err(|error| std::mem::discriminant(&error))
            };
            let memory = AudioFile::from_bytes(Arc::<[u8]>::from(part), "test");
            assert_eq!(from(memory), from(AudioFile::open(path)), "{name}");
        }
    }
}

#[test]
fn the_name_of_a_file_means_nothing() {
    let (_folder, path) = as_file(&bytes_of("tone.flac"), "speech.mp3");
    assert_eq!(
        read(AudioFile::open(path)),
        read(AudioFile::open(data("tone.flac")))
    );
}

#[test]
fn the_first_track_that_can_be_decoded_is_heard() {
    let heard = read(AudioFile::open(data("two-tracks.mkv")));
    assert_eq!(heard, read(AudioFile::open(data("tone.mkv"))));
}
