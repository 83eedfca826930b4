//! What follows the input: Conformer layers and the CTC head.

use tch::nn::{self, Module};
use tch::{Kind, Tensor};

use super::config::ConformerConfig;
use super::conformer::{Output, Pass};
use super::layer::Layer;
use super::mask::{real_frames, visible_keys};
use super::pointwise::Pointwise;
use super::position::sinusoids;

/// Conformer layers and a CTC head over frames of width `d_model`, wherever these come from.
#[derive(Debug)]
pub(super) struct Trunk {
    pub(super) layers: Vec<Layer>,
    head: Pointwise,
    d_model: i64,
    dropout: f64,
}

impl Trunk {
    /// Fresh parameters under `path`, of a configuration that was checked.
    pub(super) fn new(path: &nn::Path<'_>, config: &ConformerConfig) -> Self {
        let layers = path / "encoder" / "layers";
        Self {
            layers: (0..config.layers)
                .map(|i| Layer::new(&(&layers / i), config))
                .collect(),
            head: Pointwise::new(
                &(path / "decoder" / "decoder_layers" / 0),
                config.d_model,
                config.outputs(),
            ),
            d_model: config.d_model,
            dropout: config.dropout,
        }
    }

    /// (B, T, `d_model`) with so many real frames each.
    pub(super) fn forward(&self, x: &Tensor, lengths: Vec<i64>, pass: Pass) -> Output {
        let (frames, device) = (x.size()[1], x.device());
        let positions = sinusoids(frames, frames, self.d_model, device);
        let real = real_frames(&lengths, frames, device);
        let hidden = visible_keys(pass.context, &lengths, frames, device)
            .logical_not()
            .unsqueeze(1);

        let mut x = x.dropout(self.dropout, pass.train);
        let mut attention = None;
        for layer in &self.layers {
            let (y, map) = layer.forward(&x, &positions, &real, &hidden, pass.train);
            x = y;
            attention = pass.attention.then_some(map);
        }
        Output {
            log_probs: self.log_probs(&x),
            lengths,
            hidden: x,
            attention,
        }
    }

    /// The head: (B, T, `d_model`) to log-probabilities (B, T, outputs).
    pub(super) fn log_probs(&self, x: &Tensor) -> Tensor {
        self.head.forward(x).log_softmax(-1, Kind::Float)
    }
}
