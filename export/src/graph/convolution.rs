//! The convolution module: pointwise convolution with GLU, causal depthwise convolution, layer
//! norm, Swish, pointwise convolution.

use super::builder::Convolution;
use super::{GraphError, Writer};

impl Writer<'_> {
    /// Adds the module's result to `x` (rows, `d_model`). `past` are the gated frames before the
    /// chunk, (B, 1, kernel - 1, `d_model`), if the kernel reaches any; also gives those frames
    /// and the chunk's own.
    pub(super) fn convolution(
        &mut self,
        layer: &str,
        x: &str,
        past: Option<&str>,
    ) -> Result<(String, String), GraphError> {
        let (d, kernel) = (self.config.d_model, self.config.kernel);
        let (batch, frames) = (self.streaming.batch, self.streaming.chunk);
        let path = format!("{layer}.conv");
        let name = |part: &str| format!("{path}.{part}");
        let pointwise1 = self.weights.pointwise(&name("pointwise_conv1"), d, 2 * d)?;
        let pointwise2 = self.weights.pointwise(&name("pointwise_conv2"), d, d)?;
        let depthwise = self
            .weights
            .get(&name("depthwise_conv.weight"), &[d, 1, kernel])?;
        let depthwise = Convolution {
            weight: &depthwise.unsqueeze(2),
            bias: Some(self.weights.get(&name("depthwise_conv.bias"), &[d])?),
            stride: 1,
            padding: [0; 4],
            groups: d,
        };

        let y = self.norm_and_map(
            &format!("{layer}.norm_conv"),
            &name("pointwise_conv1"),
            x,
            &pointwise1,
        )?;
        let halves = self.graph.split(&name("halves"), &y, 1, &[d, d]);
        let gate = self.graph.node("Sigmoid", &name("gate"), &[&halves[1]]);
        let y = self.graph.node("Mul", &name("glu"), &[&halves[0], &gate]);
        let y = self
            .graph
            .reshape(&name("gated"), &y, &[batch, 1, frames, d]);
        let gated = match past {
            Some(past) => self.graph.concat(&name("frames"), 2, &[past, &y]),
            None => y,
        };

        // With channels first and back again as for an image, an engine can take both transposes
        // into the reordering that its convolution does anyway.
        let y = self
            .graph
            .transpose(&name("by_channel"), &gated, &[0, 3, 1, 2]);
        let y = self
            .graph
            .convolution(&name("depthwise_conv"), &y, &depthwise);
        let y = self.graph.transpose(&name("by_frame"), &y, &[0, 2, 3, 1]);
        let y = self.graph.reshape(&name("rows"), &y, &[batch * frames, d]);
        let y = self.norm(&name("layer_norm"), &y)?;
        let y = self.graph.swish(&name("swish"), &y);
        let y = self.graph.gemm(&name("pointwise_conv2"), &y, &pointwise2);
        Ok((self.graph.node("Add", &name("residual"), &[x, &y]), gated))
    }
}
