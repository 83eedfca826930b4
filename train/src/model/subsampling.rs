//! Log-mel frames to the model's frames: two convolutions of stride two and a projection.

use tch::nn::{self, Module};
use tch::{Kind, Tensor};

use super::config::{ConformerConfig, halved};
use super::fresh;
use super::mask::real_frames;

/// Four-fold subsampling as in the Speech-Transformer (Dong et al. 2018): 3x3 convolutions over
/// time and frequency with ReLU.
///
/// Not causal, a convolution pads one zero on each side of time. Causal, it pads one on the left
/// only: output `t` then depends on inputs up to `4t + 3` exactly, so that a chunk of `4n` frames
/// gives `n` outputs, waits for nothing and leaves nothing over.
#[derive(Debug)]
pub(super) struct Subsampling {
    first: nn::Conv2D,
    second: nn::Conv2D,
    out: nn::Linear,
    causal: bool,
    mean: f64,
    deviation: f64,
}

/// What the causal convolutions remember between two chunks; zeros at a stream's start, which are
/// the zeros that the one-pass form pads.
#[derive(Debug)]
pub(super) struct SubsamplingState {
    /// The last log-mel frame, normalised: (B, 1, 1, features).
    features: Tensor,
    /// The last output of the first convolution: (B, channels, 1, features / 2).
    convolved: Tensor,
}

impl SubsamplingState {
    /// Streams that it remembers.
    pub(super) fn batch(&self) -> i64 {
        self.features.size()[0]
    }
}

impl Subsampling {
    pub(super) fn new(path: &nn::Path<'_>, config: &ConformerConfig) -> Self {
        let padding = if config.causal { [0, 1] } else { [1, 1] };
        let convolution = nn::ConvConfigND {
            stride: [2, 2],
            padding,
            ..Default::default()
        };
        let channels = config.subsampling_channels;
        let bands = halved(halved(config.features));
        let layers = path / "conv";
        Self {
            first: nn::conv(&layers / "0", 1, channels, [3, 3], convolution),
            second: nn::conv(&layers / "2", channels, channels, [3, 3], convolution),
            out: fresh::linear(path / "out", channels * bands, config.d_model),
            causal: config.causal,
            mean: config.feature_mean,
            deviation: config.feature_deviation,
        }
    }

    /// (B, T, features) to (B, T', `d_model`). Frames past a length count as zeros, so that they
    /// change nothing before it.
    pub(super) fn forward(&self, features: &Tensor, lengths: &[i64]) -> Tensor {
        let x = self.normalised(features);
        if self.causal {
            let past = |x: &Tensor| x.constant_pad_nd([0, 0, 1, 0]);
            let x = self.first.forward(&past(&x)).relu();
            let x = self.second.forward(&past(&x)).relu();
            return self.project(&x);
        }
        let half: Vec<_> = lengths.iter().map(|&length| halved(length)).collect();
        let quarter: Vec<_> = half.iter().map(|&length| halved(length)).collect();
        let x = self.first.forward(&silence_padding(&x, lengths)).relu();
        let x = self.second.forward(&silence_padding(&x, &half)).relu();
        self.project(&silence_padding(&x, &quarter))
    }

    pub(super) fn start(&self, batch: i64, features: i64) -> SubsamplingState {
        let weights = &self.first.ws;
        let options = (weights.kind(), weights.device());
        SubsamplingState {
            features: Tensor::zeros([batch, 1, 1, features], options),
            convolved: Tensor::zeros([batch, weights.size()[0], 1, halved(features)], options),
        }
    }

    /// (B, 4n, features) to (B, n, `d_model`), given and leaving the frames before it in `state`.
    pub(super) fn step(&self, features: &Tensor, state: &mut SubsamplingState) -> Tensor {
        let continued = |x: Tensor, past: &mut Tensor| {
            let next = x.narrow(2, x.size()[2] - 1, 1);
            let joined = Tensor::cat(&[&*past, &x], 2);
            *past = next;
            joined
        };
        let x = continued(self.normalised(features), &mut state.features);
        let x = continued(self.first.forward(&x).relu(), &mut state.convolved);
        self.project(&self.second.forward(&x).relu())
    }

    /// (B, T, features) to (B, 1, T, features) around zero: the zeros of paddings are then what is
    /// heard on average.
    fn normalised(&self, features: &Tensor) -> Tensor {
        (features.unsqueeze(1) - self.mean) / self.deviation
    }

    /// (B, channels, T, bands) to (B, T, `d_model`).
    fn project(&self, x: &Tensor) -> Tensor {
        self.out.forward(&x.transpose(1, 2).flatten(2, 3))
    }
}

/// Sets the frames of (B, C, T, F) past their utterance's length to zero.
fn silence_padding(x: &Tensor, lengths: &[i64]) -> Tensor {
    let frames = x.size()[2];
    if lengths.iter().all(|&length| length >= frames) {
        return x.shallow_clone();
    }
    let real = real_frames(lengths, frames, x.device()).to_kind(Kind::Float);
    x * real.unsqueeze(1).unsqueeze(-1)
}
