//! WAV of every depth, and headers made by hand.

use std::io::Cursor;

use sori::audio::AudioFile;

use super::{as_file, from_bytes, read};
use crate::tone;

fn write<S: hound::Sample + Copy>(
    sample_format: hound::SampleFormat,
    bits_per_sample: u16,
    channels: u16,
    samples: &[S],
) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let spec = hound::WavSpec {
        channels,
        sample_rate: 48_000,
        bits_per_sample,
        sample_format,
    };
    let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
    for &sample in samples {
        writer.write_sample(sample).unwrap();
    }
    writer.finalize().unwrap();
    bytes.into_inner()
}

fn integers(bits: u16, samples: &[i32]) -> Vec<u8> {
    write(hound::SampleFormat::Int, bits, 1, samples)
}

fn floats(channels: u16, samples: &[f32]) -> Vec<u8> {
    write(hound::SampleFormat::Float, 32, channels, samples)
}

#[test]
fn all_depths_have_the_same_scale() {
    let original = tone(440.0, 48_000, 0.1);
    for bits in [8u16, 16, 24, 32] {
        let scale = f64::from(2u32.pow(u32::from(bits) - 1));
        let rounded: Vec<i32> = original
            .iter()
            .map(|&x| (f64::from(x) * scale).round() as i32)
            .collect();
        let samples = read(from_bytes(&integers(bits, &rounded)));
        assert_eq!(samples.len(), original.len());
        for (found, expected) in samples.iter().zip(&original) {
            let error = f64::from((found - expected).abs());
            assert!(
                error <= 0.5 / scale + 1e-7,
                "{bits} bits: {found}, {expected}"
            );
        }
    }
    assert_eq!(read(from_bytes(&floats(1, &original))), original);
}

#[test]
fn doubles_are_read() {
    let samples = [0.5f64, -0.25, 0.0];
    let data: Vec<u8> = samples.iter().flat_map(|x| x.to_le_bytes()).collect();
    let bytes = header(3, 1, 16_000, 64, data.len() as u32, &data);
    assert_eq!(read(from_bytes(&bytes)), [0.5, -0.25, 0.0]);
}

#[test]
fn channels_are_averaged() {
    let left = tone(440.0, 48_000, 0.1);
    let opposite: Vec<f32> = left.iter().flat_map(|&x| [x, -x]).collect();
    assert!(
        read(from_bytes(&floats(2, &opposite)))
            .iter()
            .all(|&x| x == 0.0)
    );
    let one_side: Vec<f32> = left.iter().flat_map(|&x| [x, 0.0]).collect();
    let half: Vec<f32> = left.iter().map(|x| x / 2.0).collect();
    assert_eq!(read(from_bytes(&floats(2, &one_side))), half);
    let six: Vec<f32> = left.iter().flat_map(|&x| [x; 6]).collect();
    for (found, expected) in read(from_bytes(&floats(6, &six))).iter().zip(&left) {
        assert!((found - expected).abs() < 1e-6);
    }
}

#[test]
fn what_is_not_a_number_becomes_silence() {
    let samples = [0.5, f32::NAN, f32::NEG_INFINITY, 0.25];
    assert_eq!(
        read(from_bytes(&floats(1, &samples))),
        [0.5, 0.0, 0.0, 0.25]
    );
}

#[test]
fn a_header_without_sound_is_a_file_of_no_length() {
    let mut file = from_bytes(&integers(16, &[])).unwrap();
    assert_eq!(file.sample_rate(), 48_000);
    assert!(!file.read(&mut Vec::new()).unwrap());
}

#[test]
fn sizes_that_a_recorder_could_not_fill_in_mean_to_the_end() {
    let samples: Vec<i32> = (0..48_000).map(|n| n % 1000).collect();
    let whole = integers(16, &samples);
    let expected = read(from_bytes(&whole));
    let sound = whole.windows(4).position(|at| at == b"data").unwrap() + 4;
    for file_size in [0, 36] {
        let mut bytes = whole.clone();
        bytes[4..8].copy_from_slice(&u32::to_le_bytes(file_size));
        bytes[sound..sound + 4].fill(0);
        assert_eq!(read(from_bytes(&bytes)), expected);
        let (_folder, path) = as_file(&bytes, "crashed.wav");
        assert_eq!(read(AudioFile::open(&path)), expected);
        let file = std::fs::File::open(&path).unwrap();
        assert_eq!(read(AudioFile::from_reader(file, "a pipe")), expected);
    }
    // A file that is finished and has no sound, but something behind it.
    let mut bytes = integers(16, &[]);
    bytes.extend(b"LIST\x04\0\0\0INFO");
    let size = u32::try_from(bytes.len() - 8).unwrap();
    bytes[4..8].copy_from_slice(&size.to_le_bytes());
    assert!(read(from_bytes(&bytes)).is_empty());
}

/// A WAV header that may lie, and the data after it.
pub(super) fn header(
    format: u16,
    channels: u16,
    rate: u32,
    bits: u16,
    length: u32,
    data: &[u8],
) -> Vec<u8> {
    let frame = channels.wrapping_mul(bits / 8);
    let mut bytes = b"RIFF".to_vec();
    bytes.extend(length.saturating_add(36).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16u32.to_le_bytes());
    bytes.extend(format.to_le_bytes());
    bytes.extend(channels.to_le_bytes());
    bytes.extend(rate.to_le_bytes());
    bytes.extend(rate.wrapping_mul(u32::from(frame)).to_le_bytes());
    bytes.extend(frame.to_le_bytes());
    bytes.extend(bits.to_le_bytes());
    bytes.extend(b"data");
    bytes.extend(length.to_le_bytes());
    bytes.extend(data);
    bytes
}
