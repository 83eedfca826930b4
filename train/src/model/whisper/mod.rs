//! Whisper's encoder as a teacher of attention maps (Radford et al. 2022, arXiv 2212.04356).
//!
//! It gives 50 frames a second; what it gives out is pooled to our 25. It has no CTC posteriors of
//! its own: a [`CtcHead`] that was trained on it gives them.

mod encoder;
mod head;
mod pool;

use std::path::Path;
use std::sync::Arc;

use tch::{Device, Tensor, nn, no_grad};

use super::checkpoint::{self, CheckpointError};
use super::weights;
use crate::front_end::{FrontEnd, WhisperFeatures};
use encoder::{Encoder, Geometry};

pub(crate) use head::{CONFIG as HEAD_KEY, TUNED};
pub use head::{CtcHead, CtcHeadConfig, HeadOutput, Hears, load_head};

/// An encoder of Whisper with what it hears.
#[derive(Debug)]
pub struct Whisper {
    encoder: Encoder,
    geometry: Geometry,
    /// Owns the encoder's weights.
    pub store: nn::VarStore,
    /// What the encoder hears.
    pub front_end: FrontEnd,
}

/// What the encoder says about a batch, at 25 frames a second.
#[derive(Debug)]
pub struct WhisperOutput {
    /// The encoder's output, neighbouring frames averaged: (B, T', width).
    pub hidden: Tensor,
    /// Real frames of each utterance.
    pub lengths: Vec<i64>,
    /// The attention map that was asked for: (B, heads, T', T'). Neighbouring queries are averaged,
    /// neighbouring keys summed, so that rows of real frames still sum to one.
    pub attention: Option<Tensor>,
}

/// Reads the encoder from a `.safetensors` file with Hugging Face's names (`conv1.weight`,
/// `layers.0.self_attn.q_proj.weight`, ..., with or without `model.encoder.` before them). Other
/// tensors, a decoder's say, are ignored. The geometry follows from the shapes: all Whisper models
/// have heads of width 64.
///
/// # Errors
/// If the file cannot be read or holds no such encoder.
pub fn load(path: &Path, device: Device) -> Result<Whisper, CheckpointError> {
    let bytes = checkpoint::read(path)?;
    let file = checkpoint::parse(path, &bytes)?;
    let prefix = ["model.encoder.", "encoder."]
        .into_iter()
        .find(|prefix| file.tensor(&format!("{prefix}conv1.weight")).is_ok())
        .unwrap_or_default();
    let shape = |name: &str| {
        let tensor = file.tensor(&format!("{prefix}{name}")).ok()?;
        Some(weights::shape(tensor.shape()))
    };
    let geometry = Geometry::of(shape).map_err(|reason| CheckpointError::Whisper {
        path: path.into(),
        reason,
    })?;

    let mut store = nn::VarStore::new(device);
    let encoder = Encoder::new(&store.root(), &geometry);
    weights::fill(&store, |name| {
        weights::stored(&file, &format!("{prefix}{name}"))
    })
    .map_err(|reason| CheckpointError::Weights {
        path: path.into(),
        reason,
    })?;
    store.freeze();
    let front_end = FrontEnd::Whisper(Arc::new(WhisperFeatures::new(geometry.bands as usize)));
    Ok(Whisper {
        encoder,
        geometry,
        store,
        front_end,
    })
}

impl Whisper {
    /// Layers that can be asked for their map.
    #[must_use]
    pub fn layers(&self) -> usize {
        self.encoder.layers()
    }

    /// The longest utterance that it hears, in log-mel frames: 3000, 30 seconds.
    #[must_use]
    pub fn max_frames(&self) -> i64 {
        self.encoder.max_frames()
    }

    /// Width of its frames.
    #[must_use]
    pub fn width(&self) -> i64 {
        self.geometry.width
    }

    /// Listens to log-mel frames (B, T, bands) with so many real ones each, without gradient.
    /// `wanted` is the layer whose map is given, from 0.
    ///
    /// # Panics
    /// If T is above [`max_frames`](Self::max_frames) or there is no such layer.
    pub fn listen(
        &self,
        features: &Tensor,
        lengths: &[i64],
        wanted: Option<usize>,
    ) -> WhisperOutput {
        self.check(features, wanted);
        no_grad(|| {
            let heard = self.encoder.forward(features, lengths, wanted, &[]);
            let lengths = &heard.lengths;
            WhisperOutput {
                hidden: pool::average(&heard.hidden, 1, lengths),
                attention: heard.map.map(|map| pool::map(&map, lengths)),
                lengths: pool::lengths(lengths),
            }
        })
    }

    fn check(&self, features: &Tensor, wanted: Option<usize>) {
        let (layers, most, size) = (self.layers(), self.max_frames(), features.size());
        let exists = wanted.is_none_or(|layer| layer < layers);
        assert!(exists, "the map of layer {wanted:?} of {layers}");
        assert!(
            size[1] <= most,
            "log-mel {size:?}: Whisper hears at most {most} frames"
        );
    }
}
