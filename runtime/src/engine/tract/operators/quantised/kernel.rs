//! Products by 8-bit matrices on x86-64 with AVX2.
//!
//! tract's own product of bytes is eight times slower there than its floats: see docs/performance.md. This one
//! widens both sides to 16 bits, so that no sum can overflow, and adds products in pairs (`vpmaddwd`).

#![expect(unsafe_code, reason = "instructions that not every processor has")]

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_add_epi32, _mm256_cvtepi8_epi16, _mm256_madd_epi16,
    _mm256_set1_epi32, _mm256_setzero_si256,
};

use crate::engine::tract::operators::processor::Avx2;

/// Columns of a panel, the part of a matrix that a tile is computed with.
const COLUMNS: usize = 16;
/// Rows of a tile: 4 x 16 sums fill half of the registers.
const ROWS: usize = 4;

/// Two inputs of sixteen outputs: (w[k][c], w[k + 1][c]) for every column c.
type Pair = [i8; 2 * COLUMNS];

/// A matrix (inputs, outputs) of weights, in panels of 16 columns, padded with zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Weights {
    inputs: usize,
    outputs: usize,
    /// For each panel, for each pair of inputs.
    panels: Vec<Pair>,
}

impl Weights {
    /// Packs a row-major matrix.
    pub(super) fn new(matrix: &[i8], inputs: usize, outputs: usize) -> Self {
        assert_eq!(matrix.len(), inputs * outputs, "the shape of a matrix");
        let weight = |input: usize, output: usize| {
            let inside = input < inputs && output < outputs;
            if inside {
                matrix[input * outputs + output]
            } else {
                0
            }
        };
        let pairs = inputs.div_ceil(2);
        let panels = (0..outputs.div_ceil(COLUMNS) * pairs)
            .map(|index| {
                let (panel, pair) = (index / pairs, index % pairs);
                std::array::from_fn(|n| weight(2 * pair + n % 2, panel * COLUMNS + n / 2))
            })
            .collect();
        Self {
            inputs,
            outputs,
            panels,
        }
    }

    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// `out = quantised(x) * weights * scales + bias`, for row-major `x` (rows, inputs) and `out` (rows, outputs).
    ///
    /// `x` is quantised as ONNX's `DynamicQuantizeLinear` does. `scales` and `bias` hold a value for each output.
    pub(super) fn product(
        &self,
        _: Avx2,
        x: &[f32],
        scales: &[f32],
        bias: Option<&[f32]>,
        out: &mut [f32],
    ) {
        assert_eq!(scales.len(), self.outputs, "a scale for each output");
        assert!(
            bias.is_none_or(|bias| bias.len() == self.outputs),
            "a bias for each output"
        );
        assert_eq!(
            x.len() * self.outputs,
            out.len() * self.inputs,
            "as many rows"
        );
        if out.is_empty() {
            return;
        }
        // SAFETY: an `Avx2` is only had where the processor has it.
        unsafe { product(self, x, scales, bias, out) }
    }
}

#[target_feature(enable = "avx2")]
fn product(weights: &Weights, x: &[f32], scales: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
    let Weights {
        inputs, outputs, ..
    } = *weights;
    let pairs = inputs.div_ceil(2);
    let (activations, scale) = quantise(x, inputs);
    let rows = activations.len() / pairs;
    for (number, panel) in weights.panels.chunks_exact(pairs).enumerate() {
        let start = number * COLUMNS;
        let columns = start..outputs.min(start + COLUMNS);
        let mut factors = [0.0; COLUMNS];
        let mut offsets = [0.0; COLUMNS];
        for (factor, own) in factors.iter_mut().zip(&scales[columns.clone()]) {
            *factor = scale * own;
        }
        if let Some(bias) = bias {
            offsets[..columns.len()].copy_from_slice(&bias[columns.clone()]);
        }
        let mut row = 0;
        while row < rows {
            let block = &activations[row * pairs..];
            let out = &mut out[row * outputs..];
            if rows - row >= ROWS {
                let (ab, cd) = block[..ROWS * pairs].split_at(2 * pairs);
                let ((a, b), (c, d)) = (ab.split_at(pairs), cd.split_at(pairs));
                let sums = tile([a, b, c, d], panel);
                for (sums, out) in sums.iter().zip(out.chunks_exact_mut(outputs)) {
                    write(sums, &factors, &offsets, &mut out[columns.clone()]);
                }
                row += ROWS;
            } else {
                let [sums] = tile([&block[..pairs]], panel);
                write(&sums, &factors, &offsets, &mut out[columns.clone()]);
                row += 1;
            }
        }
    }
}

