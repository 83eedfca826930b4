//! `model_config.yaml`: what NeMo says about a model, and what of it can be imported.

use serde::Deserialize;
use serde_json::{Value, json};
use serde_saphyr::options::NonFiniteFloatPolicy;

use super::error::NemoErrorKind;
use crate::model::{ConformerConfig, ConvolutionNorm, SUBSAMPLING};

/// The parts of a configuration that matter here. Absent values mean NeMo's defaults.
#[derive(Debug, Deserialize)]
pub(super) struct NemoConfig {
    preprocessor: Preprocessor,
    encoder: Encoder,
    decoder: Decoder,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Preprocessor {
    sample_rate: f64,
    normalize: Value,
    window_size: f64,
    window_stride: f64,
    window: String,
    features: i64,
    n_fft: Option<i64>,
    preemph: Option<f64>,
    lowfreq: f64,
    highfreq: Option<f64>,
    log: bool,
    log_zero_guard_type: String,
    log_zero_guard_value: Value,
    frame_splicing: i64,
    exact_pad: bool,
    mag_power: f64,
    mel_norm: String,
}

impl Default for Preprocessor {
    fn default() -> Self {
        Self {
            sample_rate: 16_000.0,
            normalize: json!("per_feature"),
            window_size: 0.02,
            window_stride: 0.01,
            window: "hann".into(),
            features: 64,
            n_fft: None,
            preemph: Some(0.97),
            lowfreq: 0.0,
            highfreq: None,
            log: true,
            log_zero_guard_type: "add".into(),
            log_zero_guard_value: json!(LOG_GUARD),
            frame_splicing: 1,
            exact_pad: false,
            mag_power: 2.0,
            mel_norm: "slaney".into(),
        }
    }
}

const LOG_GUARD: f64 = 1.0 / (1 << 24) as f64;

#[derive(Debug, Deserialize)]
struct Encoder {
    feat_in: i64,
    n_layers: i64,
    d_model: i64,
    #[serde(default = "minus_one")]
    feat_out: i64,
    #[serde(default)]
    causal_downsampling: bool,
    #[serde(default = "striding")]
    subsampling: String,
    #[serde(default = "four")]
    subsampling_factor: i64,
    #[serde(default = "minus_one")]
    subsampling_conv_channels: i64,
    #[serde(default)]
    reduction: Value,
    #[serde(default = "four")]
    ff_expansion_factor: i64,
    #[serde(default = "relative")]
    self_attention_model: String,
    #[serde(default = "four")]
    n_heads: i64,
    #[serde(default)]
    att_context_size: Value,
    #[serde(default = "yes")]
    xscaling: bool,
    #[serde(default = "kernel")]
    conv_kernel_size: i64,
    #[serde(default = "batch_norm")]
    conv_norm_type: String,
    #[serde(default)]
    conv_context_size: Value,
    #[serde(default = "yes")]
    use_bias: bool,
    #[serde(default = "tenth")]
    dropout: f64,
    #[serde(default)]
    dropout_att: f64,
}

#[derive(Debug, Deserialize)]
struct Decoder {
    vocabulary: Vec<String>,
}

fn minus_one() -> i64 {
    -1
}

fn four() -> i64 {
    4
}

fn kernel() -> i64 {
    31
}

fn tenth() -> f64 {
    0.1
}

fn yes() -> bool {
    true
}

fn striding() -> String {
    "striding".into()
}

fn relative() -> String {
    "rel_pos".into()
}

fn batch_norm() -> String {
    "batch_norm".into()
}

impl NemoConfig {
    pub(super) fn parse(yaml: &[u8]) -> Result<Self, NemoErrorKind> {
        // Settings that do not matter here, of NeMo's decoders, may be infinite.
        let options = serde_saphyr::options! {
            non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
            with_snippet: false,
        };
        serde_saphyr::from_slice_with_options(yaml, options).map_err(|reason| NemoErrorKind::Yaml {
            reason: reason.to_string(),
        })
    }

