//! The student as it runs on a device: chunk by chunk, with explicit caches.
//!
//! This is the reference for the exported graph. It gives exactly what one pass over the whole
//! utterance gives under the same chunk mask, since
//!
//! - the causal convolutions keep the few frames that they still reach, zeros at the start, which
//!   are the zeros that the one-pass form pads;
//! - attention keeps projected keys and values of the last `left` frames of every layer, and until
//!   that many have been heard the empty places are hidden;
//! - a distance between query and key is the same in every chunk, so the position terms over
//!   `left + chunk` keys are constants.

use tch::Kind;
use tch::Tensor;

use super::config::{ConformerConfig, SUBSAMPLING};
use super::conformer::Conformer;
use super::layer::LayerState;
use super::position::sinusoids;
use super::subsampling::SubsamplingState;

/// Everything that a stream remembers between two chunks. Its size does not grow.
#[derive(Debug)]
pub struct StreamState {
    subsampling: SubsamplingState,
    layers: Vec<LayerState>,
    chunk: i64,
    left: i64,
    /// Output frames in the attention caches so far, at most `left`.
    cached: i64,
}

/// Why a model or its input cannot be streamed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The model looks into the future. Stream a model whose configuration says `causal = true`.
    #[error("the model is not causal, so it cannot run chunk by chunk")]
    NotCausal,
    /// The chunk or the left context is impossible. Take at least one frame for the chunk and none
    /// or more for the left context.
    #[error(
        "expected a chunk of at least 1 frame and a left context of at least 0, found {chunk} and {left}"
    )]
    Context {
        /// Output frames of a chunk.
        chunk: i64,
        /// Output frames before it.
        left: i64,
    },
    /// A chunk of the wrong size. Give `4 * chunk` log-mel frames; only an utterance's last chunk
    /// may be shorter, by whole groups of four.
    #[error(
        "log-mel chunk: expected ({batch}, 4 to {frames} in steps of 4, {features}), found {found:?}"
    )]
    Shape {
        /// Streams in the state.
        batch: i64,
        /// Log-mel frames of a whole chunk.
        frames: i64,
        /// Log-mel bands.
        features: i64,
        /// The size that was given.
        found: Vec<i64>,
    },
}

impl Conformer {
    /// The state of `batch` streams at their start, for chunks of `chunk` output frames that see
    /// `left` frames before them.
    ///
    /// # Errors
    /// If the model is not causal or the numbers are impossible.
    pub fn start(&self, batch: i64, chunk: i64, left: i64) -> Result<StreamState, StreamError> {
        if !self.config.causal {
            return Err(StreamError::NotCausal);
        }
        if chunk < 1 || left < 0 {
            return Err(StreamError::Context { chunk, left });
        }
        Ok(StreamState {
            subsampling: self.subsampling.start(batch, self.config.features),
            layers: self
                .trunk
                .layers
                .iter()
                .map(|layer| layer.start(batch, left))
                .collect(),
            chunk,
            left,
            cached: 0,
        })
    }

    /// Hears one chunk of log-mel frames, (B, 4 * chunk, features), and gives its log-probabilities,
    /// (B, chunk, outputs). The last chunk of an utterance may be shorter.
    ///
    /// # Errors
    /// If the chunk has the wrong size; the state is then as before.
    pub fn step(&self, features: &Tensor, state: &mut StreamState) -> Result<Tensor, StreamError> {
        let frames = state.accept(features, &self.config)?;
        let x = self.scale(self.subsampling.step(features, &mut state.subsampling));
        let keys = state.left + frames;
        let positions = sinusoids(frames, keys, self.config.d_model, x.device());
        let empty = state.left - state.cached;
        let hidden = Tensor::arange(keys, (Kind::Int64, x.device())).lt(empty);
        let x = self
            .trunk
            .layers
            .iter()
            .zip(&mut state.layers)
            .fold(x, |x, (layer, state)| {
                layer.step(&x, &positions, &hidden, state)
            });
        state.cached = (state.cached + frames).min(state.left);
        Ok(self.trunk.log_probs(&x))
    }
}

impl StreamState {
    /// Output frames that a chunk of `features` will give.
    fn accept(&self, features: &Tensor, config: &ConformerConfig) -> Result<i64, StreamError> {
        let batch = self.subsampling.batch();
        let whole = self.chunk * SUBSAMPLING;
        match features.size()[..] {
            [b, frames, bands]
                if b == batch
                    && bands == config.features
                    && frames % SUBSAMPLING == 0
                    && (SUBSAMPLING..=whole).contains(&frames) =>
            {
                Ok(frames / SUBSAMPLING)
            }
            _ => Err(StreamError::Shape {
                batch,
                frames: whole,
                features: config.features,
                found: features.size(),
            }),
        }
    }
}
