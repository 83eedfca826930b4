//! Products by constant matrices of floats on x86-64: see docs/performance.md for what tract's own cost.

mod kernel;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::sync::Arc;

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::pb::GraphProto;
use tract_onnx::tract_hir::internal::*;

use kernel::Weights;

use super::operator::{Dims, Operator, floats, written};
use super::pattern::{Group, Uses, replace};
use super::processor::Fma;

const OPERATOR: &str = "SoriLinear";

/// Replaces the products that can be; how many there were.
pub(super) fn fuse(graph: &mut GraphProto) -> usize {
    replace(graph, linear)
}

fn linear(uses: &Uses<'_>, position: usize) -> Option<Group> {
    let mut node = uses.node(position).clone();
    let [_, weights, bias] = &node.input[..] else {
        return None;
    };
    let plain = node.op_type == "Gemm" && node.attribute.is_empty();
    let [_, columns] = uses.float_dims(weights)? else {
        return None;
    };
    if !plain || uses.float_dims(bias)? != [*columns] {
        return None;
    }
    node.op_type = OPERATOR.to_owned();
    Some(Group {
        gone: vec![position],
        node,
    })
}

/// Teaches tract the operator that [`fuse`] writes.
pub(super) fn register(operators: &mut OnnxOpRegister) {
    operators.insert(OPERATOR, |_, _| {
        let fma = Fma::detect().context("no FMA")?;
        Ok((written(Linear { fma, weights: None }), vec![]))
    });
}

/// Reads x (rows, inputs), weights (inputs, outputs) and a bias (outputs); the weights once, when it is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Linear {
    fma: Fma,
    weights: Option<Arc<Weights>>,
}

impl Operator for Linear {
    const NAME: &'static str = OPERATOR;

    fn shape(&self, inputs: &[Dims]) -> TractResult<Dims> {
        let [x, weights, bias] = inputs else {
            bail!("three inputs expected, found {}", inputs.len());
        };
        let (&[rows, inner], &[same, outer]) = (&x[..], &weights[..]) else {
            bail!("a product of {x:?} and {weights:?}");
        };
        let fits = inner == same && bias[..] == [outer] && inner > 0 && outer > 0;
        ensure!(fits, "{x:?} times {weights:?} plus {bias:?}");
        Ok(tvec!(rows, outer))
    }

    fn pack(self, inputs: &[TypedFact]) -> TractResult<(Self, TVec<usize>)> {
        let weights = inputs[1].konst.as_ref().context("weights that change")?;
        let packed = Weights::new(floats(weights)?, weights.shape()[1]);
        let packed = Self {
            weights: Some(Arc::new(packed)),
            ..self
        };
        Ok((packed, tvec!(0, 2)))
    }

    fn compute(&self, inputs: TVec<TValue>) -> TractResult<Tensor> {
        let weights = self.weights.as_ref().context("weights were not packed")?;
        let x = floats(&inputs[0])?;
        let rows = x.len() / weights.inputs();
        let mut out = Tensor::zero::<f32>(&[rows, weights.outputs()])?;
        let mut view = out.try_as_plain_ram_mut()?;
        weights.product(
            self.fma,
            x,
            floats(&inputs[1])?,
            view.as_slice_mut::<f32>()?,
        );
        Ok(out)
    }
}
