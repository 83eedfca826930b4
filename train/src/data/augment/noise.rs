//! Noise: recorded, coloured, or other people talking.

use std::path::PathBuf;

use rand::RngExt;
use rand::rngs::StdRng;
use realfft::RealFftPlanner;
use realfft::num_complex::Complex;
use serde::{Deserialize, Serialize};

use super::{amplitude, mean_square};
use crate::data::audio::read_part;
use crate::data::chance::{require_probability, require_range, white, within};
use crate::data::corpus::Corpus;
use crate::data::error::DataError;
use crate::data::manifest::Entry;

/// Most samples of coloured noise that are made at once (16 s); longer utterances hear it again.
const LONGEST_COLOURED: usize = 1 << 18;

/// People who talk at once in babble.
const TALKERS: std::ops::RangeInclusive<usize> = 3..=7;

/// Noise added at a drawn ratio of signal to noise, both measured over the whole utterance.
///
/// The three shares are relative to each other and say how often each kind of noise is taken. A kind
/// that there is no material for is left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Noise {
    /// Default: 0.5.
    pub probability: f64,
    /// Signal over noise, in decibels. Default: 0 to 30.
    pub snr_db: [f64; 2],
    /// Manifests of recorded noise. Default: none.
    pub manifests: Vec<PathBuf>,
    /// Share of recorded noise. Default: 0.7.
    pub recorded: f64,
    /// Share of coloured noise, whose power falls with frequency as `f^-c`, `c` from 0 (white) over
    /// 1 (pink) to 2 (brown). Default: 0.15.
    pub coloured: f64,
    /// Share of babble: three to seven other utterances at once, of those that have files of
    /// their own. Default: 0.15.
    pub babble: f64,
}

impl Default for Noise {
    fn default() -> Self {
        Self {
            probability: 0.5,
            snr_db: [0.0, 30.0],
            manifests: Vec::new(),
            recorded: 0.7,
            coloured: 0.15,
            babble: 0.15,
        }
    }
}

impl Noise {
    pub(super) fn validate(&self) -> Result<(), DataError> {
        require_probability("augmentation.noise.probability", self.probability)?;
        require_range("augmentation.noise.snr_db", self.snr_db, [-30.0, 100.0])?;
        require_probability("augmentation.noise.recorded", self.recorded)?;
        require_probability("augmentation.noise.coloured", self.coloured)?;
        require_probability("augmentation.noise.babble", self.babble)
    }

    /// Noise for so many samples, at any level; empty if there is none to be had.
    pub(super) fn draw(
        &self,
        samples: usize,
        noises: &[Entry],
        talkers: &Corpus,
        fft: &mut RealFftPlanner<f32>,
        rng: &mut StdRng,
    ) -> Result<Vec<f32>, DataError> {
        let share = |share: f64, there: bool| if there { share } else { 0.0 };
        let recorded = share(self.recorded, !noises.is_empty());
        let babble = share(self.babble, talkers.files() > 0);
        let choice = within(rng, [0.0, recorded + babble + self.coloured]);
        if choice < recorded {
            let noise = &noises[rng.random_range(0..noises.len())];
            let room = (noise.duration - samples as f64 / SAMPLES_PER_SECOND).max(0.0);
            part(noise, within(rng, [0.0, room]), samples)
        } else if choice < recorded + babble {
            let mut sum = vec![0.0; samples];
            for _ in 0..rng.random_range(TALKERS) {
                let talker = talkers.file(rng.random_range(0..talkers.files()))?;
                let speech = part(&talker, 0.0, samples)?;
                let level = mean_square(&speech).sqrt() as f32;
                if level > 0.0 {
                    // Nobody starts at the same moment.
                    let start = rng.random_range(0..samples.max(1));
                    let late = speech.iter().cycle().skip(start);
                    sum.iter_mut()
                        .zip(late)
                        .for_each(|(sum, x)| *sum += x / level);
                }
            }
            Ok(sum)
        } else if self.coloured > 0.0 {
            let noise = coloured(samples.min(LONGEST_COLOURED), fft, rng);
            Ok(noise.into_iter().cycle().take(samples).collect())
        } else {
            Ok(Vec::new())
        }
    }

    /// Adds noise at a drawn ratio. Where either of the two is silent, nothing is added.
    pub(super) fn mix(&self, samples: &mut [f32], noise: &[f32], rng: &mut StdRng) {
        let snr = within(rng, self.snr_db);
        let (signal_power, noise_power) = (mean_square(samples), mean_square(noise));
        if signal_power == 0.0 || noise_power == 0.0 {
            return;
        }
        let factor = amplitude(-snr) * (signal_power / noise_power).sqrt() as f32;
        for (sample, noise) in samples.iter_mut().zip(noise) {
            *sample += factor * noise;
        }
    }
}

const SAMPLES_PER_SECOND: f64 = sori::audio::SAMPLE_RATE as f64;

/// `samples` of a recording from `start` seconds on, again and again if it is shorter.
fn part(entry: &Entry, start: f64, samples: usize) -> Result<Vec<f32>, DataError> {
    let seconds = (samples as f64 / SAMPLES_PER_SECOND).min(entry.duration - start);
    let sound = read_part(entry, start, seconds)?;
    Ok(sound.into_iter().cycle().take(samples).collect())
}

/// Noise whose power falls with frequency: white noise is shaped in the frequency domain.
fn coloured(samples: usize, planner: &mut RealFftPlanner<f32>, rng: &mut StdRng) -> Vec<f32> {
    let exponent = within(rng, [0.0, 2.0]) as f32;
    let size = samples.next_power_of_two().max(2);
    let inverse = planner.plan_fft_inverse(size);
    let mut spectrum = inverse.make_input_vec();
    let parts = white(rng, 2 * spectrum.len());
    // Below 50 Hz a microphone hears little: the spectrum is flat there, not endless.
    let corner = ((50.0 * size as f64 / SAMPLES_PER_SECOND) as usize).max(1);
    for (bin, (value, part)) in spectrum.iter_mut().zip(parts.chunks_exact(2)).enumerate() {
        let level = (bin.max(corner) as f32).powf(-exponent / 2.0);
        *value = Complex::new(part[0] * level, part[1] * level);
    }
    // A real signal's spectrum is real at both ends.
    let last = spectrum.len() - 1;
    spectrum[0] = Complex::default();
    spectrum[last].im = 0.0;
    let mut noise = inverse.make_output_vec();
    inverse
        .process(&mut spectrum, &mut noise)
        .expect("the buffers are the plan's own, the ends are real");
    noise.truncate(samples);
    noise
}
