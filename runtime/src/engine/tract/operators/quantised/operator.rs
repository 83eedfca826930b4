//! The operator, as tract reads and runs it.

use std::sync::Arc;

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::tract_hir::internal::*;

use super::OPERATOR;
use super::kernel::Weights;
use crate::engine::tract::operators::operator::{Dims, Operator, floats, written};
use crate::engine::tract::operators::processor::Avx2;

/// Teaches tract the operator that [`fuse`](super::fuse) writes.
pub(in crate::engine::tract::operators) fn register(operators: &mut OnnxOpRegister) {
    operators.insert(OPERATOR, |_, _| {
        let avx2 = Avx2::detect().context("no AVX2")?;
        let linear = QuantisedLinear {
            avx2,
            weights: None,
        };
        Ok((written(linear), vec![]))
    });
}

/// Reads x (..., inputs), weights (inputs, outputs), their scales (outputs) and perhaps a bias (outputs); the weights once,
/// when it is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
struct QuantisedLinear {
    avx2: Avx2,
    weights: Option<Arc<Weights>>,
}

impl Operator for QuantisedLinear {
    const NAME: &'static str = OPERATOR;

    fn shape(&self, inputs: &[Dims]) -> TractResult<Dims> {
        let [x, weights, rows @ ..] = inputs else {
            bail!("three or four inputs expected, found {}", inputs.len());
        };
        let &[inner, outer] = &weights[..] else {
            bail!("a product by something else than a matrix: {weights:?}");
        };
        let mut shape = x.clone();
        let last = shape.last_mut().context("a product of a number")?;
        ensure!(
            *last == inner && inner > 0 && outer > 0,
            "{x:?} times {weights:?}"
        );
        *last = outer;
        // A file may have the operator in it, with anything as its scales: steps rely on them.
        let fits = matches!(rows.len(), 1 | 2) && rows.iter().all(|row| row[..] == [outer]);
        ensure!(fits, "expected {outer} floats, found {rows:?}");
        Ok(shape)
    }

    fn pack(self, inputs: &[TypedFact]) -> TractResult<(Self, TVec<usize>)> {
        let weights = inputs[1].konst.as_ref().context("weights that change")?;
        let [inner, outer] = weights.shape()[..] else {
            bail!("weights that are no matrix");
        };
        let packed = Weights::new(weights.try_as_plain_ram()?.as_slice::<i8>()?, inner, outer);
        let packed = Self {
            weights: Some(Arc::new(packed)),
            ..self
        };
        Ok((
            packed,
            (0..inputs.len()).filter(|&input| input != 1).collect(),
        ))
    }

    fn compute(&self, inputs: TVec<TValue>) -> TractResult<Tensor> {
        let weights = self.weights.as_ref().context("weights were not packed")?;
        let mut shape: Dims = inputs[0].shape().into();
        if let Some(last) = shape.last_mut() {
            *last = weights.outputs();
        }
        let bias = inputs.get(2).map(|bias| floats(bias)).transpose()?;
        let mut out = Tensor::zero::<f32>(&shape)?;
        weights.product(
            self.avx2,
            floats(&inputs[0])?,
            floats(&inputs[1])?,
            bias,
            out.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?,
        );
        Ok(out)
    }
}
