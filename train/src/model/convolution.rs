//! The convolution module of the Conformer (Gulati et al. 2020, arXiv 2005.08100, section 2.2).

use tch::Tensor;
use tch::nn::{self, Module, ModuleT};

use super::config::{ConformerConfig, ConvolutionNorm};
use super::fresh;
use super::pointwise::Pointwise;

/// Pointwise convolution with GLU, depthwise convolution, norm, Swish, pointwise convolution.
#[derive(Debug)]
pub(super) struct Convolution {
    pointwise1: Pointwise,
    depthwise: nn::Conv1D,
    norm: Norm,
    pointwise2: Pointwise,
    /// Zeros before and after the frames.
    padding: [i64; 2],
}

#[derive(Debug)]
enum Norm {
    Batch(nn::BatchNorm),
    Layer(nn::LayerNorm),
}

/// The last gated frames, which the causal depthwise convolution still reaches: (B, `d_model`,
/// kernel - 1). Zeros at a stream's start, as the one-pass form pads.
#[derive(Debug)]
pub(super) struct ConvolutionState(Tensor);

impl Convolution {
    pub(super) fn new(path: &nn::Path<'_>, config: &ConformerConfig) -> Self {
        let (d, kernel) = (config.d_model, config.kernel);
        let depthwise = nn::ConvConfig {
            groups: d,
            ws_init: fresh::uniform(kernel),
            ..Default::default()
        };
        let norm = match config.norm {
            ConvolutionNorm::Batch => {
                Norm::Batch(nn::batch_norm1d(path / "batch_norm", d, Default::default()))
            }
            ConvolutionNorm::Layer => Norm::Layer(nn::layer_norm(
                path / "layer_norm",
                vec![d],
                Default::default(),
            )),
        };
        Self {
            pointwise1: Pointwise::new(&(path / "pointwise_conv1"), d, 2 * d),
            depthwise: nn::conv1d(path / "depthwise_conv", d, d, kernel, depthwise),
            norm,
            pointwise2: Pointwise::new(&(path / "pointwise_conv2"), d, d),
            padding: if config.causal {
                [kernel - 1, 0]
            } else {
                [kernel / 2, kernel / 2]
            },
        }
    }

    /// (B, T, `d_model`) to the same shape. `real` (B, T) is `false` on padding, which counts as
    /// zeros.
    pub(super) fn forward(&self, x: &Tensor, real: &Tensor, train: bool) -> Tensor {
        let gated = self
            .gate(x)
            .masked_fill(&real.logical_not().unsqueeze(-1), 0.0);
        let padded = gated.transpose(1, 2).constant_pad_nd(self.padding);
        self.mix(&padded, train.then_some(real))
    }

    pub(super) fn start(&self, batch: i64) -> ConvolutionState {
        let weights = &self.depthwise.ws;
        let shape = [batch, weights.size()[0], self.padding[0]];
        ConvolutionState(Tensor::zeros(shape, (weights.kind(), weights.device())))
    }

    /// (B, n, `d_model`) to the same shape, after the frames in `state`.
    pub(super) fn step(&self, x: &Tensor, state: &mut ConvolutionState) -> Tensor {
        let frames = Tensor::cat(&[&state.0, &self.gate(x).transpose(1, 2)], 2);
        state.0 = frames.narrow(2, x.size()[1], self.padding[0]);
        self.mix(&frames, None)
    }

    fn gate(&self, x: &Tensor) -> Tensor {
        self.pointwise1.forward(x).glu(-1)
    }

    /// (B, `d_model`, T + kernel - 1) to (B, T, `d_model`). `train_on` marks the frames that batch
    /// statistics are taken from; without it the stored ones are used.
    fn mix(&self, padded: &Tensor, train_on: Option<&Tensor>) -> Tensor {
        let x = self.depthwise.forward(padded).transpose(1, 2);
        let x = match (&self.norm, train_on) {
            (Norm::Layer(norm), _) => norm.forward(&x),
            (Norm::Batch(norm), None) => norm.forward_t(&x.transpose(1, 2), false).transpose(1, 2),
            (Norm::Batch(norm), Some(real)) => {
                let frames = norm.forward_t(&x.index(&[Some(real)]), true);
                x.masked_scatter(&real.unsqueeze(-1), &frames)
            }
        };
        self.pointwise2.forward(&x.silu())
    }
}
