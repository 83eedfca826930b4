//! The CTC head.

use super::{GraphError, Writer};

impl Writer<'_> {
    /// `x` (rows, `d_model`) to log-probabilities, (B, frames, tokens), under the name `output`.
    pub(super) fn head(&mut self, x: &str, output: &str) -> Result<(), GraphError> {
        let path = "decoder.decoder_layers.0";
        let tokens = self.config.outputs();
        let map = self.weights.pointwise(path, self.config.d_model, tokens)?;
        let y = self.graph.gemm(path, x, &map);
        let y = self.graph.reshape(
            "decoder.logits",
            &y,
            &[self.streaming.batch, self.streaming.chunk, tokens],
        );
        self.graph.softmax("LogSoftmax", output, &y);
        Ok(())
    }
}
