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
use super::pattern::{Group, Uses, embed, embedded_matrix, replace};
use super::processor::Fma;

const OPERATOR: &str = "SoriLinear";

/// Replaces the products that can be; how many there were.
pub(super) fn fuse(graph: &mut GraphProto) -> usize {
    let count = replace(graph, linear);
    embed(graph, OPERATOR);
    count
}

fn linear(uses: &Uses<'_>, position: usize) -> Option<Group> {
    let mut node = uses.node(position).clone();
    let [x, weights, bias] = &node.input[..] else {
        return None;
    };
    let plain = node.op_type == "Gemm" && node.attribute.is_empty();
    let weights = uses.floats(weights)?;
    let [_, columns] = &weights.dims[..] else {
        return None;
    };
    if !plain || uses.float_dims(bias)? != [*columns] {
        return None;
    }
    node.input = vec![x.clone(), weights.name.clone(), bias.clone()];
    node.op_type = OPERATOR.to_owned();
    Some(Group {
        gone: vec![position],
        node,
    })
}

/// Teaches tract the operator that [`fuse`] writes.
pub(super) fn register(operators: &mut OnnxOpRegister) {
    operators.insert(OPERATOR, |context, node| {
        let fma = Fma::detect().context("no FMA")?;
        let (matrix, [_, outer]) = embedded_matrix(context, node)?;
        let view = matrix.try_as_plain_ram()?;
        let weights = match matrix.datum_type() {
            DatumType::F16 => Weights::new(view.as_slice::<f16>()?, outer),
            _ => Weights::new(view.as_slice::<f32>()?, outer),
        };
        let weights = Arc::new(weights);
        Ok((written(Linear { fma, weights }), vec![]))
    });
}

/// Reads x (rows, inputs) and a bias (outputs).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Linear {
    fma: Fma,
    /// (inputs, outputs).
    weights: Arc<Weights>,
}

impl Operator for Linear {
    const NAME: &'static str = OPERATOR;

    fn shape(&self, inputs: &[Dims]) -> TractResult<Dims> {
        let [x, bias] = inputs else {
            bail!("two inputs expected, found {}", inputs.len());
        };
        let (inner, outer) = (self.weights.inputs(), self.weights.outputs());
        let &[rows, same] = &x[..] else {
            bail!("a product of {x:?} and a matrix");
        };
        let fits = inner == same && bias[..] == [outer];
        ensure!(fits, "{x:?} times {inner} x {outer} plus {bias:?}");
        Ok(tvec!(rows, outer))
    }

    fn compute(&self, inputs: TVec<TValue>) -> TractResult<Tensor> {
        let x = floats(&inputs[0])?;
        let rows = x.len() / self.weights.inputs();
        let mut out = Tensor::zero::<f32>(&[rows, self.weights.outputs()])?;
        let mut view = out.try_as_plain_ram_mut()?;
        self.weights.product(
            self.fma,
            x,
            floats(&inputs[1])?,
            view.as_slice_mut::<f32>()?,
        );
        Ok(out)
    }
}
