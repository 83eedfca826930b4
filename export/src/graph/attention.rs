//! Self-attention with relative positions over the chunk and the frames cached before it.

use sori_train::model::ConformerConfig;
use tch::{Kind, Tensor};

use super::position;
use super::streaming::Streaming;
use super::weights::{Affine, Weights};
use super::{GraphError, Writer};

/// A score so low that softmax gives exactly zero.
const HIDDEN: f32 = -10_000.0;

/// Keys and values of one layer, each (B, heads, frames, width of a head).
pub(super) struct KeysAndValues {
    pub(super) keys: String,
    pub(super) values: String,
}

impl Writer<'_> {
    /// What to add to the scores of each key, (B, 1, 1, keys): nothing, or at a stream's start
    /// [`HIDDEN`] for the places in the cache that no frame has reached yet. `cached` (B) counts
    /// the frames that have.
    pub(super) fn mask(&mut self, cached: &str) -> String {
        let keys = self.streaming.keys();
        let graph = &mut self.graph;
        let indices: Vec<_> = (0..keys).collect();
        let indices = graph.shaped_integers("encoder.mask.index", &[1, 1, 1, keys], &indices);
        let left = graph.integers("encoder.mask.left", &[self.streaming.left]);
        let hidden = graph.float("encoder.mask.hidden", &Tensor::from(HIDDEN));
        let visible = graph.float("encoder.mask.visible", &Tensor::from(0_f32));

        let empty = graph.node("Sub", "encoder.mask.empty", &[&left, cached]);
        let empty = graph.reshape(
            "encoder.mask.empty_by_stream",
            &empty,
            &[self.streaming.batch, 1, 1, 1],
        );
        let is_empty = graph.node("Less", "encoder.mask.is_empty", &[&indices, &empty]);
        graph.node("Where", "encoder.mask", &[&is_empty, &hidden, &visible])
    }

    /// Adds what `x` (rows, `d_model`) finds by attention to `x`. Also gives the keys and values of
    /// the chunk's own frames.
    pub(super) fn attention(
        &mut self,
        layer: &str,
        x: &str,
        past: &KeysAndValues,
        mask: &str,
    ) -> Result<(String, KeysAndValues), GraphError> {
        let (d, heads) = (self.config.d_model, self.config.heads);
        let (batch, queries, width) = (self.streaming.batch, self.streaming.chunk, d / heads);
        let path = format!("{layer}.self_attn");
        let name = |part: &str| format!("{path}.{part}");
        let parameters = Parameters::new(self.weights, self.config, self.streaming, &path)?;

        let norm = format!("{layer}.norm_self_att");
        let y = self.norm_and_map(&norm, &name("linear_qkv"), x, &parameters.projection)?;
        let graph = &mut self.graph;
        let y = graph.reshape(
            &name("qkv_by_frame"),
            &y,
            &[batch, queries, 3 * heads, width],
        );
        let y = graph.transpose(&name("qkv_by_head"), &y, &[0, 2, 1, 3]);
        let parts = graph.split(&name("qkv"), &y, 1, &[heads; 3]);
        let new = KeysAndValues {
            keys: parts[1].clone(),
            values: parts[2].clone(),
        };
        let keys = graph.concat(&name("keys"), 2, &[&past.keys, &new.keys]);
        let values = graph.concat(&name("values"), 2, &[&past.values, &new.values]);

        let keys = graph.transpose(&name("keys_transposed"), &keys, &[0, 1, 3, 2]);
        let by_content = graph.node("MatMul", &name("by_content"), &[&parts[0], &keys]);
        let positions = graph.float(&name("positions"), &parameters.positions);
        let difference = graph.float(&name("bias_difference"), &parameters.bias_difference);
        let query = graph.node("Add", &name("position_query"), &[&parts[0], &difference]);
        let by_distance = graph.node("MatMul", &name("by_distance"), &[&query, &positions]);
        let by_position = self.scores_by_key(&path, &by_distance);
        let graph = &mut self.graph;
        let scores = graph.node("Sum", &name("scores"), &[&by_content, &by_position, mask]);
        let map = graph.softmax("Softmax", &name("softmax"), &scores);

        let y = graph.node("MatMul", &name("mixed"), &[&map, &values]);
        let y = graph.transpose(&name("mixed_by_frame"), &y, &[0, 2, 1, 3]);
        let y = graph.reshape(&name("rows"), &y, &[batch * queries, d]);
        let y = graph.gemm(&name("linear_out"), &y, &parameters.out);
        Ok((graph.node("Add", &name("residual"), &[x, &y]), new))
    }
}

/// The module's parameters, folded.
struct Parameters {
    /// To queries, keys and values. The content bias and the scale of the scores lie in the
    /// queries' part.
    projection: Affine,
    /// Projected positions: (1, heads, width of a head, distances).
    positions: Tensor,
    /// What turns a query by content into one by position: (1, heads, 1, width of a head).
    bias_difference: Tensor,
    out: Affine,
}

impl Parameters {
    fn new(
        weights: &Weights,
        config: &ConformerConfig,
        streaming: Streaming,
        path: &str,
    ) -> Result<Self, GraphError> {
        let (d, heads) = (config.d_model, config.heads);
        let width = d / heads;
        let scale = (width as f64).powf(-0.5);
        let linear = |part: &str| weights.linear(&format!("{path}.linear_{part}"), d, d);
        let bias = |part: &str| weights.get(&format!("{path}.pos_bias_{part}"), &[heads, width]);
        let (content_bias, position_bias) = (bias("u")?, bias("v")?);

        let mut query = linear("q")?;
        query.bias = &query.bias + content_bias.flatten(0, 1);
        let projected = weights.get(&format!("{path}.linear_pos.weight"), &[d, d])?;
        let positions = position::sinusoids(streaming, d)
            .matmul(&projected.to_kind(Kind::Double).tr())
            .reshape([1, -1, heads, width])
            .permute([0, 2, 3, 1]);
        Ok(Self {
            projection: Affine::beside(&[&query.scaled(scale), &linear("k")?, &linear("v")?]),
            bias_difference: ((position_bias - content_bias) * scale).reshape([1, heads, 1, width]),
            positions,
            out: linear("out")?,
        })
    }
}
