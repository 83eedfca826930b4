//! The telephone band.

use std::f64::consts::TAU;
use std::sync::LazyLock;

use realfft::RealFftPlanner;
use serde::{Deserialize, Serialize};

use super::convolution::convolve;
use super::replay;

const SAMPLE_RATE: f64 = sori::audio::SAMPLE_RATE as f64;
const TELEPHONE_RATE: u32 = 8000;
/// What a telephone line lets through, in Hz.
const BAND: [f64; 2] = [300.0, 3400.0];
/// Taps of the band's filter, odd; with a Blackman window its edges are 210 Hz wide.
const TAPS: usize = 421;
/// Of the 8-bit mu-law of ITU-T G.711.
const MU: f32 = 255.0;

/// Speech over a telephone line: 300 to 3400 Hz, 8 kHz, logarithmic 8-bit samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telephone {
    /// Default: 0.1.
    pub probability: f64,
}

impl Default for Telephone {
    fn default() -> Self {
        Self { probability: 0.1 }
    }
}

pub(super) fn apply(mut samples: Vec<f32>, fft: &mut RealFftPlanner<f32>) -> Vec<f32> {
    let length = samples.len();
    // The filter's delay is taken out again.
    let delay = TAPS / 2;
    samples.resize(length + delay, 0.0);
    convolve(&mut samples, &BAND_FILTER, fft);
    let line = samples[delay..]
        .iter()
        .step_by(2)
        .map(|&x| mu_law(x))
        .collect();
    let mut heard = replay(line, TELEPHONE_RATE);
    heard.truncate(length);
    heard
}

/// A sample after it went through 8 bits of mu-law:
/// `F(x) = sgn(x) ln(1 + mu |x|) / ln(1 + mu)`, rounded to 1/127, and back.
fn mu_law(sample: f32) -> f32 {
    let compressed = (MU * sample.abs().min(1.0)).ln_1p() / MU.ln_1p();
    let level = (compressed * 127.0).round() / 127.0;
    ((level * MU.ln_1p()).exp_m1() / MU).copysign(sample)
}

/// The difference of two ideal low-passes, under a Blackman window.
static BAND_FILTER: LazyLock<Vec<f32>> = LazyLock::new(|| {
    let low_pass = |edge: f64, time: f64| {
        let cycles = 2.0 * edge / SAMPLE_RATE;
        if time == 0.0 {
            cycles
        } else {
            (cycles * time * TAU / 2.0).sin() / (time * TAU / 2.0)
        }
    };
    (0..TAPS)
        .map(|tap| {
            let phase = TAU * (tap as f64 + 0.5) / TAPS as f64;
            let window = 0.42 - 0.5 * phase.cos() + 0.08 * (2.0 * phase).cos();
            let time = tap as f64 - (TAPS / 2) as f64;
            (window * (low_pass(BAND[1], time) - low_pass(BAND[0], time))) as f32
        })
        .collect()
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::augment::mean_square;

    #[test]
    fn a_telephone_passes_its_band_in_time_and_stops_the_rest() {
        let through = |hertz: f64| {
            let tone: Vec<f32> = (0..16_001)
                .map(|n| (0.25 * (TAU * hertz * f64::from(n) / SAMPLE_RATE).sin()) as f32)
                .collect();
            let heard = apply(tone.clone(), &mut RealFftPlanner::new());
            assert_eq!(heard.len(), tone.len());
            let error: Vec<f32> = heard.iter().zip(&tone).map(|(a, b)| a - b).collect();
            let middle = 1000..15_000;
            let db =
                |x: &[f32]| 10.0 * (mean_square(&x[middle.clone()]) / mean_square(&tone)).log10();
            (db(&heard), db(&error))
        };
        for hertz in [500.0, 1000.0, 3000.0] {
            let (level, error) = through(hertz);
            assert!(
                level.abs() < 0.2 && error < -30.0,
                "{hertz} Hz: {level}, {error} dB"
            );
        }
        for hertz in [100.0, 4500.0, 7000.0] {
            let (level, _) = through(hertz);
            assert!(level < -45.0, "{hertz} Hz: {level} dB");
        }
    }

    #[test]
    fn mu_law_has_255_levels_dense_near_zero() {
        let mut levels: Vec<u32> = (-20_000..=20_000)
            .map(|n| mu_law(n as f32 / 20_000.0).abs().to_bits())
            .collect();
        levels.sort_unstable();
        levels.dedup();
        assert_eq!(levels.len(), 128);
        assert_eq!(mu_law(0.0), 0.0);
        assert!((mu_law(1.0) - 1.0).abs() < 1e-6 && (mu_law(-3.0) + 1.0).abs() < 1e-6);
        assert!((mu_law(0.001) - 0.001).abs() < 2e-4);
    }
}
