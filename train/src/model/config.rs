//! The numbers that make a Conformer: teacher and student are two values of one type.

use serde::{Deserialize, Serialize};

/// Output frames are this many times rarer than log-mel frames: two convolutions of stride two.
pub const SUBSAMPLING: i64 = 4;

/// The geometry of a Conformer-CTC model. All widths are in units (channels), all times in frames.
///
/// ```
/// use sori_train::model::ConformerConfig;
///
/// let student = ConformerConfig { vocabulary: 256, ..ConformerConfig::student() };
/// student.validate()?;
/// # Ok::<(), sori_train::model::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConformerConfig {
    /// Log-mel bands of an input frame.
    pub features: i64,
    /// What is subtracted from every feature first, about their mean: learning is slow where inputs are
    /// far from zero. 0 for features that come normalised.
    #[serde(default)]
    pub feature_mean: f64,
    /// What the rest is divided by, about the features' standard deviation.
    #[serde(default = "one")]
    pub feature_deviation: f64,
    /// Tokens without the blank. The head has one output more: the blank, last.
    pub vocabulary: i64,
    /// Width of the residual stream.
    pub d_model: i64,
    /// Number of Conformer layers.
    pub layers: i64,
    /// Attention heads; divides `d_model`.
    pub heads: i64,
    /// Inner width of both feed-forward modules.
    pub feed_forward: i64,
    /// Taps of the depthwise convolution, odd.
    pub kernel: i64,
    /// Channels of the two subsampling convolutions.
    pub subsampling_channels: i64,
    /// `true` for a model that can stream: no convolution looks past the frame that it is computed
    /// for, and frames are normalised one by one.
    pub causal: bool,
    /// Normalisation inside the convolution module.
    pub norm: ConvolutionNorm,
    /// Multiply the subsampled frames by `sqrt(d_model)` before the first layer.
    pub xscaling: bool,
    /// Dropout after every module, between feed-forward layers and before the first layer.
    pub dropout: f64,
    /// Dropout of the attention weights.
    pub dropout_attention: f64,
    /// How often a module of a layer is left out of an utterance in training: stochastic depth
    /// (arXiv 1603.09382), with one rate for all layers.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stochastic_depth: f64,
}

/// Normalisation between the depthwise convolution and its activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConvolutionNorm {
    /// Over the batch's frames, channel by channel. In training its statistics cover real frames
    /// only, so padding never counts.
    Batch,
    /// Over a frame's channels: needs no statistics of other frames, so a model can stream.
    Layer,
}

/// Why a [`ConformerConfig`] describes no model.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A number lies outside what a model can be built from. Correct that field of the
    /// configuration.
    #[error("conformer configuration: {field} must be {expected}, found {found}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What would have been accepted.
        expected: String,
        /// What was given.
        found: String,
    },
}

impl ConformerConfig {
    /// The teacher: Conformer-CTC Large with 121 million parameters, to the unit the geometry of
    /// NVIDIA NeMo's `conformer_ctc_bpe.yaml` (Large) with a vocabulary of 128 pieces.
    #[must_use]
    pub fn teacher() -> Self {
        Self {
            features: 80,
            feature_mean: 0.0,
            feature_deviation: 1.0,
            vocabulary: 128,
            d_model: 512,
            layers: 18,
            heads: 8,
            feed_forward: 2048,
            kernel: 31,
            subsampling_channels: 512,
            causal: false,
            norm: ConvolutionNorm::Batch,
            xscaling: true,
            dropout: 0.1,
            dropout_attention: 0.1,
            stochastic_depth: 0.0,
        }
    }

    /// The student: 5 million parameters, streaming.
    ///
    /// Few and wide layers rather than many narrow ones: on a phone a chunk costs time per operator
    /// as much as per multiplication. The narrow subsampling keeps its second convolution, which
    /// grows with the square of its channels, a small part of the work.
    #[must_use]
    pub fn student() -> Self {
        Self {
            features: 80,
            feature_mean: -10.0,
            feature_deviation: 4.0,
            vocabulary: 128,
            d_model: 160,
            layers: 8,
            heads: 4,
            feed_forward: 592,
            kernel: 15,
            subsampling_channels: 64,
            causal: true,
            norm: ConvolutionNorm::Layer,
            xscaling: false,
            dropout: 0.1,
            dropout_attention: 0.1,
            stochastic_depth: 0.0,
        }
    }