#[target_feature(enable = "avx2")]
fn write(
    sums: &[i32; COLUMNS],
    factors: &[f32; COLUMNS],
    offsets: &[f32; COLUMNS],
    out: &mut [f32],
) {
    let mut values = [0.0; COLUMNS];
    for column in 0..COLUMNS {
        values[column] = sums[column] as f32 * factors[column] + offsets[column];
    }
    match out.first_chunk_mut() {
        Some(out) => *out = values,
        None => out.copy_from_slice(&values[..out.len()]),
    }
}

/// The sums of `R` rows with a panel, exact: products are at most 255 * 128, so that rows of more than
/// 65,000 values would be needed to overflow.
#[target_feature(enable = "avx2")]
fn tile<const R: usize>(mut rows: [&[[i16; 2]]; R], panel: &[Pair]) -> [[i32; COLUMNS]; R] {
    for row in &mut rows {
        *row = &row[..panel.len()];
    }
    let mut sums = [[_mm256_setzero_si256(); 2]; R];
    for (pair, weights) in panel.iter().enumerate() {
        let weights = [widen(weights, 0), widen(weights, COLUMNS)];
        for (sums, row) in sums.iter_mut().zip(rows) {
            let [first, second] = row[pair];
            let activations = i32::from(first) & 0xffff | i32::from(second) << 16;
            let activations = _mm256_set1_epi32(activations);
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(activations, weights));
            }
        }
    }
    sums.map(|sums| {
        // SAFETY: two registers of eight integers are an array of sixteen, any bits are integers.
        unsafe { std::mem::transmute::<[__m256i; 2], [i32; COLUMNS]>(sums) }
    })
}

