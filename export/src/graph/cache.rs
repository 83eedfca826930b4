//! What a stream remembers: unpacked from the two cache inputs, packed into the two outputs.
//!
//! See [`Streaming::cache_last_channel`](super::Streaming::cache_last_channel) and
//! [`Streaming::cache_last_time`](super::Streaming::cache_last_time) for the layouts. They are those
//! in which attention and convolution read: a chunk costs a few copies of whole blocks, and nothing
//! is transposed.

use tch::{Device, Kind, Tensor};

use super::Writer;
use super::attention::KeysAndValues;
use super::streaming::{FRAMES_KEPT, Streaming};

/// The caches, unpacked.
pub(super) struct Past {
    /// Of every layer, (B, heads, left, width of a head).
    pub(super) attention: Vec<KeysAndValues>,
    /// Of every layer, (B, 1, kernel - 1, `d_model`).
    pub(super) convolution: Vec<String>,
    /// (B, 2, 3, features).
    pub(super) log_mel: String,
}

/// What goes into the caches.
#[derive(Default)]
pub(super) struct Next {
    /// Of every layer, (B, heads, frames, width of a head): of the chunk's frames alone.
    pub(super) attention: Vec<KeysAndValues>,
    /// Of every layer, (B, 1, kernel - 1 + frames, `d_model`).
    pub(super) convolution: Vec<String>,
    /// (B, 2, 3, features).
    pub(super) log_mel: String,
}

impl Writer<'_> {
    pub(super) fn read_caches(&mut self, channel: &str, time: &str) -> Past {
        let (layers, heads) = (self.config.layers, self.config.heads);
        let keys_and_values = vec![heads; 2 * layers as usize];
        let keys_and_values = self
            .graph
            .split("cache.attention", channel, 1, &keys_and_values);
        let attention = keys_and_values
            .chunks_exact(2)
            .map(|pair| KeysAndValues {
                keys: pair[0].clone(),
                values: pair[1].clone(),
            })
            .collect();

        let [rows, frames, d] = self.streaming.cache_last_time(self.config);
        let chunk = self.streaming.chunk;
        let convolution = if self.config.kernel > 1 {
            let kept = [(1, 0, layers), (2, chunk, frames)];
            let kept = self.graph.slice("cache.convolution_kept", time, &kept);
            self.graph
                .split("cache.convolution", &kept, 1, &vec![1; layers as usize])
        } else {
            Vec::new()
        };

        let (batch, features) = (self.streaming.batch, self.config.features);
        let kept = self
            .graph
            .slice("cache.log_mel_rows", time, &[(1, layers, rows)]);
        let kept = self.graph.reshape(
            "cache.log_mel_flat",
            &kept,
            &[batch, (rows - layers) * frames * d],
        );
        let kept = self.graph.slice(
            "cache.log_mel_values",
            &kept,
            &[(1, 0, Streaming::values_kept(self.config))],
        );
        let log_mel =
            self.graph
                .reshape("cache.log_mel", &kept, &[batch, 2, FRAMES_KEPT, features]);
        Past {
            attention,
            convolution,
            log_mel,
        }
    }

    pub(super) fn write_caches(
        &mut self,
        past_channel: &str,
        next: &Next,
        channel: &str,
        time: &str,
    ) {
        let new = next
            .attention
            .iter()
            .flat_map(|layer| [layer.keys.as_str(), layer.values.as_str()]);
        let new: Vec<_> = new.collect();
        let new = self.graph.concat("cache.attention_new", 1, &new);
        let all = self
            .graph
            .concat("cache.attention_all", 2, &[past_channel, &new]);
        let chunk = self.streaming.chunk;
        self.graph
            .slice(channel, &all, &[(2, chunk, self.streaming.keys())]);

        let [rows, frames, d] = self.streaming.cache_last_time(self.config);
        let (batch, layers) = (self.streaming.batch, self.config.layers);
        let values = Streaming::values_kept(self.config);
        let rest = (rows - layers) * frames * d - values;
        let mut log_mel =
            self.graph
                .reshape("cache.log_mel_next_values", &next.log_mel, &[batch, values]);
        if rest > 0 {
            let rest = Tensor::zeros([batch, rest], (Kind::Float, Device::Cpu));
            let rest = self.graph.float("cache.log_mel_next_rest", &rest);
            log_mel = self
                .graph
                .concat("cache.log_mel_next_flat", 1, &[&log_mel, &rest]);
        }
        let log_mel = self.graph.reshape(
            "cache.log_mel_next",
            &log_mel,
            &[batch, rows - layers, frames, d],
        );
        let parts = next
            .convolution
            .iter()
            .map(String::as_str)
            .chain([log_mel.as_str()]);
        let parts: Vec<_> = parts.collect();
        self.graph.concat(time, 1, &parts);
    }
}
