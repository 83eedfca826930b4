//! What Whisper hears (Radford et al. 2022, arXiv 2212.04356, section 2.2).
//!
//! 25 ms periodic Hann window every 10 ms, centred, the signal reflected at both ends; FFT of 400
//! points; power; mel bands of Slaney's Auditory Toolbox; decimal logarithm of at least 1e-10; at most
//! eight below the utterance's maximum; plus four, by four.

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

use super::slaney::{self, Filter};

const WINDOW: usize = 400;
const HOP: usize = 160;
const FLOOR: f32 = 1e-10;
const RANGE: f32 = 8.0;

/// Samples to Whisper's log-mel frames.
pub struct WhisperFeatures {
    window: Vec<f32>,
    filters: Vec<Filter>,
    fft: Arc<dyn RealToComplex<f32>>,
}

impl std::fmt::Debug for WhisperFeatures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WhisperFeatures")
            .field("bands", &self.filters.len())
            .finish_non_exhaustive()
    }
}

impl WhisperFeatures {
    /// A front-end of so many mel bands: 80, or 128 for the newest large models.
    #[must_use]
    pub fn new(bands: usize) -> Self {
        let window = (0..WINDOW)
            .map(|n| {
                let phase = std::f64::consts::TAU * n as f64 / WINDOW as f64;
                (0.5 - 0.5 * phase.cos()) as f32
            })
            .collect();
        Self {
            window,
            filters: slaney::filters(bands, WINDOW),
            fft: RealFftPlanner::new().plan_fft_forward(WINDOW),
        }
    }

    /// Mel bands of a frame.
    #[must_use]
    pub fn bands(&self) -> usize {
        self.filters.len()
    }

    /// Features of a whole utterance of 16 kHz mono samples in [-1, 1]: row-major (frames, bands)
    /// with `samples / 160` frames. Nothing is padded to 30 seconds.
    #[must_use]
    pub fn features(&self, samples: &[f32]) -> Vec<f32> {
        let frames = samples.len() / HOP;
        let mut features = Vec::with_capacity(frames * self.filters.len());
        let mut input = self.fft.make_input_vec();
        let mut spectrum = self.fft.make_output_vec();
        let mut scratch = self.fft.make_scratch_vec();
        for frame in 0..frames {
            for (n, (value, weight)) in input.iter_mut().zip(&self.window).enumerate() {
                *value = weight * reflected(samples, (frame * HOP + n) as isize - 200);
            }
            // Fails on buffers of the wrong size only, and these are the plan's own.
            let done = self
                .fft
                .process_with_scratch(&mut input, &mut spectrum, &mut scratch);
            debug_assert!(done.is_ok());
            let bands = self.filters.iter().map(|filter| filter.energy(&spectrum));
            features.extend(bands.map(|energy| energy.max(FLOOR).log10()));
        }
        let top = features.iter().copied().fold(f32::MIN, f32::max);
        for value in &mut features {
            *value = (value.max(top - RANGE) + 4.0) / 4.0;
        }
        features
    }
}

/// The signal mirrored at its first and last sample, as often as needed.
fn reflected(samples: &[f32], at: isize) -> f32 {
    let last = samples.len() as isize - 1;
    let at = at.rem_euclid((2 * last).max(1));
    samples[if at > last { 2 * last - at } else { at } as usize]
}
