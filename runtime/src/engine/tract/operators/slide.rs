//! One operator for a cache that loses its oldest frames and gets as many new ones: `Slice(Concat(past, new))`.
//!
//! The past is moved within its own memory, where nobody else has it: a step's largest tensor is not copied twice.

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::pb::GraphProto;
use tract_onnx::tract_hir::internal::*;

use super::operator::{Dims, Operator, floats, written};
use super::pattern::{Group, Uses, count, inputs, integer, ours, output, range, replace};

const OPERATOR: &str = "SoriSlide";

/// Replaces what can be; how many there were.
pub(super) fn fuse(graph: &mut GraphProto) -> usize {
    replace(graph, slide)
}

fn slide(uses: &Uses<'_>, slice: usize) -> Option<Group> {
    let node = uses.node(slice);
    if node.op_type != "Slice" {
        return None;
    }
    let joined = uses.private_maker(node.input.first()?, "Concat")?;
    let [past, new] = inputs(uses.node(joined))?;
    let [axis, start, end] = range(uses, node)?;
    let [_, _, frames, _] = uses.dims_of_input(past)?[..] else {
        return None;
    };
    if axis != 2
        || integer(uses.node(joined), "axis") != Some(2)
        || start < 0
        || start.checked_add(frames) != Some(end)
    {
        return None;
    }
    let input = vec![past.to_owned(), new.to_owned()];
    let bounds = [("start", start), ("end", end)];
    Some(Group {
        gone: vec![joined, slice],
        node: ours(OPERATOR, output(node)?, input, &bounds),
    })
}

/// Teaches tract the operator that [`fuse`] writes.
pub(super) fn register(operators: &mut OnnxOpRegister) {
    operators.insert(OPERATOR, |_, node| {
        let slide = Slide {
            start: count(node, "start")?,
            end: count(node, "end")?,
        };
        Ok((written(slide), vec![]))
    });
}

/// Reads the past (B, rows, frames, width) and what is new (B, rows, ..., width); gives as many frames as the past has, `start` to
/// `end` of both.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Slide {
    start: usize,
    end: usize,
}

impl Operator for Slide {
    const NAME: &'static str = OPERATOR;

    fn shape(&self, inputs: &[Dims]) -> TractResult<Dims> {
        let [past, new] = inputs else {
            bail!("two inputs expected, found {}", inputs.len());
        };
        let (&[batch, rows, frames, width], Self { start, end }) = (&past[..], self) else {
            bail!("a past of {past:?}");
        };
        let &[new_batch, new_rows, new_frames, new_width] = &new[..] else {
            bail!("new frames of {new:?}");
        };
        let fits = [new_batch, new_rows, new_width] == [batch, rows, width]
            && start.checked_add(frames) == Some(*end)
            && *start <= new_frames
            && [frames, new_frames, width].iter().all(|&size| size > 0);
        ensure!(fits, "frames {start} to {end} of {past:?} and {new:?}");
        Ok(past.clone())
    }

    fn compute(&self, mut inputs: TVec<TValue>) -> TractResult<Tensor> {
        let new = inputs.remove(1);
        let mut past = inputs.remove(0).into_tensor();
        let (&[_, _, frames, width], &[_, _, new_frames, _]) = (past.shape(), new.shape()) else {
            bail!("frames of {:?} and {:?}", past.shape(), new.shape());
        };
        let gone = self.start.min(frames) * width;
        let newest = self.start.saturating_sub(frames) * width..self.start * width;
        let mut view = past.try_as_plain_ram_mut()?;
        let rows = view.as_slice_mut::<f32>()?.chunks_exact_mut(frames * width);
        for (row, new) in rows.zip(floats(&new)?.chunks_exact(new_frames * width)) {
            let kept = row.len() - gone;
            row.copy_within(gone.., 0);
            row[kept..].copy_from_slice(&new[newest.clone()]);
        }
        Ok(past)
    }
}
