//! One window of samples -> its power spectrum.

use std::f64::consts::PI;
use std::sync::{Arc, LazyLock};

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

use super::LogMel;

const FFT: usize = 512;
/// Bins of the power spectrum, 31.25 Hz each. The one at the Nyquist frequency is left out: no
/// filter reaches so far.
pub(super) const BINS: usize = FFT / 2;

const PRE_EMPHASIS: f32 = 0.97;

static TABLES: LazyLock<Tables> = LazyLock::new(|| Tables {
    window: std::array::from_fn(hann),
    fft: RealFftPlanner::new().plan_fft_forward(FFT),
});

struct Tables {
    window: [f32; LogMel::WINDOW],
    fft: Arc<dyn RealToComplex<f64>>,
}

/// Hann's window, periodic: its next value would be the first zero again.
fn hann(index: usize) -> f32 {
    let phase = 2.0 * PI * index as f64 / LogMel::WINDOW as f64;
    (0.5 - 0.5 * phase.cos()) as f32
}

/// Room to compute in.
#[derive(Clone)]
pub(super) struct Spectrum {
    signal: Vec<f64>,
    transform: Vec<Complex<f64>>,
    scratch: Vec<Complex<f64>>,
    power: [f32; BINS],
}

impl Spectrum {
    pub(super) fn new() -> Self {
        let fft = &TABLES.fft;
        Self {
            signal: fft.make_input_vec(),
            transform: fft.make_output_vec(),
            scratch: fft.make_scratch_vec(),
            power: [0.0; BINS],
        }
    }

    /// The power spectrum of a window: pre-emphasised, tapered, transformed, squared.
    ///
    /// In a loud and tonal frame the quiet bins hold 1e-10 of the loudest one's power; there, rounding
    /// nears the third decimal of the logarithm. Up to the transform, the reference's order of
    /// single-precision operations is therefore kept to the bit, and the transform, which has no order
    /// to follow, is computed in double precision: single precision would save little time and be off
    /// by 8e-4 for a chirp.
    pub(super) fn power(&mut self, samples: &[f32; LogMel::WINDOW]) -> &[f32; BINS] {
        let tables = &*TABLES;
        let emphasise = |sample: f32, before: f32| sample - PRE_EMPHASIS * before;

        let (signal, padding) = self.signal.split_at_mut(LogMel::WINDOW);
        // The sample before the first counts as the same as the first.
        signal[0] = f64::from(emphasise(samples[0], samples[0]) * tables.window[0]);
        let rest = samples[1..].iter().zip(samples).zip(&tables.window[1..]);
        for (out, ((&sample, &before), &weight)) in signal[1..].iter_mut().zip(rest) {
            *out = f64::from(emphasise(sample, before) * weight);
        }
        padding.fill(0.0);

        tables
            .fft
            .process_with_scratch(&mut self.signal, &mut self.transform, &mut self.scratch)
            .expect("the buffers come from the plan");
        for (power, bin) in self.power.iter_mut().zip(&self.transform) {
            let (re, im) = (bin.re as f32, bin.im as f32);
            *power = re * re + im * im;
        }
        &self.power
    }
}
