//! One Conformer layer (arXiv 2005.08100, section 2.4).

use tch::Tensor;
use tch::nn::{self, Module};

use super::attention::{Attended, AttentionState, RelativeAttention};
use super::config::ConformerConfig;
use super::convolution::{Convolution, ConvolutionState};
use super::feed_forward::FeedForward;

/// Half a feed-forward module, attention, convolution, half a feed-forward module, each added to
/// its normalised input, and a last norm.
#[derive(Debug)]
pub(super) struct Layer {
    norm_feed_forward1: nn::LayerNorm,
    feed_forward1: FeedForward,
    norm_attention: nn::LayerNorm,
    attention: RelativeAttention,
    norm_convolution: nn::LayerNorm,
    convolution: Convolution,
    norm_feed_forward2: nn::LayerNorm,
    feed_forward2: FeedForward,
    norm_out: nn::LayerNorm,
    dropout: f64,
    stochastic_depth: f64,
}

/// What a layer remembers between two chunks.
#[derive(Debug)]
pub(super) struct LayerState {
    attention: AttentionState,
    convolution: ConvolutionState,
}

impl Layer {
    pub(super) fn new(path: &nn::Path<'_>, config: &ConformerConfig) -> Self {
        let norm =
            |name: &str| nn::layer_norm(path / name, vec![config.d_model], Default::default());
        Self {
            norm_feed_forward1: norm("norm_feed_forward1"),
            feed_forward1: FeedForward::new(&(path / "feed_forward1"), config),
            norm_attention: norm("norm_self_att"),
            attention: RelativeAttention::new(&(path / "self_attn"), config),
            norm_convolution: norm("norm_conv"),
            convolution: Convolution::new(&(path / "conv"), config),
            norm_feed_forward2: norm("norm_feed_forward2"),
            feed_forward2: FeedForward::new(&(path / "feed_forward2"), config),
            norm_out: norm("norm_out"),
            dropout: config.dropout,
            stochastic_depth: config.stochastic_depth,
        }
    }

    /// (B, T, `d_model`) to the same shape, and the attention map. `real` (B, T) and `hidden` (B, 1,
    /// T, T) tell frames from padding and what a frame may not see.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        positions: &Tensor,
        real: &Tensor,
        hidden: &Tensor,
        train: bool,
    ) -> (Tensor, Tensor) {
        let attend = |x: &Tensor| self.attention.forward(x, positions, hidden, train);
        let convolve = |x: &Tensor| self.convolution.forward(x, real, train);
        self.macaron(x, attend, convolve, train)
    }

    pub(super) fn start(&self, batch: i64, left: i64) -> LayerState {
        LayerState {
            attention: self.attention.start(batch, left),
            convolution: self.convolution.start(batch),
        }
    }

    /// (B, n, `d_model`) to the same shape, after the frames in `state`.
    pub(super) fn step(
        &self,
        x: &Tensor,
        positions: &Tensor,
        hidden: &Tensor,
        state: &mut LayerState,
    ) -> Tensor {
        let LayerState {
            attention,
            convolution,
        } = state;
        let attend = |x: &Tensor| self.attention.step(x, positions, hidden, attention);
        let convolve = |x: &Tensor| self.convolution.step(x, convolution);
        self.macaron(x, attend, convolve, false).0
    }

    fn macaron(
        &self,
        x: &Tensor,
        attend: impl FnOnce(&Tensor) -> Attended,
        convolve: impl FnOnce(&Tensor) -> Tensor,
        train: bool,
    ) -> (Tensor, Tensor) {
        let drop = |x: Tensor| self.left_out(x.dropout(self.dropout, train), train);
        let y = self
            .feed_forward1
            .forward(&self.norm_feed_forward1.forward(x), train);
        let x = x + drop(y) * 0.5;
        let attended = attend(&self.norm_attention.forward(&x));
        let x = x + drop(attended.output);
        let y = convolve(&self.norm_convolution.forward(&x));
        let x = x + drop(y);
        let y = self
            .feed_forward2
            .forward(&self.norm_feed_forward2.forward(&x), train);
        let x = x + drop(y) * 0.5;
        (self.norm_out.forward(&x), attended.map)
    }

    /// What a module adds, for some utterances nothing; for the others so much more that the mean is the same.
    fn left_out(&self, x: Tensor, train: bool) -> Tensor {
        if !train || self.stochastic_depth == 0.0 {
            return x;
        }
        let kept = 1.0 - self.stochastic_depth;
        let mask = Tensor::full([x.size()[0], 1, 1], kept, (x.kind(), x.device())).bernoulli();
        x * (mask / kept)
    }
}