    /// The model's geometry, if it is one that [`crate::model::Conformer`] can take.
    pub(super) fn conformer(&self) -> Result<ConformerConfig, NemoErrorKind> {
        let e = &self.encoder;
        require("encoder.subsampling", "striding", &e.subsampling)?;
        require(
            "encoder.subsampling_factor",
            &SUBSAMPLING,
            &e.subsampling_factor,
        )?;
        require(
            "encoder.causal_downsampling",
            &false,
            &e.causal_downsampling,
        )?;
        require("encoder.reduction", &Value::Null, &e.reduction)?;
        require(
            "encoder.self_attention_model",
            &relative(),
            &e.self_attention_model,
        )?;
        if !e.att_context_size.is_null() {
            require(
                "encoder.att_context_size",
                &json!([-1, -1]),
                &e.att_context_size,
            )?;
        }
        require("encoder.conv_norm_type", "batch_norm", &e.conv_norm_type)?;
        require(
            "encoder.conv_context_size",
            &Value::Null,
            &e.conv_context_size,
        )?;
        require("encoder.use_bias", &true, &e.use_bias)?;
        if e.feat_out > 0 {
            require("encoder.feat_out", &e.d_model, &e.feat_out)?;
        }
        let channels = e.subsampling_conv_channels;
        let config = ConformerConfig {
            features: e.feat_in,
            feature_mean: 0.0,
            feature_deviation: 1.0,
            vocabulary: self.decoder.vocabulary.len() as i64,
            d_model: e.d_model,
            layers: e.n_layers,
            heads: e.n_heads,
            feed_forward: e.d_model.saturating_mul(e.ff_expansion_factor),
            kernel: e.conv_kernel_size,
            subsampling_channels: if channels == -1 { e.d_model } else { channels },
            causal: false,
            norm: ConvolutionNorm::Batch,
            xscaling: e.xscaling,
            dropout: e.dropout,
            dropout_attention: e.dropout_att,
            stochastic_depth: 0.0,
        };
        config.validate()?;
        Ok(config)
    }

    /// That the model hears what [`crate::front_end::NemoFeatures`] computes. Dither and padding of the batch play
    /// no part when a model is used, so they may be anything.
    pub(super) fn check_front_end(&self) -> Result<(), NemoErrorKind> {
        let p = &self.preprocessor;
        require("preprocessor.sample_rate", &16_000.0, &p.sample_rate)?;
        require(
            "preprocessor.normalize",
            &json!("per_feature"),
            &p.normalize,
        )?;
        require("preprocessor.window_size", &0.025, &p.window_size)?;
        require("preprocessor.window_stride", &0.01, &p.window_stride)?;
        require("preprocessor.window", "hann", &p.window)?;
        require("preprocessor.features", &self.encoder.feat_in, &p.features)?;
        require("preprocessor.n_fft", &512, &p.n_fft.unwrap_or(512))?;
        require("preprocessor.preemph", &0.97, &p.preemph.unwrap_or(0.0))?;
        require("preprocessor.lowfreq", &0.0, &p.lowfreq)?;
        require(
            "preprocessor.highfreq",
            &8000.0,
            &p.highfreq.unwrap_or(8000.0),
        )?;
        require("preprocessor.log", &true, &p.log)?;
        require(
            "preprocessor.log_zero_guard_type",
            "add",
            &p.log_zero_guard_type,
        )?;
        require(
            "preprocessor.log_zero_guard_value",
            &json!(LOG_GUARD),
            &p.log_zero_guard_value,
        )?;
        require("preprocessor.frame_splicing", &1, &p.frame_splicing)?;
        require("preprocessor.exact_pad", &false, &p.exact_pad)?;
        require("preprocessor.mag_power", &2.0, &p.mag_power)?;
        require("preprocessor.mel_norm", "slaney", &p.mel_norm)
    }

    /// The tokens in the order of the model's outputs, without the blank.
    pub(super) fn into_tokens(self) -> Vec<String> {
        self.decoder.vocabulary
    }
}

fn require<T: PartialEq + std::fmt::Debug + ?Sized>(
    field: &'static str,
    expected: &T,
    found: &T,
) -> Result<(), NemoErrorKind> {
    if found == expected {
        return Ok(());
    }
    let (expected, found) = (format!("{expected:?}"), format!("{found:?}"));
    Err(NemoErrorKind::Unsupported {
        field,
        expected,
        found,
    })
}
