//! Mel bands of Slaney's Auditory Toolbox (1998), which NeMo and Whisper share: triangles from 0 to
//! 8000 Hz, each of area one over frequency.

use realfft::num_complex::Complex;

const SAMPLE_RATE: f64 = 16_000.0;

/// One mel band.
#[derive(Debug)]
pub(super) struct Filter {
    /// First bin of the spectrum that it weighs.
    first: usize,
    weights: Vec<f32>,
}

impl Filter {
    /// Energy of a power spectrum in this band.
    pub(super) fn energy(&self, spectrum: &[Complex<f32>]) -> f32 {
        let power = spectrum.iter().skip(self.first).map(Complex::norm_sqr);
        self.weights
            .iter()
            .zip(power)
            .map(|(weight, power)| weight * power)
            .sum()
    }
}

/// The filters of so many bands over the spectrum of a Fourier transform of `fft` points.
pub(super) fn filters(bands: usize, fft: usize) -> Vec<Filter> {
    let top = mel(SAMPLE_RATE / 2.0);
    let corners: Vec<_> = (0..bands + 2)
        .map(|i| hertz(top * i as f64 / (bands + 1) as f64))
        .collect();
    let filter = |corners: &[f64]| {
        let weight = |bin: usize| {
            let frequency = bin as f64 * SAMPLE_RATE / fft as f64;
            let rising = (frequency - corners[0]) / (corners[1] - corners[0]);
            let falling = (corners[2] - frequency) / (corners[2] - corners[1]);
            rising.min(falling).max(0.0) * 2.0 / (corners[2] - corners[0])
        };
        let inside: Vec<_> = (0..=fft / 2).filter(|&bin| weight(bin) > 0.0).collect();
        let first = inside.first().copied().unwrap_or(0);
        Filter {
            first,
            weights: inside.into_iter().map(|bin| weight(bin) as f32).collect(),
        }
    };
    corners.windows(3).map(filter).collect()
}

/// Slaney's scale is linear below this frequency, 3 mel for 200 Hz, and logarithmic above.
const CORNER_HERTZ: f64 = 1000.0;
const CORNER_MEL: f64 = 15.0;

/// 27 mel are a factor of 6.4 in frequency.
fn log_step() -> f64 {
    6.4_f64.ln() / 27.0
}

/// A frequency on the mel scale.
pub(crate) fn mel(hertz: f64) -> f64 {
    if hertz < CORNER_HERTZ {
        hertz * CORNER_MEL / CORNER_HERTZ
    } else {
        CORNER_MEL + (hertz / CORNER_HERTZ).ln() / log_step()
    }
}

/// The frequency of a point of the mel scale.
pub(crate) fn hertz(mel: f64) -> f64 {
    if mel < CORNER_MEL {
        mel * CORNER_HERTZ / CORNER_MEL
    } else {
        CORNER_HERTZ * ((mel - CORNER_MEL) * log_step()).exp()
    }
}
