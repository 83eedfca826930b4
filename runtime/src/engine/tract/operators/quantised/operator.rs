//! The operator, as tract reads and runs it.

use std::sync::Arc;

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::tract_hir::internal::*;

use super::OPERATOR;
use super::kernel::Weights;
use crate::engine::tract::operators::operator::{Dims, Operator, floats, written};
use crate::engine::tract::operators::pattern::embedded_matrix;
use crate::engine::tract::operators::processor::Avx2;

/// Teaches tract the operator that [`fuse`](super::fuse) writes.
pub(in crate::engine::tract::operators) fn register(operators: &mut OnnxOpRegister) {
    operators.insert(OPERATOR, |context, node| {
        let avx2 = Avx2::detect().context("no AVX2")?;
        let (matrix, [inner, outer]) = embedded_matrix(context, node)?;
        let values = matrix.try_as_plain_ram()?;
        let weights = Arc::new(Weights::new(values.as_slice::<i8>()?, inner, outer));
        Ok((written(QuantisedLinear { avx2, weights }), vec![]))
    });
}

/// Reads x (..., inputs), the weights' scales (outputs) and perhaps a bias (outputs).
#[derive(Debug, Clone, PartialEq, Eq)]
struct QuantisedLinear {
    avx2: Avx2,
    /// (inputs, outputs).
    weights: Arc<Weights>,
}

impl Operator for QuantisedLinear {
    const NAME: &'static str = OPERATOR;

    fn shape(&self, inputs: &[Dims]) -> TractResult<Dims> {
        let [x, rows @ ..] = inputs else {
            bail!("no inputs");
        };
        let (inner, outer) = (self.weights.inputs(), self.weights.outputs());
        let mut shape = x.clone();
        let last = shape.last_mut().context("a product of a number")?;
        ensure!(*last == inner, "{x:?} times {inner} x {outer}");
        *last = outer;
        // A file may have the operator in it, with anything as its scales: steps rely on them.
        let fits = matches!(rows.len(), 1 | 2) && rows.iter().all(|row| row[..] == [outer]);
        ensure!(fits, "expected {outer} floats, found {rows:?}");
        Ok(shape)
    }

    fn compute(&self, inputs: TVec<TValue>) -> TractResult<Tensor> {
        let mut shape: Dims = inputs[0].shape().into();
        if let Some(last) = shape.last_mut() {
            *last = self.weights.outputs();
        }
        let bias = inputs.get(2).map(|bias| floats(bias)).transpose()?;
        let mut out = Tensor::zero::<f32>(&shape)?;
        self.weights.product(
            self.avx2,
            floats(&inputs[0])?,
            floats(&inputs[1])?,
            bias,
            out.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?,
        );
        Ok(out)
    }
}
