//! The feed-forward module of the Conformer (arXiv 2005.08100, section 2.3).

use tch::Tensor;
use tch::nn::{self, Module};

use super::config::ConformerConfig;
use super::fresh::linear;

/// Linear, Swish, dropout, linear.
#[derive(Debug)]
pub(super) struct FeedForward {
    linear1: nn::Linear,
    linear2: nn::Linear,
    dropout: f64,
}

impl FeedForward {
    pub(super) fn new(path: &nn::Path<'_>, config: &ConformerConfig) -> Self {
        let (d, inner) = (config.d_model, config.feed_forward);
        Self {
            linear1: linear(path / "linear1", d, inner),
            linear2: linear(path / "linear2", inner, d),
            dropout: config.dropout,
        }
    }

    pub(super) fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let inner = self.linear1.forward(x).silu().dropout(self.dropout, train);
        self.linear2.forward(&inner)
    }
}
