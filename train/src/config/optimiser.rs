//! How parameters are moved.

use serde::{Deserialize, Serialize};

use super::error::{RecipeError, require};

/// `[optimiser]`: AdamW or Muon with warm-up and decay. Each stage starts it afresh.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Optimiser {
    /// What moves the matrices of the layers. Default: `"adamw"`.
    pub method: Method,
    /// Learning rate at the end of the warm-up. Default: 0.001.
    pub peak_learning_rate: f64,
    /// Steps in which the learning rate rises from zero. Default: 2000.
    pub warm_up_steps: u64,
    /// How it falls afterwards. Default: `"cosine"`.
    pub decay: Decay,
    /// The learning rate at a stage's end as a share of its peak, for `"cosine"` and `"linear"`.
    /// Default: 0.01.
    pub final_share: f64,
    /// The learning rate of a Whisper encoder's layers that are trained along with a head, as a share
    /// of the head's. Default: 0.05.
    pub encoder_share: f64,
    /// Decay of Adam's running means. Default: `[0.9, 0.98]`.
    pub betas: [f64; 2],
    /// Added to Adam's divisor. Default: 1e-8.
    pub epsilon: f64,
    /// Decoupled weight decay; never of biases and norms. Default: 0.01.
    pub weight_decay: f64,
    /// Largest norm of all gradients together. Default: 5, which nearly every step reaches, as losses are sums over an utterance's
    /// frames: so all steps have one length.
    pub clip_norm: f64,
    /// Batches whose gradients are added up for one step. Default: 1.
    pub accumulate_batches: u32,
    /// Steps in a row that may be skipped for a loss or gradient that is not finite, before training
    /// stops. Default: 10.
    pub skip_limit: u32,
}

/// What moves the matrices of the layers; all other parameters are moved by AdamW.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101).
    #[default]
    Adamw,
    /// Muon (Jordan et al. 2024): along the running mean of gradients with all its singular values made
    /// about one, scaled to the length of AdamW's steps (Liu et al. 2025, arXiv 2502.16982), so that
    /// the same learning rates suit. A step costs more, and goes further.
    Muon,
}

/// How the learning rate falls after its warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// Half a cosine down to `final_share` at the stage's end.
    #[default]
    Cosine,
    /// A line down to `final_share` at the stage's end.
    Linear,
    /// With one over the square root of the step.
    InverseSqrt,
    /// Not at all.
    Constant,
}

impl Default for Optimiser {
    fn default() -> Self {
        Self {
            method: Method::default(),
            peak_learning_rate: 1e-3,
            warm_up_steps: 2000,
            decay: Decay::Cosine,
            final_share: 0.01,
            encoder_share: 0.05,
            betas: [0.9, 0.98],
            epsilon: 1e-8,
            weight_decay: 0.01,
            clip_norm: 5.0,
            accumulate_batches: 1,
            skip_limit: 10,
        }
    }
}

impl Optimiser {
    pub(super) fn validate(&self) -> Result<(), RecipeError> {
        positive("optimiser.peak_learning_rate", self.peak_learning_rate)?;
        positive("optimiser.epsilon", self.epsilon)?;
        positive("optimiser.clip_norm", self.clip_norm)?;
        let share = (0.0..=1.0).contains(&self.final_share);
        require(
            "optimiser.final_share",
            "from 0 to 1",
            self.final_share,
            share,
        )?;
        let share = self.encoder_share;
        let holds = share > 0.0 && share <= 1.0;
        require(
            "optimiser.encoder_share",
            "above 0, at most 1",
            share,
            holds,
        )?;
        for beta in self.betas {
            let holds = (0.0..1.0).contains(&beta);
            require("optimiser.betas", "at least 0 and below 1", beta, holds)?;
        }
        let decay = self.weight_decay;
        let holds = decay >= 0.0 && decay.is_finite();
        require("optimiser.weight_decay", "at least 0", decay, holds)?;
        let batches = self.accumulate_batches;
        require(
            "optimiser.accumulate_batches",
            "at least 1",
            batches,
            batches >= 1,
        )?;
        require(
            "optimiser.skip_limit",
            "at least 1",
            self.skip_limit,
            self.skip_limit >= 1,
        )
    }
}

pub(super) fn positive(field: impl Into<String>, value: f64) -> Result<(), RecipeError> {
    require(field, "above 0", value, value > 0.0 && value.is_finite())
}
