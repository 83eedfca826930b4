//! From any rate to 16 kHz.

use std::f64::consts::TAU;

use proptest::prelude::*;
use sori::audio::{AudioError, Resampler};
use sori_tests::memory::allocations;

use crate::{level, pitch, resample, tone};

const RATES: [u32; 12] = [
    8_000, 11_025, 12_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000,
];

#[test]
fn sixteen_kilohertz_pass_untouched() {
    let samples = tone(440.0, 16_000, 0.1);
    assert_eq!(resample(&samples, 16_000), samples);
    assert_eq!(Resampler::new(16_000).unwrap().latency(), 0.0);
}

#[test]
fn the_pass_band_is_flat() {
    for rate in RATES {
        let top = (f64::from(rate) * 0.45).min(7_600.0);
        for hertz in [101.0, 1_003.0, 3_407.0, top * 0.95, top] {
            let out = resample(&tone(hertz, rate, 2.0), rate);
            let level = level(&out);
            assert!(level.abs() < 0.5, "{hertz} Hz at {rate}: {level} dB");
            let pitch = pitch(&out, 16_000);
            assert!(
                (pitch / hertz - 1.0).abs() < 0.005,
                "{hertz} Hz at {rate}: {pitch} Hz"
            );
        }
    }
}

#[test]
fn what_is_above_eight_kilohertz_does_not_come_back_below() {
    for rate in RATES {
        for hertz in [
            8_201.0, 9_013.0, 10_000.0, 12_345.0, 19_999.0, 40_007.0, 90_001.0,
        ] {
            if hertz < f64::from(rate) / 2.0 {
                let level = level(&resample(&tone(hertz, rate, 2.0), rate));
                assert!(level < -80.0, "{hertz} Hz at {rate}: {level} dB");
            }
        }
    }
}

#[test]
fn images_of_low_rates_are_removed() {
    // 3 kHz at 8 kHz would also be seen as 5 kHz.
    let out = resample(&tone(3_000.0, 8_000, 2.0), 8_000);
    let middle = &out[8_000..24_000];
    let project = |hertz: f64| {
        let (mut re, mut im) = (0.0, 0.0);
        for (n, &x) in middle.iter().enumerate() {
            let angle = TAU * hertz * n as f64 / 16_000.0;
            re += f64::from(x) * angle.cos();
            im += f64::from(x) * angle.sin();
        }
        (re * re + im * im).sqrt() * 2.0 / middle.len() as f64
    };
    assert!((project(3_000.0) - 0.5).abs() < 0.01);
    assert!(project(5_000.0) < 0.5e-4);
}

#[test]
fn sound_keeps_its_time() {
    for rate in RATES {
        for at in [0.0, 0.1234, 0.5, 0.99] {
            let mut samples = vec![0.0; rate as usize];
            let position = (at * f64::from(rate)) as usize;
            samples[position] = 1.0;
            let out = resample(&samples, rate);
            let peak = (0..out.len())
                .max_by(|&a, &b| out[a].total_cmp(&out[b]))
                .unwrap();
            let expected = position as f64 * 16_000.0 / f64::from(rate);
            let error = peak as f64 - expected;
            assert!(error.abs() <= 1.0, "{rate}: at {peak}, expected {expected}");
        }
    }
}

#[test]
fn the_length_is_rounded_to_the_nearest_sample() {
    for rate in RATES {
        for length in [0, 1, 2, 3, 100, 441, 1_001, 44_099] {
            let expected = (length as f64 * 16_000.0 / f64::from(rate)).round() as usize;
            let out = resample(&vec![0.1; length], rate);
            assert_eq!(out.len(), expected, "{length} at {rate}");
        }
    }
}

#[test]
fn sound_comes_out_within_the_latency() {
    for (rate, latency) in [
        (48_000, 0.0225),
        (44_100, 0.03),
        (8_000, 0.045),
        (96_000, 0.0225),
    ] {
        let mut resampler = Resampler::new(rate).unwrap();
        assert_eq!(resampler.latency(), latency, "{rate}");
        let (mut taken, mut out, mut worst) = (0, Vec::new(), 0.0f64);
        for _ in 0..2_000 {
            // Before each piece is when most has been taken for what is out.
            let behind = f64::from(taken) / f64::from(rate) - out.len() as f64 / 16_000.0;
            worst = worst.max(behind);
            resampler.accept(&[0.0; 37], &mut out);
            taken += 37;
        }
        assert!(worst <= latency, "{rate}: {worst} s");
        assert!(worst > latency * 0.9, "{rate}: {worst} s");
    }
}

#[test]
fn a_rate_that_divides_by_nothing_works() {
    let out = resample(&tone(1_000.0, 47_999, 3.0), 47_999);
    assert_eq!(out.len(), 48_000);
    assert!(level(&out).abs() < 0.1);
    assert!((pitch(&out, 16_000) - 1_000.0).abs() < 1.0);
}

#[test]
fn after_the_end_it_begins_anew() {
    let samples = tone(700.0, 44_100, 0.3);
    let mut resampler = Resampler::new(44_100).unwrap();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    resampler.accept(&samples, &mut first);
    resampler.finish(&mut first);
    resampler.accept(&samples, &mut second);
    resampler.finish(&mut second);
    assert_eq!(first, second);
}

#[test]
fn nothing_is_allocated_once_warm() {
    for rate in [8_000, 44_100, 48_000] {
        let mut resampler = Resampler::new(rate).unwrap();
        let samples = tone(500.0, rate, 1.0);
        let mut out = Vec::with_capacity(20_000);
        let before = allocations();
        for piece in samples.chunks(333) {
            resampler.accept(piece, &mut out);
        }
        resampler.finish(&mut out);
        assert_eq!(allocations(), before, "{rate}");
    }
}

#[test]
fn rates_out_of_range_are_refused() {
    for rate in [0, 1, 7_999, 192_001, u32::MAX] {
        let error = Resampler::new(rate).unwrap_err();
        assert!(matches!(error, AudioError::UnsupportedRate { found, .. } if found == rate));
        let message = error.to_string();
        assert!(message.contains(&rate.to_string()), "{message}");
        assert!(message.contains("8000 to 192000 Hz"), "{message}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pieces_of_any_size_give_the_same_bits(
        rate in prop::sample::select(&RATES[..]),
        samples in prop::collection::vec(-1.0f32..1.0, 0..6_000),
        sizes in prop::collection::vec(1usize..2_000, 1..20),
    ) {
        let whole = resample(&samples, rate);
        let mut resampler = Resampler::new(rate).unwrap();
        let (mut pieces, mut rest) = (Vec::new(), &samples[..]);
        for size in sizes.into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at(size.min(rest.len()));
            resampler.accept(now, &mut pieces);
            rest = later;
        }
        resampler.finish(&mut pieces);
        prop_assert_eq!(whole, pieces);
    }
}
