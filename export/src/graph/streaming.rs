//! How a model is run: chunk, left context, streams at once.

use sori_train::model::{ConformerConfig, SUBSAMPLING};

use super::StreamingError;

/// Log-mel frames before a chunk that the subsampling convolutions still reach.
pub(super) const FRAMES_KEPT: i64 = 3;

/// Milliseconds of one output frame.
const FRAME_MS: i64 = 10 * SUBSAMPLING;
/// Longest chunk and left context: ten minutes of output frames.
const MAX_FRAMES: i64 = 15_000;
/// Most streams of a batched graph.
const MAX_BATCH: i64 = 1_024;

/// How a model is run: the sizes that are fixed in its graph. Times are in output frames of 40 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streaming {
    pub(super) batch: i64,
    pub(super) chunk: i64,
    pub(super) left: i64,
}

impl Streaming {
    /// One stream, in chunks of `chunk_ms` whose attention sees `left_ms` before them.
    ///
    /// # Errors
    /// [`StreamingError::Time`] if one of them is no positive multiple of 40 ms, or beyond ten minutes.
    pub fn new(chunk_ms: u32, left_ms: u32) -> Result<Self, StreamingError> {
        let frames = |what, ms: u32| {
            let frames = i64::from(ms) / FRAME_MS;
            if i64::from(ms) % FRAME_MS == 0 && (1..=MAX_FRAMES).contains(&frames) {
                return Ok(frames);
            }
            Err(StreamingError::Time { what, found: ms })
        };
        Ok(Self {
            batch: 1,
            chunk: frames("chunk", chunk_ms)?,
            left: frames("left context", left_ms)?,
        })
    }

    /// The same for so many streams at once.
    ///
    /// # Errors
    /// [`StreamingError::Batch`] for none, or more than 1024.
    pub fn batched(self, streams: u32) -> Result<Self, StreamingError> {
        let batch = i64::from(streams);
        if (1..=MAX_BATCH).contains(&batch) {
            return Ok(Self { batch, ..self });
        }
        Err(StreamingError::Batch { found: streams })
    }

    /// Streams that are run together.
    #[must_use]
    pub fn batch(self) -> i64 {
        self.batch
    }

    /// Output frames of a chunk.
    #[must_use]
    pub fn chunk(self) -> i64 {
        self.chunk
    }

    /// Output frames before a chunk that attention sees.
    #[must_use]
    pub fn left(self) -> i64 {
        self.left
    }

    /// Length of a chunk, ms.
    #[must_use]
    pub fn chunk_ms(self) -> u32 {
        (self.chunk * FRAME_MS) as u32
    }

    /// Length of the left context, ms.
    #[must_use]
    pub fn left_ms(self) -> u32 {
        (self.left * FRAME_MS) as u32
    }

    /// Log-mel frames of a chunk.
    #[must_use]
    pub fn window(self) -> i64 {
        self.chunk * SUBSAMPLING
    }

    /// Frames that attention sees in all.
    pub(super) fn keys(self) -> i64 {
        self.left + self.chunk
    }

    /// Dimensions 1 to 3 of the attention cache: keys, then values, of every layer in turn, head by
    /// head; frames; width of a head.
    #[must_use]
    pub fn cache_last_channel(self, config: &ConformerConfig) -> [i64; 3] {
        [
            2 * config.layers * config.heads,
            self.left,
            config.d_model / config.heads,
        ]
    }

    /// Dimensions 1 to 3 of the convolution cache: a row for every layer, then as many as the
    /// subsampling's frames fill; frames; channels.
    ///
    /// A layer's row holds everything that its convolution saw in the last chunk: it is stored as
    /// it stands, and what is too old is cut off all layers at once when it is read.
    #[must_use]
    pub fn cache_last_time(self, config: &ConformerConfig) -> [i64; 3] {
        let (frames, d) = (config.kernel - 1 + self.chunk, config.d_model);
        let rows = (Self::values_kept(config) + frames * d - 1) / (frames * d);
        [config.layers + rows, frames, d]
    }

    /// Values of the log-mel frames that are kept, each with its mark.
    pub(super) fn values_kept(config: &ConformerConfig) -> i64 {
        2 * FRAMES_KEPT * config.features
    }
}
