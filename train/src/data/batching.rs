//! How utterances are put together to batches.

use serde::{Deserialize, Serialize};

use super::audio::samples_in;
use super::augment::Augmentation;
use super::error::{DataError, require};

/// How utterances are put together to batches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Batching {
    /// Most seconds of audio in a batch, padding included: utterances times the longest one.
    /// Default: 240.
    pub max_seconds: f64,
    /// Most utterances in a batch. Default: 128.
    pub max_utterances: usize,
    /// Shorter utterances are left out, in seconds. Default: 0.3.
    pub shortest: f64,
    /// Longer utterances are left out, in seconds. Default: 30.
    pub longest: f64,
    /// Utterances are sorted into so many groups by length, and mixed inside of these. Few groups mix
    /// better, many pad less. Default: 30.
    pub buckets: usize,
    /// Batches are padded to multiples of so many seconds: fewer different shapes, for which libtorch
    /// keeps fewer kernels and less memory. 0 for none. Default: 0.32.
    pub pad_to: f64,
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            max_seconds: 240.0,
            max_utterances: 128,
            shortest: 0.3,
            longest: 30.0,
            buckets: 30,
            pad_to: 0.32,
        }
    }
}

impl Batching {
    /// Checks all bounds; that the longest utterance fits into a batch however `augmentation`
    /// stretches it, too.
    ///
    /// # Errors
    /// [`DataError::Config`] with the first setting that is out of bounds.
    pub fn validate(&self, augmentation: &Augmentation) -> Result<(), DataError> {
        let Self {
            shortest, longest, ..
        } = *self;
        let holds = (0.1..=3600.0).contains(&shortest);
        require("batching.shortest", "from 0.1 to 3600 s", shortest, holds)?;
        let holds = longest >= shortest && longest <= 3600.0;
        require(
            "batching.longest",
            "from `shortest` to 3600 s",
            longest,
            holds,
        )?;
        let holds = (0.0..=60.0).contains(&self.pad_to);
        require("batching.pad_to", "from 0 to 60 s", self.pad_to, holds)?;
        require(
            "batching.buckets",
            "at least 1",
            self.buckets,
            self.buckets >= 1,
        )?;
        let holds = self.max_utterances >= 1;
        require(
            "batching.max_utterances",
            "at least 1",
            self.max_utterances,
            holds,
        )?;
        let [_, most] = augmentation.bounds(samples_in(longest));
        let least = self.padded(most) as f64 / f64::from(sori::audio::SAMPLE_RATE);
        require(
            "batching.max_seconds",
            format!("from {least:.2}, the longest utterance after augmentation, to 100000"),
            self.max_seconds,
            self.max_seconds >= least && self.max_seconds <= 1e5,
        )
    }

    /// The length that a batch is padded to whose longest utterance has so many samples.
    #[must_use]
    pub fn padded(&self, samples: usize) -> usize {
        match samples_in(self.pad_to) {
            0 => samples,
            step => samples.next_multiple_of(step),
        }
    }
}
