//! Log-mel features against the reference's, and the promises of the incremental interface.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use sori::features::{LogMel, frame_count, log_mel};
use sori_tests::memory::{Counting, allocations};

/// A hundred times stricter than what models need, so that a loss of precision shows.
const TOLERANCE: f32 = 1e-5;

fn tests_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests")
}

fn read_f32(name: &str) -> Vec<f32> {
    let path = tests_folder().join("golden/fbank").join(name);
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (values, rest) = bytes.as_chunks();
    assert!(rest.is_empty(), "{} is cut short", path.display());
    values.iter().copied().map(f32::from_le_bytes).collect()
}

fn signal(name: &str) -> Vec<f32> {
    read_f32(&format!("{name}.samples.f32"))
}

fn clip() -> Vec<f32> {
    let mut reader = hound::WavReader::open(tests_folder().join("data/jfk.wav")).unwrap();
    reader
        .samples::<i16>()
        .map(|sample| f32::from(sample.unwrap()) / 32_768.0)
        .collect()
}

#[track_caller]
fn assert_golden(name: &str, samples: &[f32]) {
    let golden = read_f32(&format!("{name}.log-mel.f32"));
    let frames = log_mel(samples);
    assert_eq!(
        frames.len(),
        golden.len(),
        "{name}: number of values, 80 in a frame"
    );
    for (index, (&ours, &theirs)) in frames.iter().zip(&golden).enumerate() {
        let (frame, bin) = (index / LogMel::BINS, index % LogMel::BINS);
        assert!(
            (ours - theirs).abs() <= TOLERANCE,
            "{name}, frame {frame}, bin {bin}: {ours}, but the reference has {theirs}"
        );
    }
}

#[test]
fn speech_as_in_the_reference() {
    assert_golden("jfk", &clip());
}

#[test]
fn synthetic_signals_as_in_the_reference() {
    for name in [
        "noise",
        "noise-quiet",
        "noise-on-offset",
        "silence",
        "chirp",
        "tone",
        "square",
    ] {
        assert_golden(name, &signal(name));
    }
}

#[test]
fn short_signals_as_in_the_reference() {
    let noise = signal("noise");
    for length in [
        1, 79, 80, 81, 239, 240, 279, 280, 281, 399, 400, 401, 439, 440, 441, 559, 560, 561,
    ] {
        assert_golden(&format!("noise-{length}"), &noise[..length]);
    }
}

#[test]
fn frame_count_is_what_comes_out() {
    for length in 0..2_000 {
        assert_eq!(frame_count(length), (length + 80) / 160);
        assert_eq!(
            log_mel(&vec![0.5; length]).len(),
            frame_count(length) * LogMel::BINS,
            "{length} samples"
        );
    }
    assert_eq!(frame_count(usize::MAX), usize::MAX / 160 + 1);
}

#[test]
fn a_frame_comes_with_its_last_sample() {
    let samples = signal("noise");
    let mut stream = LogMel::new();
    let mut frames = Vec::new();
    for (index, &sample) in samples.iter().enumerate() {
        stream.accept(&[sample], &mut frames);
        let complete = (index + 1).saturating_sub(120) / 160;
        assert_eq!(
            frames.len(),
            complete * LogMel::BINS,
            "after {} samples",
            index + 1
        );
    }
    stream.finish(&mut frames);
    assert_same_bits(&frames, &log_mel(&samples));
}

#[test]
fn a_stream_leaves_nothing_to_the_next() {
    let (noise, chirp) = (signal("noise"), signal("chirp"));
    let mut stream = LogMel::new();
    for length in [0, 1, 100, 279, 280, 399, 1_000] {
        stream.accept(&noise[..length], &mut Vec::new());
        stream.reset();
        for _ in 0..2 {
            let mut frames = Vec::new();
            stream.accept(&chirp, &mut frames);
            stream.finish(&mut frames);
            assert_same_bits(&frames, &log_mel(&chirp));
        }
    }
}

#[test]
fn samples_that_are_not_finite_count_as_zero() {
    let mut zeroed = signal("noise");
    let mut spoilt = zeroed.clone();
    for (index, bad) in [
        (0, f32::NAN),
        (777, f32::INFINITY),
        (778, f32::NEG_INFINITY),
        (7_999, -f32::NAN),
    ] {
        spoilt[index] = bad;
        zeroed[index] = 0.0;
    }
    assert_same_bits(&log_mel(&spoilt), &log_mel(&zeroed));
}

#[test]
fn absurdly_loud_samples_do_not_outlast_their_windows() {
    let clean = signal("noise");
    for loud in [1e9, 1e18, 1e20, f32::MAX] {
        let mut samples = clean.clone();
        samples[4_000..4_003].copy_from_slice(&[loud, -loud, loud]);
        let frames = log_mel(&samples);
        assert!(frames.iter().all(|value| value.is_finite()), "{loud}");
        // Frames 23 to 26 hear them.
        let expected = log_mel(&clean);
        assert_same_bits(&frames[..23 * 80], &expected[..23 * 80]);
        assert_same_bits(&frames[27 * 80..], &expected[27 * 80..]);
    }
}

proptest! {
    #[test]
    fn pieces_of_any_size_give_the_same_bits(
        length in 0..4_000_usize,
        sizes in proptest::collection::vec(prop_oneof![0..3_usize, 0..700_usize], 1..50),
    ) {
        let samples = &clip()[30_000..][..length];
        let mut stream = LogMel::new();
        let mut frames = Vec::new();
        let mut rest = samples;
        for size in sizes {
            let (piece, later) = rest.split_at(size.min(rest.len()));
            stream.accept(piece, &mut frames);
            rest = later;
        }
        stream.accept(rest, &mut frames);
        stream.finish(&mut frames);
        assert_same_bits(&frames, &log_mel(samples));
    }

    #[test]
    fn whatever_goes_in_what_comes_out_is_finite(
        bits in proptest::collection::vec(any::<u32>(), 0..1_000),
    ) {
        let samples: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        let frames = log_mel(&samples);
        prop_assert_eq!(frames.len(), frame_count(samples.len()) * LogMel::BINS);
        prop_assert!(frames.iter().all(|value| value.is_finite()));
    }
}

#[test]
fn nothing_is_allocated_once_warm() {
    let samples = signal("noise");
    let mut stream = LogMel::new();
    let mut frames = Vec::with_capacity(2 * frame_count(samples.len()) * LogMel::BINS);
    stream.accept(&samples, &mut frames);
    stream.finish(&mut frames);
    let before = allocations();
    for piece in samples.chunks(333) {
        stream.accept(piece, &mut frames);
    }
    stream.finish(&mut frames);
    assert_eq!(allocations() - before, 0);
    // That allocations are counted at all:
    drop(std::hint::black_box(vec![0_u8; 10]));
    assert_eq!(allocations() - before, 1);
}

#[track_caller]
fn assert_same_bits(left: &[f32], right: &[f32]) {
    assert_eq!(left.len(), right.len(), "number of values");
    let differs = left
        .iter()
        .zip(right)
        .position(|(a, b)| a.to_bits() != b.to_bits());
    if let Some(index) = differs {
        panic!("value {index}: {} and {}", left[index], right[index]);
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
