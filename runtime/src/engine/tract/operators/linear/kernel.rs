//! Products of a few rows by a matrix that does not change.
//!
//! A chunk has 4 to 16 rows, so every weight is read from memory for a handful of products: what counts is to read it
//! once, in order.

#![expect(unsafe_code, reason = "instructions that not every processor has")]

use crate::engine::tract::operators::processor::Fma;

/// Columns of a panel, the part of a matrix that a tile is computed with.
const COLUMNS: usize = 24;
/// Rows of a tile: 4 x 24 sums fill twelve of the sixteen registers.
const ROWS: usize = 4;

/// A matrix (inputs, outputs), in panels of 24 columns, padded with zeros.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Weights {
    inputs: usize,
    outputs: usize,
    /// For each panel, for each input.
    panels: Vec<[f32; COLUMNS]>,
}

/// They are compared to tell whether two operators are the same, and no number is not the same as itself.
impl Eq for Weights {}

impl Weights {
    /// Packs a row-major matrix with so many columns.
    pub(super) fn new(matrix: &[f32], outputs: usize) -> Self {
        let inputs = matrix.len() / outputs;
        let mut panels = vec![[0.0; COLUMNS]; outputs.div_ceil(COLUMNS) * inputs];
        for (panel, rows) in panels.chunks_exact_mut(inputs).enumerate() {
            for (packed, row) in rows.iter_mut().zip(matrix.chunks_exact(outputs)) {
                let row = row.chunks(COLUMNS).nth(panel).unwrap_or_default();
                packed[..row.len()].copy_from_slice(row);
            }
        }
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

    /// `out = x * weights + bias`, for row-major `x` (rows, inputs) and `out` (rows, outputs).
    pub(super) fn product(&self, _: Fma, x: &[f32], bias: &[f32], out: &mut [f32]) {
        assert_eq!(bias.len(), self.outputs, "a bias for each output");
        assert_eq!(
            x.len() * self.outputs,
            out.len() * self.inputs,
            "as many rows"
        );
        // SAFETY: an `Fma` is only had where the processor has it.
        unsafe { product(self, x, bias, out) }
    }
}

#[target_feature(enable = "avx2,fma")]
fn product(weights: &Weights, x: &[f32], bias: &[f32], out: &mut [f32]) {
    let Weights {
        inputs, outputs, ..
    } = *weights;
    let panels = weights.panels.chunks_exact(inputs);
    for ((number, panel), bias) in panels.enumerate().zip(bias.chunks(COLUMNS)) {
        let mut start = [0.0; COLUMNS];
        start[..bias.len()].copy_from_slice(bias);
        let mut write = |row: usize, sums: &[f32; COLUMNS]| {
            let at = row * outputs + number * COLUMNS;
            out[at..at + bias.len()].copy_from_slice(&sums[..bias.len()]);
        };
        let tiles = x.chunks_exact(ROWS * inputs);
        let left = tiles.remainder().chunks_exact(inputs);
        let done = x.len() / inputs - left.len();
        for (number, tile) in tiles.enumerate() {
            let rows = std::array::from_fn(|row| &tile[row * inputs..][..inputs]);
            let sums = sums::<ROWS>(rows, panel, &start);
            for (row, sums) in sums.iter().enumerate() {
                write(number * ROWS + row, sums);
            }
        }
        for (number, row) in left.enumerate() {
            let [sums] = sums([row], panel, &start);
            write(done + number, &sums);
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn sums<const R: usize>(
    rows: [&[f32]; R],
    panel: &[[f32; COLUMNS]],
    start: &[f32; COLUMNS],
) -> [[f32; COLUMNS]; R] {
    let rows = rows.map(|row| &row[..panel.len()]);
    let mut sums = [*start; R];
    for (input, weights) in panel.iter().enumerate() {
        for (sums, row) in sums.iter_mut().zip(rows) {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = row[input].mul_add(*weight, *sum);
            }
        }
    }
    sums
}
