//! Multi-head self-attention with relative positions (Transformer-XL, arXiv 1901.02860, section
//! 3.3), each layer with its own two position biases.

use tch::nn::{self, Module};
use tch::{Kind, Tensor};

use super::config::ConformerConfig;
use super::fresh;
use super::position::relative_shift;

/// The score of a key that may not be seen: so low that softmax gives exactly zero in every float
/// type, yet finite, so that a row without any visible key has a gradient of zero, not NaN.
pub(super) const HIDDEN: f64 = -10_000.0;

#[derive(Debug)]
pub(super) struct RelativeAttention {
    query: nn::Linear,
    key: nn::Linear,
    value: nn::Linear,
    out: nn::Linear,
    position: nn::Linear,
    content_bias: Tensor,
    position_bias: Tensor,
    heads: i64,
    dropout: f64,
}

/// Keys and values of the frames before a chunk, oldest first: each (B, heads, left, width of a
/// head).
#[derive(Debug)]
pub(super) struct AttentionState {
    keys: Tensor,
    values: Tensor,
}

/// The result of attention.
pub(super) struct Attended {
    /// (B, queries, `d_model`).
    pub(super) output: Tensor,
    /// The map: (B, heads, queries, keys), after softmax, before dropout. Rows sum to one; rows
    /// that see no key are zero.
    pub(super) map: Tensor,
}

impl RelativeAttention {
    pub(super) fn new(path: &nn::Path<'_>, config: &ConformerConfig) -> Self {
        let (d, heads) = (config.d_model, config.heads);
        let linear = |name: &str| fresh::linear(path / name, d, d);
        Self {
            query: linear("linear_q"),
            key: linear("linear_k"),
            value: linear("linear_v"),
            out: linear("linear_out"),
            position: fresh::unbiased(path / "linear_pos", d, d),
            content_bias: path.zeros("pos_bias_u", &[heads, d / heads]),
            position_bias: path.zeros("pos_bias_v", &[heads, d / heads]),
            heads,
            dropout: config.dropout_attention,
        }
    }

    /// (B, T, `d_model`) attends to itself. `positions` are the sinusoids of all distances;
    /// `hidden` (broadcast to (B, heads, T, T)) is `true` where a query may not see a key.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        positions: &Tensor,
        hidden: &Tensor,
        train: bool,
    ) -> Attended {
        let (keys, values) = (self.split(&self.key, x), self.split(&self.value, x));
        self.attend(x, &keys, &values, positions, hidden, train)
    }

    pub(super) fn start(&self, batch: i64, left: i64) -> AttentionState {
        let weights = &self.key.ws;
        let width = weights.size()[0] / self.heads;
        let none = || {
            Tensor::zeros(
                [batch, self.heads, left, width],
                (weights.kind(), weights.device()),
            )
        };
        AttentionState {
            keys: none(),
            values: none(),
        }
    }

    /// (B, n, `d_model`) attends to itself and to the frames in `state`, then replaces the oldest
    /// of them.
    pub(super) fn step(
        &self,
        x: &Tensor,
        positions: &Tensor,
        hidden: &Tensor,
        state: &mut AttentionState,
    ) -> Attended {
        let left = state.keys.size()[2];
        let frames = x.size()[1];
        let keys = Tensor::cat(&[&state.keys, &self.split(&self.key, x)], 2);
        let values = Tensor::cat(&[&state.values, &self.split(&self.value, x)], 2);
        let attended = self.attend(x, &keys, &values, positions, hidden, false);
        state.keys = keys.narrow(2, frames, left);
        state.values = values.narrow(2, frames, left);
        attended
    }

    fn attend(
        &self,
        queries: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        positions: &Tensor,
        hidden: &Tensor,
        train: bool,
    ) -> Attended {
        let query = self.query.forward(queries).unflatten(2, [self.heads, -1]);
        let by_content = (&query + &self.content_bias).transpose(1, 2);
        let by_position = (query + &self.position_bias).transpose(1, 2);
        let positions = self.split(&self.position, positions);

        let keys_count = keys.size()[2];
        let content = by_content.matmul(&keys.transpose(2, 3));
        let position = by_position.matmul(&positions.transpose(2, 3));
        let width = keys.size()[3] as f64;
        let scores = (content + relative_shift(&position, keys_count)) / width.sqrt();
        let map = scores
            .masked_fill(hidden, HIDDEN)
            .softmax(-1, Kind::Float)
            .masked_fill(hidden, 0.0);

        let mixed = map
            .dropout(self.dropout, train)
            .to_kind(values.kind())
            .matmul(values);
        Attended {
            output: self.out.forward(&mixed.transpose(1, 2).flatten(2, 3)),
            map,
        }
    }

    /// (B, T, `d_model`) through `projection` to (B, heads, T, width of a head).
    fn split(&self, projection: &nn::Linear, x: &Tensor) -> Tensor {
        projection
            .forward(x)
            .unflatten(2, [self.heads, -1])
            .transpose(1, 2)
    }
}
