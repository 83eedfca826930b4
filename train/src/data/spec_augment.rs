//! Masks over the student's features.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::chance::{Hearing, Purpose};
use super::error::{DataError, require};

/// Hides bands of frequency and stretches of time (Park et al. 2019, "SpecAugment"; widths in
/// proportion to the utterance as in Park et al. 2020, "SpecAugment on large scale datasets").
///
/// What is hidden becomes the mean of the utterance's features. Only a student is made to cope with
/// it; a teacher hears everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpecAugment {
    /// Number of frequency masks. Default: 2; 0 for none.
    pub frequency_masks: usize,
    /// Most bands that one of them hides. Default: 27.
    pub frequency_width: usize,
    /// Number of time masks. Default: 10; 0 for none.
    pub time_masks: usize,
    /// Most of the utterance that one of them hides, as a share. Default: 0.05.
    pub time_share: f64,
}

impl Default for SpecAugment {
    fn default() -> Self {
        Self {
            frequency_masks: 2,
            frequency_width: 27,
            time_masks: 10,
            time_share: 0.05,
        }
    }
}

impl SpecAugment {
    /// Hides nothing.
    #[must_use]
    pub fn none() -> Self {
        Self {
            frequency_masks: 0,
            time_masks: 0,
            ..Self::default()
        }
    }

    /// Whether anything is hidden.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.frequency_masks == 0 && self.time_masks == 0
    }

    /// Checks all bounds.
    ///
    /// # Errors
    /// [`DataError::Config`] with the first setting that is out of bounds.
    pub fn validate(&self) -> Result<(), DataError> {
        let masks = |field, found| require(field, "at most 100", found, found <= 100);
        masks("spec_augment.frequency_masks", self.frequency_masks)?;
        masks("spec_augment.time_masks", self.time_masks)?;
        let holds = (0.0..=1.0).contains(&self.time_share);
        require(
            "spec_augment.time_share",
            "from 0 to 1",
            self.time_share,
            holds,
        )
    }

    /// Masks row-major features, (frames, `bands`), for one hearing.
    pub fn apply(&self, features: &mut [f32], bands: usize, hearing: Hearing) {
        let frames = features.len() / bands.max(1);
        if frames == 0 || self.is_none() {
            return;
        }
        let sum: f64 = features.iter().map(|&value| f64::from(value)).sum();
        let mean = (sum / features.len() as f64) as f32;
        let mut rng = hearing.rng(Purpose::Masks);
        for _ in 0..self.frequency_masks {
            let width = rng.random_range(0..=self.frequency_width.min(bands));
            let first = rng.random_range(0..=bands - width);
            for frame in features.chunks_exact_mut(bands) {
                frame[first..first + width].fill(mean);
            }
        }
        let widest = (frames as f64 * self.time_share) as usize;
        for _ in 0..self.time_masks {
            let width = rng.random_range(0..=widest.min(frames));
            let first = rng.random_range(0..=frames - width);
            features[first * bands..(first + width) * bands].fill(mean);
        }
    }
}
