//! Sound from files, raw samples and slices, at any rate, as a user of the library meets it.

#![allow(clippy::unwrap_used, missing_docs)]

#[cfg(feature = "files")]
mod files;
mod raw_samples;
mod resampling;

use std::f64::consts::TAU;

use sori::audio::Resampler;
use sori_tests::memory::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn tone(hertz: f64, rate: u32, seconds: f64) -> Vec<f32> {
    (0..(seconds * f64::from(rate)) as usize)
        .map(|n| (0.5 * (TAU * hertz * n as f64 / f64::from(rate)).sin()) as f32)
        .collect()
}

fn resample(samples: &[f32], rate: u32) -> Vec<f32> {
    let mut resampler = Resampler::new(rate).unwrap();
    let mut out = Vec::new();
    resampler.accept(samples, &mut out);
    resampler.finish(&mut out);
    out
}

/// Root mean square of the middle half, in decibels relative to `tone`.
fn level(samples: &[f32]) -> f64 {
    let middle = &samples[samples.len() / 4..samples.len() * 3 / 4];
    let power = middle.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / middle.len() as f64;
    10.0 * (power / 0.125).max(1e-20).log10()
}

/// Hertz of a pure tone, from its upward zero crossings.
fn pitch(samples: &[f32], rate: u32) -> f64 {
    let crossings: Vec<usize> = (1..samples.len())
        .filter(|&n| samples[n - 1] < 0.0 && samples[n] >= 0.0)
        .collect();
    let periods = (crossings.len() - 1) as f64;
    let length = (crossings[crossings.len() - 1] - crossings[0]) as f64;
    periods * f64::from(rate) / length
}
