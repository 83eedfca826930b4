//! The feed-forward module: linear, Swish, linear.

use super::{GraphError, Writer};

impl Writer<'_> {
    /// Adds half the module's result to `x` (rows, `d_model`). The half lies in the weights.
    pub(super) fn feed_forward(
        &mut self,
        layer: &str,
        number: u8,
        x: &str,
    ) -> Result<String, GraphError> {
        let (d, inner) = (self.config.d_model, self.config.feed_forward);
        let path = format!("{layer}.feed_forward{number}");
        let name = |part: &str| format!("{path}.{part}");
        let linear1 = self.weights.linear(&name("linear1"), d, inner)?;
        let linear2 = self.weights.linear(&name("linear2"), inner, d)?;

        let norm = format!("{layer}.norm_feed_forward{number}");
        let y = self.norm_and_map(&norm, &name("linear1"), x, &linear1)?;
        let y = self.graph.swish(&name("swish"), &y);
        let y = self.graph.gemm(&name("linear2"), &y, &linear2.scaled(0.5));
        Ok(self.graph.node("Add", &name("residual"), &[x, &y]))
    }
}
