//! The whole model: subsampling, layers, CTC head.

use tch::Tensor;
use tch::nn;

use super::config::{ConfigError, ConformerConfig};
use super::mask::Context;
use super::subsampling::Subsampling;
use super::trunk::Trunk;

/// A Conformer encoder with a CTC head (Gulati et al. 2020, arXiv 2005.08100). Teacher and student
/// are the same code with other numbers.
///
/// Parameters carry NeMo's names, so that a checkpoint of the one loads into the other; only the
/// layer norm of a causal model's convolution is called what it is.
///
/// ```
/// use sori_train::model::{Conformer, ConformerConfig, Context, Pass};
/// use tch::{Device, Kind, Tensor, nn};
///
/// let config = ConformerConfig { layers: 2, d_model: 32, ..ConformerConfig::student() };
/// let store = nn::VarStore::new(Device::Cpu);
/// let model = Conformer::new(&store.root(), &config)?;
/// let log_mel = Tensor::randn([1, 400, 80], (Kind::Float, Device::Cpu));
/// let context = Context::Chunked { chunk: 8, left: 64 };
/// let output = model.forward(&log_mel, &[400], Pass { context, ..Pass::default() });
/// assert_eq!(output.log_probs.size(), [1, 100, config.outputs()]);
/// # Ok::<(), sori_train::model::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Conformer {
    pub(super) config: ConformerConfig,
    pub(super) subsampling: Subsampling,
    pub(super) trunk: Trunk,
}

/// How to run the model once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pass {
    /// What attention may see.
    pub context: Context,
    /// Dropout on, batch statistics updated.
    pub train: bool,
    /// Return the last layer's attention map.
    pub attention: bool,
}

/// What the model says about a batch, and what distillation compares.
#[derive(Debug)]
pub struct Output {
    /// Log-probabilities over tokens and, last, the blank: (B, T', outputs).
    pub log_probs: Tensor,
    /// Valid output frames of each utterance.
    pub lengths: Vec<i64>,
    /// Output of the last layer, which the head sees: (B, T', `d_model`).
    pub hidden: Tensor,
    /// The last layer's attention map if it was asked for: (B, heads, T', T'), after softmax,
    /// before dropout. Rows of real frames sum to one; rows of padding are zero.
    pub attention: Option<Tensor>,
}

impl Conformer {
    /// Builds a model with fresh parameters under `path`.
    ///
    /// # Errors
    /// If [`ConformerConfig::validate`] finds fault.
    pub fn new(path: &nn::Path<'_>, config: &ConformerConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            config: config.clone(),
            subsampling: Subsampling::new(&(path / "encoder" / "pre_encode"), config),
            trunk: Trunk::new(path, config),
        })
    }

    /// The numbers it was built from.
    #[must_use]
    pub fn config(&self) -> &ConformerConfig {
        &self.config
    }

    /// Runs whole utterances: `features` are log-mel frames (B, T, features), `lengths` the real
    /// frames of each. What lies past a length changes nothing before it.
    ///
    /// # Panics
    /// If `features` is not (B, T, features) with as many `lengths`, none above T, or if T is too
    /// short for one output frame.
    #[must_use]
    pub fn forward(&self, features: &Tensor, lengths: &[i64], pass: Pass) -> Output {
        let size = features.size();
        assert!(
            matches!(size[..], [batch, frames, bands] if batch == lengths.len() as i64
                && bands == self.config.features
                && self.config.subsampled(frames) >= 1
                && lengths.iter().all(|length| (0..=frames).contains(length))),
            "log-mel {size:?} with lengths {lengths:?}: expected (batch, frames, {}), a length for \
             each utterance, and frames for at least one output",
            self.config.features
        );
        let x = self.scale(self.subsampling.forward(features, lengths));
        let lengths = lengths.iter().map(|&n| self.config.subsampled(n)).collect();
        self.trunk.forward(&x, lengths, pass)
    }

    /// Subsampled frames as the first layer wants them.
    pub(super) fn scale(&self, x: Tensor) -> Tensor {
        if self.config.xscaling {
            x * (self.config.d_model as f64).sqrt()
        } else {
            x
        }
    }
}
