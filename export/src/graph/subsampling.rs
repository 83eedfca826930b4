//! Four-fold subsampling: two convolutions of stride two and a projection.
//!
//! A chunk's first outputs reach back to the three log-mel frames before it, so those travel in the
//! cache. The first convolution is then computed again for one output of the past, a thousandth of
//! a chunk's work, and nothing between the two convolutions needs to be kept.
//!
//! At a stream's start there are no frames before it, and the one-pass form pads zeros: zeros for
//! the first convolution, but zeros for the second as well, where the first applied to zeros would
//! give its bias. So a second channel says whether a frame was heard, and carries the bias, and what
//! normalising the features subtracts.

use sori_train::model::ConformerConfig;
use tch::{Device, Kind, Tensor};

use super::builder::Convolution;
use super::streaming::FRAMES_KEPT;
use super::weights::{Affine, Weights};
use super::{GraphError, Writer};

impl Writer<'_> {
    /// Log-mel frames (B, features, 4 * frames) to the first layer's input, (rows, `d_model`).
    /// `past` are the frames before them with their second channel, (B, 2, 3, features); also gives
    /// those before the next chunk.
    pub(super) fn subsampling(
        &mut self,
        log_mel: &str,
        past: &str,
    ) -> Result<(String, String), GraphError> {
        let features = self.config.features;
        let (batch, frames, window) = (
            self.streaming.batch,
            self.streaming.chunk,
            self.streaming.window(),
        );
        let name = |part: &str| format!("encoder.pre_encode.{part}");
        let Parameters {
            first,
            second,
            second_bias,
            out,
        } = Parameters::new(self.weights, self.config)?;

        let x = self.graph.transpose(&name("by_frame"), log_mel, &[0, 2, 1]);
        let x = self
            .graph
            .reshape(&name("log_mel"), &x, &[batch, 1, window, features]);
        let heard = Tensor::ones([batch, 1, window, features], (Kind::Float, Device::Cpu));
        let heard = self.graph.float(&name("heard"), &heard);
        let x = self.graph.concat(&name("channels"), 1, &[&x, &heard]);
        let x = self.graph.concat(&name("frames"), 2, &[past, &x]);
        let kept = self
            .graph
            .slice(&name("kept"), &x, &[(2, window, window + FRAMES_KEPT)]);

        let mut convolve = |i: u8, x: &str, weight, bias, [before, after]: [i64; 2]| {
            let path = name(&format!("conv.{i}"));
            let of = Convolution {
                weight,
                bias,
                stride: 2,
                padding: [0, before, 0, after],
                groups: 1,
            };
            let y = self.graph.convolution(&path, x, &of);
            self.graph.node("Relu", &format!("{path}.relu"), &[&y])
        };
        // Both pad a zero on each side of the bands. Two more before the first give it one output
        // more, a zero that the second need not pad; a zero after an even number is never reached.
        let x = convolve(0, &x, &first, None, [3, features % 2]);
        let x = convolve(
            2,
            &x,
            &second,
            Some(&second_bias),
            [0, halved(features) % 2],
        );
        let x = self
            .graph
            .transpose(&name("channels_last"), &x, &[0, 2, 3, 1]);
        let x = self
            .graph
            .reshape(&name("rows"), &x, &[batch * frames, out.weight.size()[0]]);
        Ok((self.graph.gemm(&name("out"), &x, &out), kept))
    }
}

/// The module's parameters, folded.
struct Parameters {
    /// (channels, 2, 3, 3): what to do with the features, and the bias.
    first: Tensor,
    second: Tensor,
    second_bias: Tensor,
    /// From bands times channels, channels running fastest; scaled if the model wants it.
    out: Affine,
}

impl Parameters {
    fn new(weights: &Weights, config: &ConformerConfig) -> Result<Self, GraphError> {
        let (channels, d) = (config.subsampling_channels, config.d_model);
        let path = "encoder.pre_encode";
        let get = |name: &str, shape: &[i64]| weights.get(&format!("{path}.{name}"), shape);

        // Features are normalised before they are padded: where nothing was heard there is neither a
        // feature nor a mean to subtract.
        let first = get("conv.0.weight", &[channels, 1, 3, 3])? / config.feature_deviation;
        let first_bias = &first * -config.feature_mean;
        // The newest frame of the window and its middle band: always inside the input.
        let _ = first_bias
            .narrow(2, 2, 1)
            .narrow(3, 1, 1)
            .g_add_(&get("conv.0.bias", &[channels])?.reshape([-1, 1, 1, 1]));

        let bands = halved(halved(config.features));
        let out = weights.linear(&format!("{path}.out"), channels * bands, d)?;
        let by_channel = out
            .weight
            .reshape([channels, bands, d])
            .transpose(0, 1)
            .reshape([-1, d]);
        let scale = if config.xscaling {
            (d as f64).sqrt()
        } else {
            1.0
        };
        Ok(Self {
            first: Tensor::cat(&[&first, &first_bias], 1),
            second: get("conv.2.weight", &[channels, channels, 3, 3])?.shallow_clone(),
            second_bias: get("conv.2.bias", &[channels])?.shallow_clone(),
            out: Affine {
                weight: by_channel,
                bias: out.bias,
            }
            .scaled(scale),
        })
    }
}

/// Bands after a convolution.
fn halved(bands: i64) -> i64 {
    (bands + 1) / 2
}
