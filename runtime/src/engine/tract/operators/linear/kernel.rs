//! Products of a few rows by a matrix that does not change.
//!
//! A chunk has 4 to 16 rows, so every weight is read from memory for a handful of products: what counts is to read it
//! once, in order.

#![expect(unsafe_code, reason = "instructions that not every processor has")]

use std::arch::x86_64::{_mm_loadu_si128, _mm256_cvtph_ps, _mm256_storeu_ps};

use tract_onnx::tract_hir::internal::f16;

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
    panels: Panels,
}

/// For each panel, for each input; as wide as in the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Panels {
    Floats(Vec<[f32; COLUMNS]>),
    Halves(Vec<[f16; COLUMNS]>),
}

/// A number as a file has it.
pub(super) trait Weight: Copy + Default {
    fn panels(panels: Vec<[Self; COLUMNS]>) -> Panels;

    /// # Safety
    /// The processor must have AVX2, FMA and F16C.
    unsafe fn widen(weights: &[Self; COLUMNS]) -> [f32; COLUMNS];
}

impl Weight for f32 {
    fn panels(panels: Vec<[Self; COLUMNS]>) -> Panels {
        Panels::Floats(panels)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn widen(weights: &[Self; COLUMNS]) -> [f32; COLUMNS] {
        *weights
    }
}

impl Weight for f16 {
    fn panels(panels: Vec<[Self; COLUMNS]>) -> Panels {
        Panels::Halves(panels)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn widen(weights: &[Self; COLUMNS]) -> [f32; COLUMNS] {
        let mut floats = [0.0_f32; COLUMNS];
        for eight in 0..COLUMNS / 8 {
            let (from, to) = (&weights[eight * 8..][..8], &mut floats[eight * 8..][..8]);
            // SAFETY: both slices have the eight numbers that are read and written, which may be unaligned.
            unsafe {
                let halves = _mm_loadu_si128(from.as_ptr().cast());
                _mm256_storeu_ps(to.as_mut_ptr(), _mm256_cvtph_ps(halves));
            }
        }
        floats
    }
}

/// They are compared to tell whether two operators are the same, and no number is not the same as itself.
impl Eq for Weights {}

impl Weights {
    /// Packs a row-major matrix with so many columns.
    pub(super) fn new<W: Weight>(matrix: &[W], outputs: usize) -> Self {
        let inputs = matrix.len() / outputs;
        let mut panels = vec![[W::default(); COLUMNS]; outputs.div_ceil(COLUMNS) * inputs];
        for (panel, rows) in panels.chunks_exact_mut(inputs).enumerate() {
            for (packed, row) in rows.iter_mut().zip(matrix.chunks_exact(outputs)) {
                let row = row.chunks(COLUMNS).nth(panel).unwrap_or_default();
                packed[..row.len()].copy_from_slice(row);
            }
        }
        Self {
            inputs,
            outputs,
            panels: W::panels(panels),
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
        // SAFETY: an `Fma` is only had where the processor has all three.
        unsafe {
            match &self.panels {
                Panels::Floats(panels) => product(panels, self.inputs, x, bias, out),
                Panels::Halves(panels) => product(panels, self.inputs, x, bias, out),
            }
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn product<W: Weight>(
    panels: &[[W; COLUMNS]],
    inputs: usize,
    x: &[f32],
    bias: &[f32],
    out: &mut [f32],
) {
    let outputs = bias.len();
    let panels = panels.chunks_exact(inputs);
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
            let sums = sums::<W, ROWS>(rows, panel, &start);
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

#[target_feature(enable = "avx2,fma,f16c")]
fn sums<W: Weight, const R: usize>(
    rows: [&[f32]; R],
    panel: &[[W; COLUMNS]],
    start: &[f32; COLUMNS],
) -> [[f32; COLUMNS]; R] {
    let rows = rows.map(|row| &row[..panel.len()]);
    let mut sums = [*start; R];
    for (input, weights) in panel.iter().enumerate() {
        // SAFETY: these instructions are enabled here, too.
        let weights = unsafe { W::widen(weights) };
        for (sums, row) in sums.iter_mut().zip(rows) {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = row[input].mul_add(weight, *sum);
            }
        }
    }
    sums
}