/// Sixteen of the weights, in 16 bits.
#[target_feature(enable = "avx2")]
fn widen(weights: &Pair, start: usize) -> __m256i {
    let bytes = &weights[start..start + 16];
    // SAFETY: the slice has the 16 bytes that are read, and the read may be unaligned.
    _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// Activations less their zero point, in pairs of 16 bits, rows padded to whole pairs; and their scale.
///
/// The rounding is that of ONNX's `DynamicQuantizeLinear`: 8 bits from the least to the largest value, with 0
/// among them.
#[target_feature(enable = "avx2")]
fn quantise(x: &[f32], inputs: usize) -> (Vec<[i16; 2]>, f32) {
    let mut least = [0.0_f32; 8];
    let mut largest = [0.0_f32; 8];
    let (eights, rest) = x.as_chunks::<8>();
    for values in eights {
        for lane in 0..8 {
            least[lane] = least[lane].min(values[lane]);
            largest[lane] = largest[lane].max(values[lane]);
        }
    }
    let least = least
        .iter()
        .chain(rest)
        .fold(0.0_f32, |least, &value| least.min(value));
    let largest = largest
        .iter()
        .chain(rest)
        .fold(0.0_f32, |largest, &value| largest.max(value));
    let scale = (largest - least) / 255.0;
    let zero = (-least / scale).round_ties_even().clamp(0.0, 255.0);
    // All zeros: 0 / 0 is no number.
    let zero = if zero.is_nan() { 0.0 } else { zero };
    let pairs = inputs.div_ceil(2);
    let mut integers = vec![[0_i16; 2]; x.len() / inputs * pairs];
    let rows = x.chunks_exact(inputs).zip(integers.chunks_exact_mut(pairs));
    // A loop, as what stands in a closure is not compiled for the same processor.
    for (row, integers) in rows {
        for (value, integer) in row.iter().zip(integers.as_flattened_mut()) {
            let rounded = (value / scale).round_ties_even();
            *integer = rounded.clamp(-zero, 255.0 - zero) as i32 as i16;
        }
    }
    (integers, scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tract::operators::sketch::noise;

    /// `None`, and a word about it, where nothing can be tested.
    fn avx2() -> Option<Avx2> {
        let found = Avx2::detect();
        if found.is_none() {
            sori_tests::not_for_this_machine("this processor has no AVX2");
        }
        found
    }

    /// What ONNX says, step by step.
    fn expected(x: &[f32], matrix: &[i8], scales: &[f32], bias: &[f32], inputs: usize) -> Vec<f32> {
        let outputs = scales.len();
        let least = x.iter().fold(0.0_f32, |a, &b| a.min(b));
        let largest = x.iter().fold(0.0_f32, |a, &b| a.max(b));
        let scale = (largest - least) / 255.0;
        let zero = (-least / scale).round_ties_even().clamp(0.0, 255.0) as i32;
        let quantised: Vec<i32> = x
            .iter()
            .map(|value| ((value / scale).round_ties_even() as i32 + zero).clamp(0, 255))
            .collect();
        let mut out = Vec::new();
        for row in quantised.chunks(inputs) {
            for output in 0..outputs {
                let sum: i32 = (0..inputs)
                    .map(|input| (row[input] - zero) * i32::from(matrix[input * outputs + output]))
                    .sum();
                out.push(sum as f32 * (scale * scales[output]) + bias[output]);
            }
        }
        out
    }

    #[test]
    fn products_are_those_of_the_definition() {
        let Some(avx2) = avx2() else { return };
        // Rows, inputs and outputs that fill tiles, and that do not.
        for (rows, inputs, outputs) in [
            (8, 160, 592),
            (4, 16, 16),
            (1, 1, 1),
            (5, 7, 33),
            (3, 2, 15),
        ] {
            for shift in [0.0, 5.0, -5.0] {
                let x: Vec<f32> = noise(rows * inputs, 1).iter().map(|x| x + shift).collect();
                let matrix: Vec<i8> = noise(inputs * outputs, 2)
                    .iter()
                    .map(|x| (x * 128.0) as i8)
                    .collect();
                let (scales, bias) = (noise(outputs, 3), noise(outputs, 4));
                let mut out = vec![f32::NAN; rows * outputs];
                let weights = Weights::new(&matrix, inputs, outputs);
                weights.product(avx2, &x, &scales, Some(&bias), &mut out);
                assert_eq!(
                    out,
                    expected(&x, &matrix, &scales, &bias, inputs),
                    "{rows} {inputs} {outputs} {shift}"
                );
            }
        }
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let Some(avx2) = avx2() else { return };
        let inputs = 30_000;
        let mut out = [0.0];
        Weights::new(&vec![-128; inputs], inputs, 1).product(
            avx2,
            &vec![1.0; inputs],
            &[1.0],
            None,
            &mut out,
        );
        assert_eq!(out[0], -128.0 * 255.0 * inputs as f32 * (1.0 / 255.0));
    }

    #[test]
    fn what_is_no_number_does_no_harm() {
        let Some(avx2) = avx2() else { return };
        let weights = Weights::new(&[1, 2, 3, 4], 2, 2);
        for value in [
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MIN_POSITIVE / 2.0,
        ] {
            for other in [0.0, -value] {
                let mut out = [0.0; 2];
                weights.product(avx2, &[value, other], &[1.0, 1.0], None, &mut out);
            }
        }
    }

    #[test]
    fn silence_gives_the_bias() {
        let Some(avx2) = avx2() else { return };
        let mut out = [f32::NAN; 4];
        let weights = Weights::new(&[1, 2, 3, 4], 2, 2);
        weights.product(avx2, &[0.0; 4], &[1.0, 1.0], Some(&[0.5, 0.25]), &mut out);
        assert_eq!(out, [0.5, 0.25, 0.5, 0.25]);
    }
}
