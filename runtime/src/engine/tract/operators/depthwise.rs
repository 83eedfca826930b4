//! A convolution of each channel over time as one operator, which takes frames as they come: ONNX's wants channels first, so they are
//! turned before it and turned back after it.

use std::sync::Arc;

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::pb::GraphProto;
use tract_onnx::tract_hir::internal::*;

use super::operator::{Dims, Operator, floats, written};
use super::pattern::{Group, Uses, embed, embedded, inputs, integer, list, ours, output, replace};

const OPERATOR: &str = "SoriDepthwise";

/// Replaces what can be; how many there were.
pub(super) fn fuse(graph: &mut GraphProto) -> usize {
    let count = replace(graph, depthwise);
    embed(graph, OPERATOR);
    count
}

fn depthwise(uses: &Uses<'_>, position: usize) -> Option<Group> {
    let node = uses.node(position);
    if node.op_type != "Conv" {
        return None;
    }
    let [by_channel, taps, bias] = inputs(node)?;
    let taps = uses.floats(taps)?;
    let &[channels, 1, 1, _] = &taps.dims[..] else {
        return None;
    };
    let one = |name: &str| list(node, name).iter().all(|&step| step == 1);
    let plain = integer(node, "group") == Some(channels)
        && one("strides")
        && one("dilations")
        && list(node, "pads").iter().all(|&pad| pad == 0)
        && node.attribute.iter().all(|known| known.name != "auto_pad")
        && uses.float_dims(bias)? == [channels];
    let before = uses.private_maker(by_channel, "Transpose")?;
    let after = uses.reader(output(node)?, "Transpose")?;
    let turned = list(uses.node(before), "perm") == [0, 3, 1, 2]
        && list(uses.node(after), "perm") == [0, 2, 3, 1];
    if !plain || !turned {
        return None;
    }
    let [frames] = inputs(uses.node(before))?;
    let input = [frames, &taps.name, bias].map(str::to_owned);
    Some(Group {
        gone: vec![before, position, after],
        node: ours(OPERATOR, output(uses.node(after))?, input.into(), &[]),
    })
}

/// Teaches tract the operator that [`fuse`] writes.
pub(super) fn register(operators: &mut OnnxOpRegister) {
    operators.insert(OPERATOR, |context, node| {
        let taps = embedded(context, node)?.cast_to::<f32>()?.into_owned();
        let &[channels, 1, 1, width] = taps.shape() else {
            bail!("taps of {taps:?}");
        };
        ensure!(channels > 0 && width > 0, "taps of {taps:?}");
        let taps = taps.into_shape(&[channels, width])?.permute_axes(&[1, 0])?;
        let taps = Arc::new(taps);
        Ok((written(Depthwise { taps }), vec![]))
    });
}

/// Reads frames (B, 1, frames, channels) and a bias (channels).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Depthwise {
    /// (width, channels).
    taps: Arc<Tensor>,
}

impl Operator for Depthwise {
    const NAME: &'static str = OPERATOR;

    fn shape(&self, inputs: &[Dims]) -> TractResult<Dims> {
        let (&[width, channels], [x, bias]) = (self.taps.shape(), inputs) else {
            bail!("two inputs expected, found {}", inputs.len());
        };
        let (&[batch, 1, frames, same], true) = (&x[..], bias[..] == [channels]) else {
            bail!("frames of {x:?} and a bias of {bias:?}");
        };
        let fits = same == channels && frames >= width;
        ensure!(fits, "{width} taps of {channels} channels for {x:?}");
        Ok(tvec!(batch, 1, frames - width + 1, channels))
    }

    fn compute(&self, inputs: TVec<TValue>) -> TractResult<Tensor> {
        let (&[width, channels], &[batch, _, frames, _]) = (self.taps.shape(), inputs[0].shape())
        else {
            bail!("frames of {:?}", inputs[0]);
        };
        let (x, bias, taps) = (
            floats(&inputs[0])?,
            floats(&inputs[1])?,
            floats(&self.taps)?,
        );
        let mut out = Tensor::zero::<f32>(&[batch, 1, frames - width + 1, channels])?;
        let mut view = out.try_as_plain_ram_mut()?;
        let kept = (frames - width + 1) * channels;
        let streams = view.as_slice_mut::<f32>()?.chunks_exact_mut(kept);
        for (out, x) in streams.zip(x.chunks_exact(frames * channels)) {
            for (frame, out) in out.chunks_exact_mut(channels).enumerate() {
                out.copy_from_slice(bias);
                let heard = x[frame * channels..].chunks_exact(channels);
                for (x, taps) in heard.zip(taps.chunks_exact(channels)) {
                    for ((out, x), tap) in out.iter_mut().zip(x).zip(taps) {
                        *out += x * tap;
                    }
                }
            }
        }
        Ok(out)
    }
}
