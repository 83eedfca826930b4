//! A CTC head on the frozen encoder, for what Whisper lacks: posteriors over our tokens, frame by
//! frame.
//!
//! The outputs of all layers, each normalised, are mixed with learned weights (as Yang et al. 2021,
//! arXiv 2105.01051, mix them), and two frames are put side by side, which gives our 25 a second. Or it
//! hears only what the encoder gives out, at 25 frames a second already: that can be kept, and the head
//! then be trained without the encoder. Then come Conformer layers, which see the whole utterance, and
//! the CTC head. Some of the encoder's last layers may be trained along; the head then carries its own
//! copy of them.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::nn::{self, Module};
use tch::{Device, Kind, Tensor, no_grad};

use super::encoder::Layer;
use super::{Whisper, pool};
use crate::model::checkpoint::{self, CheckpointError};
use crate::model::config::{ConfigError, ConformerConfig, ConvolutionNorm, require};
use crate::model::conformer::{Output, Pass};
use crate::model::fresh;
use crate::model::trunk::Trunk;

/// The header's key for a head's configuration, in JSON.
pub(crate) const CONFIG: &str = "ctc_head";

/// Where the layers of the encoder that are trained along lie.
pub(crate) const TUNED: &str = "tuned";

/// What a head hears of the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hears {
    /// A learned mix of all layers, frames two by two.
    #[default]
    Layers,
    /// [`WhisperOutput::hidden`](super::WhisperOutput::hidden).
    Output,
}

/// The numbers that make a head. The defaults have about three million parameters on Whisper base.
///
/// ```
/// use sori_train::model::whisper::CtcHeadConfig;
///
/// let head = CtcHeadConfig { vocabulary: 256, ..CtcHeadConfig::default() };
/// head.validate()?;
/// # Ok::<(), sori_train::model::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CtcHeadConfig {
    /// Tokens without the blank.
    pub vocabulary: i64,
    /// Width of the encoder's frames.
    pub encoder_width: i64,
    /// Layers of the encoder.
    pub encoder_layers: i64,
    /// What it hears of them.
    pub hears: Hears,
    /// How many of the encoder's last layers are trained along.
    pub unfrozen_layers: i64,
    /// Width of the head's frames.
    pub d_model: i64,
    /// Conformer layers.
    pub layers: i64,
    /// Attention heads; divides `d_model`.
    pub heads: i64,
    /// Inner width of the feed-forward modules.
    pub feed_forward: i64,
    /// Taps of the depthwise convolution, odd.
    pub kernel: i64,
    /// Dropout of what it hears and after every module.
    pub dropout: f64,
}

impl Default for CtcHeadConfig {
    fn default() -> Self {
        Self {
            vocabulary: 256,
            encoder_width: 512,
            encoder_layers: 6,
            hears: Hears::Layers,
            unfrozen_layers: 0,
            d_model: 256,
            layers: 2,
            heads: 4,
            feed_forward: 768,
            kernel: 15,
            dropout: 0.2,
        }
    }
}

impl CtcHeadConfig {
    /// Checks that a head can be built from these numbers.
    ///
    /// # Errors
    /// Names the first field that is out of bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (field, found, low, high) in [
            ("encoder_width", self.encoder_width, 1, 1 << 13),
            ("encoder_layers", self.encoder_layers, 1, 256),
            (
                "unfrozen_layers",
                self.unfrozen_layers,
                0,
                self.encoder_layers,
            ),
        ] {
            let holds = (low..=high).contains(&found);
            require(field, format!("from {low} to {high}"), found, holds)?;
        }
        self.trunk().validate()
    }

    /// Whether all it needs is what a frozen encoder gives out.
    #[must_use]
    pub fn hears_only_output(&self) -> bool {
        self.hears == Hears::Output && self.unfrozen_layers == 0
    }

    /// Parameters of a head on an encoder of this inner width, to the unit.
    fn parameters(&self, inner: i64) -> i64 {
        let linear = |inputs: i64, outputs: i64| inputs * outputs + outputs;
        let width = self.encoder_width;
        let parts = self.trunk().parameters();
        let trunk = parts.iter().filter(|(part, _)| *part != "subsampling");
        let tuned = 4 * linear(width, width) - width
            + linear(width, inner)
            + linear(inner, width)
            + 4 * width;
        let input = match self.hears {
            Hears::Layers => self.encoder_layers + linear(2 * width, self.d_model),
            Hears::Output => linear(width, self.d_model),
        };
        input + trunk.map(|(_, count)| count).sum::<i64>() + self.unfrozen_layers * tuned
    }

    /// Conformer layers that see everything, over frames that come from the encoder: the numbers
    /// that only an input from log-mel frames has mean nothing.
    fn trunk(&self) -> ConformerConfig {
        ConformerConfig {
            vocabulary: self.vocabulary,
            d_model: self.d_model,
            layers: self.layers,
            heads: self.heads,
            feed_forward: self.feed_forward,
            kernel: self.kernel,
            causal: false,
            norm: ConvolutionNorm::Layer,
            xscaling: false,
            dropout: self.dropout,
            dropout_attention: self.dropout,
            ..ConformerConfig::student()
        }
    }
}

/// A CTC head. It listens together with the encoder that it was trained on.
#[derive(Debug)]
pub struct CtcHead {
    config: CtcHeadConfig,
    /// Weights of the encoder's layers, if it hears them.
    mix: Option<Tensor>,
    projection: nn::Linear,
    trunk: Trunk,
    /// In place of the encoder's last layers.
    tuned: Vec<Layer>,
}

