//! Power spectrum -> logarithms of mel-filter energies.

use std::f32::consts::{FRAC_1_SQRT_2, LN_2};
use std::ops::Range;
use std::sync::LazyLock;

use super::{LogMel, spectrum};

const NYQUIST: f32 = LogMel::SAMPLE_RATE as f32 / 2.0;

// Slaney's mel scale (Auditory Toolbox, 1998): linear up to 1000 Hz, which are 15 mel; from there on
// 27 mel are a factor of 6.4.
const LINEAR_HERTZ: f32 = 1000.0;
const LINEAR_MEL: f32 = 15.0;
const MEL_PER_LOG: f32 = 14.545_078; // 27 / ln 6.4
const LOG_PER_MEL: f32 = 0.068_751_775; // ln 6.4 / 27

/// Weights are summed in this many lanes: one vector register of SSE or NEON.
const LANES: usize = 4;

static FILTERS: LazyLock<Filters> = LazyLock::new(Filters::new);

/// Triangular filters, each over a few neighbouring bins of the power spectrum.
struct Filters {
    /// Of each filter: the first bin and its part of `weights`.
    spans: Vec<(usize, Range<usize>)>,
    weights: Vec<[f32; LANES]>,
}

impl Filters {
    fn new() -> Self {
        // In the reference's order of single-precision operations: a filter's outermost weights are
        // small differences between large numbers.
        let width = NYQUIST / spectrum::BINS as f32;
        let frequency = |bin: usize| width * bin as f32;
        let step = mel(NYQUIST) / (LogMel::BINS + 1) as f32;
        let mut filters = Self {
            spans: Vec::with_capacity(LogMel::BINS),
            weights: Vec::new(),
        };
        for filter in 0..LogMel::BINS {
            let [left, centre, right] = [0, 1, 2].map(|k| hertz((filter + k) as f32 * step));
            let weight = |bin: usize| {
                let rising = (frequency(bin) - left) / (centre - left);
                let falling = (right - frequency(bin)) / (right - centre);
                // Slaney's norm: every triangle has the same area.
                rising.min(falling) * (2.0 / (right - left))
            };
            let bins: Vec<usize> = (0..spectrum::BINS)
                .filter(|&bin| frequency(bin) > left && frequency(bin) < right)
                .collect();
            let groups = bins.len().div_ceil(LANES);
            // The padding must not reach past the spectrum.
            let first = bins[0].min(spectrum::BINS - groups * LANES);
            let begin = filters.weights.len();
            filters.weights.resize(begin + groups, [0.0; LANES]);
            for bin in bins {
                filters.weights[begin..].as_flattened_mut()[bin - first] = weight(bin);
            }
            filters.spans.push((first, begin..begin + groups));
        }
        filters
    }
}

/// The mel of a frequency above [`LINEAR_HERTZ`].
fn mel(frequency: f32) -> f32 {
    LINEAR_MEL + MEL_PER_LOG * f64::from(frequency / LINEAR_HERTZ).ln() as f32
}

/// The frequency, in Hz, of any point of the mel scale.
fn hertz(mel: f32) -> f32 {
    if mel <= LINEAR_MEL {
        LINEAR_HERTZ / LINEAR_MEL * mel
    } else {
        LINEAR_HERTZ * f64::from((mel - LINEAR_MEL) * LOG_PER_MEL).exp() as f32
    }
}

pub(super) fn log_mel(power: &[f32; spectrum::BINS]) -> [f32; LogMel::BINS] {
    let filters = &*FILTERS;
    let mut out = [0.0; LogMel::BINS];
    for (out, (first, weights)) in out.iter_mut().zip(&filters.spans) {
        let mut lanes = [0.0; LANES];
        let (power, _) = power[*first..].as_chunks::<LANES>();
        for (power, weights) in power.iter().zip(&filters.weights[weights.clone()]) {
            for lane in 0..LANES {
                lanes[lane] += power[lane] * weights[lane];
            }
        }
        *out = lanes.iter().sum();
    }
    out.map(|energy| {
        // Samples beyond 1e18 can overflow to infinity, and that lead to NaN, which is floored too.
        let floored = if energy > f32::EPSILON {
            energy
        } else {
            f32::EPSILON
        };
        ln(floored.min(f32::MAX))
    })
}

/// The natural logarithm of a positive, normal number; the error is below 2e-7 of the logarithm's
/// size, or of 1 where that is more.
///
/// Unlike `f32::ln` it gives the same bits on every machine, and a loop over it becomes vector
/// instructions. With x = 2^e m and m in [1/sqrt(2), sqrt(2)):
/// ln x = e ln 2 + 2 artanh s, where s = (m - 1) / (m + 1), and artanh s = s + s^3/3 + s^5/5 + ...
/// The first term left out is below 1e-9.
fn ln(x: f32) -> f32 {
    const MANTISSA_BITS: u32 = 23;
    let exponent = (x.to_bits() as i32 - FRAC_1_SQRT_2.to_bits() as i32) >> MANTISSA_BITS;
    let m = f32::from_bits((x.to_bits() as i32 - (exponent << MANTISSA_BITS)) as u32);
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let series = 1.0 + z * (1.0 / 3.0 + z * (1.0 / 5.0 + z * (1.0 / 7.0 + z * (1.0 / 9.0))));
    exponent as f32 * LN_2 + 2.0 * s * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ln_is_the_logarithm() {
        // A prime stride through all numbers from the floor to the ceiling.
        for bits in (f32::EPSILON.to_bits()..=f32::MAX.to_bits())
            .step_by(257)
            .chain([1.0_f32.to_bits(), f32::MAX.to_bits()])
        {
            let x = f32::from_bits(bits);
            let exact = f64::from(x).ln();
            let error = (f64::from(ln(x)) - exact).abs();
            assert!(
                error <= 2e-7 * exact.abs().max(1.0),
                "ln {x} = {exact}, not {}",
                ln(x)
            );
        }
        assert_eq!(ln(1.0), 0.0);
    }
}
