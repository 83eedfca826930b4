//! Layer norm over the last axis as one operator: tract spells it out in eight.

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::pb::GraphProto;
use tract_onnx::tract_hir::internal::*;

use super::operator::{Dims, Operator, floats, written};
use super::pattern::{Group, Uses, attribute, integer, replace};

const OPERATOR: &str = "SoriLayerNorm";

/// Replaces those of which nothing but the result is asked; how many there were.
pub(super) fn fuse(graph: &mut GraphProto) -> usize {
    replace(graph, layer_norm)
}

fn layer_norm(uses: &Uses<'_>, position: usize) -> Option<Group> {
    let mut node = uses.node(position).clone();
    let plain = node.op_type == "LayerNormalization"
        && integer(&node, "axis").is_none_or(|axis| axis == -1)
        && attribute(&node, "stash_type").is_none()
        && node.output.len() == 1
        && matches!(node.input.len(), 2 | 3)
        && node.input[1..]
            .iter()
            .all(|row| matches!(uses.float_dims(row), Some([_])));
    node.op_type = OPERATOR.to_owned();
    plain.then(|| Group {
        gone: vec![position],
        node,
    })
}

/// Teaches tract the operator that [`fuse`] writes.
pub(super) fn register(operators: &mut OnnxOpRegister) {
    operators.insert(OPERATOR, |_, node| {
        let epsilon = attribute(node, "epsilon").map_or(1e-5, |attribute| attribute.f);
        let epsilon = epsilon.to_bits();
        Ok((written(LayerNorm { epsilon }), vec![]))
    });
}

/// Reads x (..., width), a scale (width) and perhaps a shift (width).
#[derive(Debug, Clone, PartialEq, Eq)]
struct LayerNorm {
    /// A float, as bits.
    epsilon: u32,
}

impl Operator for LayerNorm {
    const NAME: &'static str = OPERATOR;

    fn shape(&self, inputs: &[Dims]) -> TractResult<Dims> {
        let Some((x, rows)) = inputs.split_first() else {
            bail!("no input");
        };
        let width = *x.last().context("a number has no last axis")?;
        let fits = matches!(rows.len(), 1 | 2) && rows.iter().all(|row| row[..] == [width]);
        ensure!(fits && width > 0, "scale and shift of {rows:?} for {x:?}");
        Ok(x.clone())
    }

    fn compute(&self, mut inputs: TVec<TValue>) -> TractResult<Tensor> {
        let mut x = inputs.remove(0).into_tensor();
        let scale = floats(&inputs[0])?;
        let shift = inputs.get(1).map(|shift| floats(shift)).transpose()?;
        let epsilon = f32::from_bits(self.epsilon);
        let mut view = x.try_as_plain_ram_mut()?;
        for row in view.as_slice_mut::<f32>()?.chunks_exact_mut(scale.len()) {
            let count = row.len() as f32;
            let mean = sum(row, |value| value) / count;
            for value in row.iter_mut() {
                *value -= mean;
            }
            let deviation = 1.0 / (sum(row, |value| value * value) / count + epsilon).sqrt();
            for (value, scale) in row.iter_mut().zip(scale) {
                *value *= deviation * scale;
            }
            for (value, shift) in row.iter_mut().zip(shift.unwrap_or_default()) {
                *value += shift;
            }
        }
        Ok(x)
    }
}

/// In eights, which a processor adds at once.
fn sum(values: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let (eights, rest) = values.as_chunks::<8>();
    let mut sums = [0.0_f32; 8];
    for values in eights {
        for (sum, &value) in sums.iter_mut().zip(values) {
            *sum += of(value);
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|&value| of(value)).sum::<f32>()
}
