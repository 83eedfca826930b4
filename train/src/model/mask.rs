//! Which frames a frame may attend to.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// The frames that attention reaches from a frame, in output frames of 40 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Context {
    /// All frames of the utterance.
    #[default]
    Full,
    /// The frame's own chunk and a limited past: what a stream can know.
    Chunked {
        /// Frames in a chunk, at least 1. All frames of a chunk see the whole chunk.
        chunk: i64,
        /// Frames seen before the chunk's first, at least 0.
        left: i64,
    },
}

impl Context {
    /// (frames, frames) booleans: row `i` tells which frames `i` may attend to.
    ///
    /// # Panics
    /// If a chunk is shorter than one frame or the left context is negative.
    pub fn visible(self, frames: i64, device: Device) -> Tensor {
        let Context::Chunked { chunk, left } = self else {
            return Tensor::ones([frames, frames], (Kind::Bool, device));
        };
        assert!(
            chunk >= 1 && left >= 0,
            "a chunk of {chunk} frames with {left} before it"
        );
        let frame = Tensor::arange(frames, (Kind::Int64, device));
        let start = frame.floor_divide_scalar(chunk) * chunk;
        let key = frame.unsqueeze(0);
        let first = (&start - left.min(frames)).unsqueeze(1);
        let end = (start + chunk).unsqueeze(1);
        key.ge_tensor(&first).logical_and(&key.lt_tensor(&end))
    }
}

/// (B, frames) booleans: `true` where a frame lies inside its utterance.
pub fn real_frames(lengths: &[i64], frames: i64, device: Device) -> Tensor {
    let lengths = Tensor::from_slice(lengths).to_device(device).unsqueeze(1);
    Tensor::arange(frames, (Kind::Int64, device))
        .unsqueeze(0)
        .lt_tensor(&lengths)
}

/// (B, frames, frames) booleans: `true` where query and key are real frames and `context` lets the
/// query see the key.
pub fn visible_keys(context: Context, lengths: &[i64], frames: i64, device: Device) -> Tensor {
    let real = real_frames(lengths, frames, device);
    context
        .visible(frames, device)
        .logical_and(&real.unsqueeze(1))
        .logical_and(&real.unsqueeze(2))
}
