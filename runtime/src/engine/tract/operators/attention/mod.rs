//! One operator in place of those in which ONNX writes attention with relative positions.
//!
//! Of a chunk's time tract spends more on joining, turning and packing keys and values for two small products than on the
//! products. [`fuse`] finds what `sori-export` writes,
//!
//! ```text
//! q ┬──────────── MatMul(Transpose(Concat(past, keys))) ──────┐
//!   └ Add ─ MatMul(positions) ─ Reshape ─ Slice ─ Reshape ─ (Slice) ─┴ Sum(mask) ─ Softmax ┐
//!            Concat(past, values) ──────────────────────────────────── MatMul ─ Transpose ─ Reshape
//! ```
//!
//! and writes an `Attention` there, which reads the past where it is: in the cache.

mod fusion;
mod kernel;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::sync::Arc;

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::tract_hir::internal::*;

pub(super) use fusion::fuse;
use kernel::{Inputs, Room, Sizes, attend};

use super::operator::{Dims, Operator, floats, written};
use super::pattern::{count, embedded};

const OPERATOR: &str = "SoriAttention";
/// The attributes that say at which rows of the cache the past is.
const KEYS: &str = "keys_at";
const VALUES: &str = "values_at";

/// Teaches tract the operator that [`fuse`] writes.
pub(super) fn register(operators: &mut OnnxOpRegister) {
    operators.insert(OPERATOR, |context, node| {
        let positions = embedded(context, node)?;
        ensure!(positions.rank() == 4, "positions of {positions:?}");
        let by_distance = positions.cast_to::<f32>()?.into_owned();
        let attention = Attention {
            keys_at: count(node, KEYS)?,
            values_at: count(node, VALUES)?,
            positions: Arc::new(by_distance.permute_axes(&[0, 1, 3, 2])?),
        };
        Ok((written(attention), vec![]))
    });
}

/// Reads query, keys and values (B, heads, queries, width), cache (B, rows, past, width), mask (B, 1, 1, keys), and what makes
/// a query one by position (1, heads, 1, width). Gives (B * queries, heads * width).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Attention {
    /// Rows of the cache at which the heads' keys begin, and their values.
    keys_at: usize,
    values_at: usize,
    /// (1, heads, distances, width).
    positions: Arc<Tensor>,
}

impl Attention {
    /// How many streams there are, and the sizes of each.
    fn sizes(&self, inputs: &[&[usize]]) -> TractResult<(usize, Sizes)> {
        let &[query, keys, values, cache, mask, difference] = inputs else {
            bail!("six inputs expected, found {}", inputs.len());
        };
        let (&[batch, heads, queries, width], &[_, rows, past, _]) = (query, cache) else {
            bail!("queries of {query:?} and a cache of {cache:?}");
        };
        let sizes = Sizes {
            heads,
            queries,
            past,
            width,
        };
        let fits = [keys, values] == [query; 2]
            && *cache == [batch, rows, past, width]
            && queries > 0
            && width > 0
            && *mask == [batch, 1, 1, sizes.keys()]
            && *self.positions.shape() == [1, heads, sizes.distances(), width]
            && *difference == [1, heads, 1, width]
            && [self.keys_at, self.values_at]
                .iter()
                .all(|at| at.checked_add(heads).is_some_and(|end| end <= rows));
        ensure!(fits, "shapes that do not fit each other: {inputs:?}");
        Ok((batch, sizes))
    }
}

impl Operator for Attention {
    const NAME: &'static str = OPERATOR;

    fn shape(&self, inputs: &[Dims]) -> TractResult<Dims> {
        let inputs: Vec<&[usize]> = inputs.iter().map(|dims| &dims[..]).collect();
        let (batch, sizes) = self.sizes(&inputs)?;
        let rows = batch.checked_mul(sizes.queries);
        Ok(tvec!(
            rows.context("more rows than there can be")?,
            sizes.heads * sizes.width
        ))
    }

    fn compute(&self, inputs: TVec<TValue>) -> TractResult<Tensor> {
        let [query, keys, values, cache, mask, difference] = &inputs[..] else {
            bail!("six inputs expected, found {}", inputs.len());
        };
        let all = [query, keys, values, cache, mask, difference];
        let (batch, sizes) = self.sizes(&all.map(|input| input.shape()))?;
        let (query, keys, values) = (floats(query)?, floats(keys)?, floats(values)?);
        let (cache, mask, difference) = (floats(cache)?, floats(mask)?, floats(difference)?);
        let mut out = Tensor::zero::<f32>(&[batch * sizes.queries, sizes.heads * sizes.width])?;
        let mut view = out.try_as_plain_ram_mut()?;
        let out_values = view.as_slice_mut::<f32>()?;
        let mut room = Room::default();
        let row = sizes.past * sizes.width;
        let chunk = sizes.heads * sizes.queries * sizes.width;
        for stream in 0..batch {
            let cache = &cache[stream * cache.len() / batch..];
            let past = |at: usize| &cache[at * row..][..sizes.heads * row];
            let chunk = stream * chunk..(stream + 1) * chunk;
            let inputs = Inputs {
                query: &query[chunk.clone()],
                new_keys: &keys[chunk.clone()],
                new_values: &values[chunk.clone()],
                past_keys: past(self.keys_at),
                past_values: past(self.values_at),
                mask: &mask[stream * sizes.keys()..][..sizes.keys()],
                positions: floats(&self.positions)?,
                difference,
            };
            attend(sizes, inputs, &mut room, &mut out_values[chunk]);
        }
        Ok(out)
    }
}