    /// Checks that a model can be built from these numbers. The upper bounds are far above any
    /// useful model: they only keep a hostile file from asking for absurd amounts of memory.
    ///
    /// # Errors
    /// Names the first field that is out of bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let ranges = [
            ("features", self.features, 4, 1024),
            ("vocabulary", self.vocabulary, 1, 1 << 20),
            ("d_model", self.d_model, 2, 1 << 13),
            ("layers", self.layers, 1, 256),
            ("heads", self.heads, 1, 256),
            ("feed_forward", self.feed_forward, 1, 1 << 16),
            ("kernel", self.kernel, 1, 1023),
            (
                "subsampling_channels",
                self.subsampling_channels,
                1,
                1 << 13,
            ),
        ];
        for (field, found, low, high) in ranges {
            require(
                field,
                format!("from {low} to {high}"),
                found,
                (low..=high).contains(&found),
            )?;
        }
        require(
            "d_model",
            format!("even and a multiple of {} heads", self.heads),
            self.d_model,
            self.d_model % 2 == 0 && self.d_model % self.heads == 0,
        )?;
        require("kernel", "odd".into(), self.kernel, self.kernel % 2 == 1)?;
        for (field, found) in [
            ("dropout", self.dropout),
            ("dropout_attention", self.dropout_attention),
            ("stochastic_depth", self.stochastic_depth),
        ] {
            require(
                field,
                "at least 0 and below 1".into(),
                found,
                (0.0..1.0).contains(&found),
            )?;
        }
        let (mean, deviation) = (self.feature_mean, self.feature_deviation);
        require(
            "feature_mean",
            "from -1000 to 1000".into(),
            mean,
            mean.abs() <= 1e3,
        )?;
        require(
            "feature_deviation",
            "from 0.001 to 1000".into(),
            deviation,
            (1e-3..=1e3).contains(&deviation),
        )?;
        require(
            "norm",
            "\"layer\" in a causal model".into(),
            "\"batch\"",
            !(self.causal && self.norm == ConvolutionNorm::Batch),
        )
    }

    /// Outputs of the CTC head: the vocabulary and the blank.
    #[must_use]
    pub fn outputs(&self) -> i64 {
        self.vocabulary + 1
    }

    /// The blank's index: the last output.
    #[must_use]
    pub fn blank(&self) -> i64 {
        self.vocabulary
    }

    /// Output frames that `frames` log-mel frames give. A causal model needs four frames for each;
    /// one that is not sees padding on both sides, so that a rest of one to three gives one more.
    #[must_use]
    pub fn subsampled(&self, frames: i64) -> i64 {
        if self.causal {
            frames / SUBSAMPLING
        } else {
            (frames + SUBSAMPLING - 1) / SUBSAMPLING
        }
    }

    /// Trainable parameters by part, to the unit. Running statistics of batch norm are not counted:
    /// they are not trained.
    #[must_use]
    pub fn parameters(&self) -> Vec<(&'static str, i64)> {
        let linear = |inputs: i64, outputs: i64| inputs * outputs + outputs;
        let (d, c) = (self.d_model, self.subsampling_channels);
        let norm = 2 * d;
        vec![
            (
                "subsampling",
                linear(9, c) + linear(9 * c, c) + linear(c * halved(halved(self.features)), d),
            ),
            (
                "feed-forward",
                self.layers * 2 * (linear(d, self.feed_forward) + linear(self.feed_forward, d)),
            ),
            (
                "attention",
                self.layers * (4 * linear(d, d) + d * d + 2 * d),
            ),
            (
                "convolution",
                self.layers * (linear(d, 2 * d) + linear(self.kernel, d) + norm + linear(d, d)),
            ),
            ("layer norms", self.layers * 5 * norm),
            ("CTC head", linear(d, self.outputs())),
        ]
    }
}

fn one() -> f64 {
    1.0
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

/// Length after one subsampling convolution along frequency: kernel 3, stride 2, one zero on each
/// side.
pub(super) fn halved(length: i64) -> i64 {
    (length + 1) / 2
}

pub(super) fn require(
    field: &'static str,
    expected: String,
    found: impl std::fmt::Display,
    holds: bool,
) -> Result<(), ConfigError> {
    if holds {
        Ok(())
    } else {
        Err(ConfigError::Field {
            field,
            expected,
            found: found.to_string(),
        })
    }
}
