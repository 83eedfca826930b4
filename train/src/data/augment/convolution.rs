//! Convolution with long filters.

use realfft::RealFftPlanner;

/// Smallest transform: below it, its fixed costs weigh.
const SMALLEST: usize = 2048;

/// Convolves `signal` with `filter` in place: `y[n] = sum over k of h[k] x[n - k]`, as long as the
/// signal was. Blocks are transformed and overlapping ends added.
pub(super) fn convolve(signal: &mut [f32], filter: &[f32], planner: &mut RealFftPlanner<f32>) {
    if filter.is_empty() {
        return;
    }
    let size = (4 * filter.len()).next_power_of_two().max(SMALLEST);
    let block = size - filter.len() + 1;
    let forward = planner.plan_fft_forward(size);
    let inverse = planner.plan_fft_inverse(size);
    let mut time = forward.make_input_vec();
    let mut spectrum = forward.make_output_vec();
    let mut response = forward.make_output_vec();
    let mut scratch =
        vec![Default::default(); forward.get_scratch_len().max(inverse.get_scratch_len())];
    let forward_scratch = forward.get_scratch_len();
    let inverse_scratch = inverse.get_scratch_len();

    time[..filter.len()].copy_from_slice(filter);
    forward
        .process_with_scratch(&mut time, &mut response, &mut scratch[..forward_scratch])
        .expect("the buffers are the plan's own");
    let scale = 1.0 / size as f32;
    for bin in &mut response {
        *bin *= scale;
    }

    // What the blocks so far leave to the samples that follow.
    let mut tail = vec![0.0; filter.len() - 1];
    for piece in signal.chunks_mut(block) {
        time[..piece.len()].copy_from_slice(piece);
        time[piece.len()..].fill(0.0);
        forward
            .process_with_scratch(&mut time, &mut spectrum, &mut scratch[..forward_scratch])
            .expect("the buffers are the plan's own");
        for (bin, response) in spectrum.iter_mut().zip(&response) {
            *bin *= response;
        }
        inverse
            .process_with_scratch(&mut spectrum, &mut time, &mut scratch[..inverse_scratch])
            .expect("the spectrum of real signals is real at both ends");
        for (sample, before) in time.iter_mut().zip(&tail) {
            *sample += before;
        }
        piece.copy_from_slice(&time[..piece.len()]);
        tail.copy_from_slice(&time[piece.len()..][..filter.len() - 1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::chance::{shuffling, white};

    #[test]
    fn equals_the_sum_of_its_definition() {
        let mut rng = shuffling(3, 0, 0);
        // Several blocks; one block; a signal shorter than the filter.
        for (samples, taps) in [(6000, 300), (900, 7), (40, 90), (5, 1)] {
            let signal = white(&mut rng, samples);
            let filter = white(&mut rng, taps);
            let mut result = signal.clone();
            convolve(&mut result, &filter, &mut RealFftPlanner::new());
            for (n, result) in result.iter().enumerate() {
                let expected: f32 = filter
                    .iter()
                    .zip(signal[..=n].iter().rev())
                    .map(|(h, x)| h * x)
                    .sum();
                assert!(
                    (result - expected).abs() < 1e-4,
                    "{samples}, {taps}: sample {n}"
                );
            }
        }
    }
}
