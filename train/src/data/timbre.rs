//! Other throats and other microphones, made of the student's features.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::chance::{Hearing, Purpose, happens, require_probability, require_range, within};
use super::error::{DataError, require};
use crate::front_end::slaney::{hertz, mel};

/// Changes what a voice and a microphone do to log-mel features, and not the words: a vocal tract of
/// another length warps the axis of frequencies (Jaitly and Hinton 2013, "Vocal tract length
/// perturbation improves speech recognition"), a random line over the bands raises some and lowers
/// others (Nam et al. 2022, `FilterAugment`, arXiv 2110.03282).
///
/// Both cost a small part of what the same on the waveform would. Only a student hears them; a
/// teacher hears the voice as it was recorded, so that what it says can be kept. The default
/// changes nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timbre {
    /// How often a vocal tract is changed. Default: 0.
    pub warp_probability: f64,
    /// By how much its resonances move upwards in frequency, drawn from uniformly; from 0.5 to 2.
    /// Default: 0.85 to 1.18.
    pub warp: [f64; 2],
    /// How often bands are raised and lowered. Default: 0.
    pub equaliser_probability: f64,
    /// Most decibels by which a band is raised or lowered. Default: 6.
    pub equaliser_db: f64,
}

impl Default for Timbre {
    fn default() -> Self {
        Self {
            warp_probability: 0.0,
            warp: [0.85, 1.18],
            equaliser_probability: 0.0,
            equaliser_db: 6.0,
        }
    }
}

/// Resonances of speech lie below it: they are moved as a whole. Between it and half the rate the axis
/// is fitted in.
const TOP_OF_SPEECH: f64 = 4800.0;

const TOP: f64 = 8000.0;

/// Natural logarithm of the power that a decibel means.
const LOG_POWER_OF_DB: f64 = std::f64::consts::LN_10 / 10.0;

/// Corners of the equaliser's line.
const CORNERS: std::ops::RangeInclusive<usize> = 3..=6;

impl Timbre {
    /// Changes nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether nothing is ever changed.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.warp_probability == 0.0 && self.equaliser_probability == 0.0
    }

    /// Checks all bounds.
    ///
    /// # Errors
    /// [`DataError::Config`] with the first setting that is out of bounds.
    pub fn validate(&self) -> Result<(), DataError> {
        require_probability("timbre.warp_probability", self.warp_probability)?;
        require_range("timbre.warp", self.warp, [0.5, 2.0])?;
        require_probability("timbre.equaliser_probability", self.equaliser_probability)?;
        require(
            "timbre.equaliser_db",
            "from 0 to 40",
            self.equaliser_db,
            (0.0..=40.0).contains(&self.equaliser_db),
        )
    }

    /// Changes row-major log-mel features, (frames, `bands`), of Slaney's bands from 0 to 8000 Hz, for
    /// one hearing.
    pub fn apply(&self, features: &mut [f32], bands: usize, hearing: Hearing) {
        if self.is_none() || bands == 0 {
            return;
        }
        let mut rng = hearing.rng(Purpose::Timbre);
        if happens(&mut rng, self.warp_probability) {
            let read_from = warped_bands(bands, within(&mut rng, self.warp));
            let mut before = vec![0.0; bands];
            for frame in features.chunks_exact_mut(bands) {
                before.copy_from_slice(frame);
                for (value, &position) in frame.iter_mut().zip(&read_from) {
                    *value = between(&before, position);
                }
            }
        }
        if happens(&mut rng, self.equaliser_probability) {
            let most = self.equaliser_db * LOG_POWER_OF_DB;
            let corners = rng.random_range(CORNERS);
            let gains: Vec<_> = (0..corners)
                .map(|_| within(&mut rng, [-most, most]) as f32)
                .collect();
            let stride = (corners - 1) as f64 / (bands - 1).max(1) as f64;
            let line: Vec<_> = (0..bands)
                .map(|band| between(&gains, band as f64 * stride))
                .collect();
            for frame in features.chunks_exact_mut(bands) {
                for (value, gain) in frame.iter_mut().zip(&line) {
                    *value += gain;
                }
            }
        }
    }
}

/// Where each band is read from, in bands, once resonances have moved up by `factor`.
fn warped_bands(bands: usize, factor: f64) -> Vec<f64> {
    let per_mel = (bands + 1) as f64 / mel(TOP);
    let read = 1.0 / factor;
    let knee = TOP_OF_SPEECH * read.min(1.0) / read;
    let rest = (TOP - knee * read) / (TOP - knee);
    (0..bands)
        .map(|band| {
            let centre = hertz((band + 1) as f64 / per_mel);
            let from = if centre <= knee {
                centre * read
            } else {
                TOP - (TOP - centre) * rest
            };
            mel(from) * per_mel - 1.0
        })
        .collect()
}

/// A value between two neighbours; that at the end for what lies beyond it.
fn between(values: &[f32], position: f64) -> f32 {
    let last = values.len() - 1;
    let position = position.clamp(0.0, last as f64);
    let low = position as usize;
    let high = (low + 1).min(last);
    let share = (position - low as f64) as f32;
    values[low] + (values[high] - values[low]) * share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resonances_move_by_the_factor_below_the_top_of_speech() {
        for factor in [0.8, 1.0, 1.25] {
            let read_from = warped_bands(80, factor);
            let per_mel = 81.0 / mel(TOP);
            for (band, from) in read_from.iter().enumerate() {
                let here = hertz((band + 1) as f64 / per_mel);
                let there = hertz((from + 1.0) / per_mel);
                if here.max(there) < TOP_OF_SPEECH * 0.99 {
                    assert!((here / there - factor).abs() < 1e-9, "{factor}: {band}");
                }
                assert!(there <= TOP + 1e-6);
            }
            assert!(read_from.is_sorted());
        }
        let same = warped_bands(80, 1.0);
        assert!((0..80).all(|band| (same[band] - band as f64).abs() < 1e-9));
    }
}
