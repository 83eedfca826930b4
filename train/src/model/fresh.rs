//! Where parameters begin.

use tch::nn::{self, Init};

/// Uniform within `±1 / sqrt(inputs)`, as torch itself begins a linear layer or a convolution. The
/// default of `tch` is √6 times as wide, made for a ReLU that follows: attention, whose scores are
/// products of two projections, then begins saturated and hardly learns.
pub(super) fn uniform(inputs: i64) -> Init {
    let bound = (inputs as f64).powf(-0.5);
    Init::Uniform {
        lo: -bound,
        up: bound,
    }
}

/// A linear layer with a bias.
pub(crate) fn linear(path: nn::Path<'_>, inputs: i64, outputs: i64) -> nn::Linear {
    affine(path, inputs, outputs, true)
}

/// A linear layer without a bias.
pub(super) fn unbiased(path: nn::Path<'_>, inputs: i64, outputs: i64) -> nn::Linear {
    affine(path, inputs, outputs, false)
}

fn affine(path: nn::Path<'_>, inputs: i64, outputs: i64, bias: bool) -> nn::Linear {
    let config = nn::LinearConfig {
        ws_init: uniform(inputs),
        bs_init: None,
        bias,
    };
    nn::linear(path, inputs, outputs, config)
}
