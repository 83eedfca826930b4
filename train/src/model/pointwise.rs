//! Convolution with a kernel of one frame.

use tch::Tensor;
use tch::nn::{self, Module};

use super::fresh;

/// A linear layer whose weight keeps the shape of a convolution, (out, in, 1), as in NeMo's
/// checkpoints; computed as a product on (B, T, in), which saves the transposes.
#[derive(Debug)]
pub(super) struct Pointwise {
    weight: Tensor,
    bias: Tensor,
}

impl Pointwise {
    pub(super) fn new(path: &nn::Path<'_>, inputs: i64, outputs: i64) -> Self {
        let uniform = fresh::uniform(inputs);
        Self {
            weight: path.var("weight", &[outputs, inputs, 1], uniform),
            bias: path.var("bias", &[outputs], uniform),
        }
    }
}

impl Module for Pointwise {
    fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight.squeeze_dim(-1), Some(&self.bias))
    }
}
