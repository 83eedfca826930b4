//! What a NeMo model hears: the front-end of its `AudioToMelSpectrogramPreprocessor`, which is not
//! that of our own models.
//!
//! Pre-emphasis 0.97; 25 ms Hann window (symmetric) every 10 ms, centred, zeros outside; FFT 512;
//! power; mel bands of Slaney's Auditory Toolbox from 0 to 8000 Hz, each of area one; natural
//! logarithm of the band plus 2^-24; every band of an utterance shifted and scaled to mean zero and
//! variance one. No dither.

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

use super::slaney::{self, Filter};

const FFT: usize = 512;
const WINDOW: usize = 400;
const HOP: usize = 160;
const PREEMPHASIS: f32 = 0.97;
/// Added to a band before the logarithm.
const LOG_GUARD: f32 = 1.0 / (1 << 24) as f32;
/// Added to a band's standard deviation.
const DEVIATION_GUARD: f64 = 1e-5;

/// Samples to the features that a NeMo model was trained on.
pub struct NemoFeatures {
    window: Vec<f32>,
    filters: Vec<Filter>,
    fft: Arc<dyn RealToComplex<f32>>,
}

impl std::fmt::Debug for NemoFeatures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NemoFeatures")
            .field("bands", &self.filters.len())
            .finish_non_exhaustive()
    }
}

impl NemoFeatures {
    /// A front-end of so many mel bands.
    #[must_use]
    pub fn new(bands: usize) -> Self {
        let window = (0..WINDOW)
            .map(|n| {
                let phase = std::f64::consts::TAU * n as f64 / (WINDOW - 1) as f64;
                (0.5 - 0.5 * phase.cos()) as f32
            })
            .collect();
        Self {
            window,
            filters: slaney::filters(bands, FFT),
            fft: RealFftPlanner::new().plan_fft_forward(FFT),
        }
    }

    /// Mel bands of a frame.
    #[must_use]
    pub fn bands(&self) -> usize {
        self.filters.len()
    }

    /// Features of a whole utterance of 16 kHz mono samples in [-1, 1]: row-major (frames, bands)
    /// with `samples / 160` frames.
    #[must_use]
    pub fn features(&self, samples: &[f32]) -> Vec<f32> {
        let frames = samples.len() / HOP;
        let bands = self.filters.len();
        let mut features = Vec::with_capacity(frames * bands);
        let mut input = self.fft.make_input_vec();
        let mut spectrum = self.fft.make_output_vec();
        let mut scratch = self.fft.make_scratch_vec();
        for frame in 0..frames {
            self.frame(samples, frame * HOP, &mut input);
            // Fails on buffers of the wrong size only, and these are the plan's own.
            let done = self
                .fft
                .process_with_scratch(&mut input, &mut spectrum, &mut scratch);
            debug_assert!(done.is_ok());
            let bands = self.filters.iter().map(|filter| filter.energy(&spectrum));
            features.extend(bands.map(|energy| (energy + LOG_GUARD).ln()));
        }
        normalise(&mut features, bands);
        features
    }

    /// The windowed samples around `centre`; the window stands in the middle of the FFT.
    fn frame(&self, samples: &[f32], centre: usize, input: &mut [f32]) {
        input.fill(0.0);
        let windowed = &mut input[(FFT - WINDOW) / 2..][..WINDOW];
        for (n, (value, weight)) in windowed.iter_mut().zip(&self.window).enumerate() {
            if let Some(at) = (centre + n).checked_sub(WINDOW / 2) {
                *value = weight * emphasised(samples, at);
            }
        }
    }
}

fn emphasised(samples: &[f32], at: usize) -> f32 {
    match (samples.get(at), at.checked_sub(1)) {
        (Some(sample), Some(before)) => sample - PREEMPHASIS * samples[before],
        (Some(sample), None) => *sample,
        (None, _) => 0.0,
    }
}

/// Scales each column of row-major (frames, bands) by its mean and unbiased deviation.
fn normalise(features: &mut [f32], bands: usize) {
    let frames = features.len() / bands;
    for band in 0..bands {
        let column = || {
            features
                .iter()
                .skip(band)
                .step_by(bands)
                .map(|&value| f64::from(value))
        };
        let mean = column().sum::<f64>() / frames as f64;
        let squares: f64 = column().map(|value| (value - mean).powi(2)).sum();
        let deviation = (squares / (frames.max(2) - 1) as f64).sqrt() + DEVIATION_GUARD;
        for value in features.iter_mut().skip(band).step_by(bands) {
            *value = ((f64::from(*value) - mean) / deviation) as f32;
        }
    }
}