/// What encoder and head say about a batch, at 25 frames a second.
#[derive(Debug)]
pub struct HeadOutput {
    /// The head's log-probabilities and last hidden vectors.
    pub output: Output,
    /// As [`WhisperOutput::attention`](super::WhisperOutput::attention).
    pub attention: Option<Tensor>,
    /// As [`WhisperOutput::hidden`](super::WhisperOutput::hidden).
    pub hidden: Tensor,
}

impl CtcHead {
    /// A head with fresh parameters in `store` for an encoder; layers that are trained along begin as
    /// the encoder's.
    ///
    /// # Errors
    /// If the numbers describe no head, or one for another encoder.
    pub fn new(
        store: &nn::VarStore,
        config: &CtcHeadConfig,
        whisper: &Whisper,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        for (field, found, expected) in [
            ("encoder_width", config.encoder_width, whisper.width()),
            (
                "encoder_layers",
                config.encoder_layers,
                whisper.layers() as i64,
            ),
        ] {
            let says = format!("the encoder's {expected}");
            require(field, says, found, found == expected)?;
        }
        let path = store.root();
        let frozen = config.encoder_layers - config.unfrozen_layers;
        let tuned = (frozen..config.encoder_layers)
            .map(|i| {
                Layer::new(
                    &(&path / TUNED / i),
                    whisper.width(),
                    whisper.geometry.inner,
                )
            })
            .collect();
        let theirs = whisper.store.variables();
        for (name, mut tensor) in store.variables() {
            let of_encoder = name.strip_prefix(TUNED).map(|name| format!("layers{name}"));
            if let Some(own) = of_encoder.and_then(|name| theirs.get(&name)) {
                no_grad(|| tensor.copy_(own));
            }
        }
        let (mix, frames) = match config.hears {
            Hears::Layers => (Some(path.zeros("mix", &[config.encoder_layers])), 2),
            Hears::Output => (None, 1),
        };
        Ok(Self {
            config: config.clone(),
            mix,
            projection: fresh::linear(
                &path / "projection",
                frames * config.encoder_width,
                config.d_model,
            ),
            trunk: Trunk::new(&path, &config.trunk()),
            tuned,
        })
    }

    /// The numbers it was built from.
    #[must_use]
    pub fn config(&self) -> &CtcHeadConfig {
        &self.config
    }

    /// Listens to log-mel frames (B, T, bands) with so many real ones each. `wanted` is the layer
    /// of the encoder whose map is given, from 0.
    ///
    /// # Panics
    /// If T is above [`Whisper::max_frames`] or there is no such layer.
    pub fn listen(
        &self,
        whisper: &Whisper,
        features: &Tensor,
        lengths: &[i64],
        wanted: Option<usize>,
        pass: Pass,
    ) -> HeadOutput {
        whisper.check(features, wanted);
        let heard = whisper
            .encoder
            .forward(features, lengths, wanted, &self.tuned);
        let hidden = pool::average(&heard.hidden, 1, &heard.lengths);
        let lengths = pool::lengths(&heard.lengths);
        let output = match &self.mix {
            Some(mix) => {
                let mixed = self.mixed(mix, &heard.layers);
                let odd = mixed.size()[1] % 2;
                let pairs = mixed
                    .constant_pad_nd([0, 0, 0, odd])
                    .unflatten(1, [-1, 2])
                    .flatten(2, 3);
                self.say(&pairs, lengths, pass)
            }
            None => self.say(&self.normed(&hidden), lengths, pass),
        };
        HeadOutput {
            output,
            attention: heard.map.map(|map| pool::map(&map, &heard.lengths)),
            hidden,
        }
    }

    /// Hears what the encoder gives out, (B, T, width) with so many real frames each; `None` if it
    /// needs more of the encoder than that.
    #[must_use]
    pub fn hear(&self, hidden: &Tensor, lengths: Vec<i64>, pass: Pass) -> Option<Output> {
        self.config
            .hears_only_output()
            .then(|| self.say(&self.normed(hidden), lengths, pass))
    }

    fn say(&self, heard: &Tensor, lengths: Vec<i64>, pass: Pass) -> Output {
        let heard = heard.dropout(self.config.dropout, pass.train);
        self.trunk
            .forward(&self.projection.forward(&heard), lengths, pass)
    }

    /// The layers' outputs, (B, T, width) each, as one.
    fn mixed(&self, mix: &Tensor, layers: &[Tensor]) -> Tensor {
        let weights = mix.softmax(0, Kind::Float);
        let layers = layers.iter().zip(0..);
        let weighted = layers.map(|(layer, index)| self.normed(layer) * weights.get(index));
        weighted.sum()
    }

    fn normed(&self, x: &Tensor) -> Tensor {
        let width = [self.config.encoder_width];
        x.layer_norm(width, None::<&Tensor>, None::<&Tensor>, 1e-5, false)
    }
}

/// Reads a head that was trained on this encoder. The file need not be trusted, as in
/// [`load`](crate::model::load).
///
/// # Errors
/// If the file cannot be read, is damaged, or holds a head for another encoder.
pub fn load_head(
    path: &Path,
    whisper: &Whisper,
    device: Device,
) -> Result<(nn::VarStore, CtcHead), CheckpointError> {
    let invalid = |reason| CheckpointError::Config {
        path: path.into(),
        reason,
    };
    let bytes = checkpoint::read(path)?;
    let file = checkpoint::parse(path, &bytes)?;
    let config: CtcHeadConfig = checkpoint::described(path, &bytes, CONFIG)?;
    config.validate().map_err(invalid)?;
    checkpoint::check_size(path, &file, config.parameters(whisper.geometry.inner))?;
    let mut store = nn::VarStore::new(device);
    let head = CtcHead::new(&store, &config, whisper).map_err(invalid)?;
    checkpoint::fill(path, &file, &store)?;
    store.freeze();
    Ok((store, head))
}
