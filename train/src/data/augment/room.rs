//! Simulated rooms.

use rand::rngs::StdRng;
use realfft::RealFftPlanner;
use serde::{Deserialize, Serialize};
use sori::audio::SAMPLE_RATE;

use super::convolution::convolve;
use super::{amplitude, mean_square};
use crate::data::audio::samples_in;
use crate::data::chance::{require_probability, require_range, white, within};
use crate::data::error::DataError;

/// Rooms whose response is the direct sound and noise that decays exponentially behind it (the
/// diffuse field of Polack 1988, "La transmission de l'énergie sonore dans les salles"):
///
/// `h[n] = w[n] 10^(-3 n / (rt60 16000))`
///
/// with white noise `w`. The direct sound keeps its time, and the loudness stays as it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Room {
    /// Default: 0.3.
    pub probability: f64,
    /// Seconds in which the response falls by 60 dB. Default: 0.1 to 0.7.
    pub rt60: [f64; 2],
    /// Energy of the direct sound over that of the rest, in decibels: the nearer the speaker, the
    /// more. Default: -3 to 15.
    pub direct_to_reverberant_db: [f64; 2],
    /// Seconds between the direct sound and the first reflection. Default: 0.001 to 0.02.
    pub first_reflection: [f64; 2],
}

impl Default for Room {
    fn default() -> Self {
        Self {
            probability: 0.3,
            rt60: [0.1, 0.7],
            direct_to_reverberant_db: [-3.0, 15.0],
            first_reflection: [0.001, 0.02],
        }
    }
}

impl Room {
    pub(super) fn validate(&self) -> Result<(), DataError> {
        require_probability("augmentation.room.probability", self.probability)?;
        require_range("augmentation.room.rt60", self.rt60, [0.01, 3.0])?;
        require_range(
            "augmentation.room.direct_to_reverberant_db",
            self.direct_to_reverberant_db,
            [-20.0, 60.0],
        )?;
        require_range(
            "augmentation.room.first_reflection",
            self.first_reflection,
            [0.0, 0.1],
        )
    }

    pub(super) fn apply(
        &self,
        samples: &mut [f32],
        fft: &mut RealFftPlanner<f32>,
        rng: &mut StdRng,
    ) {
        let before = mean_square(samples);
        convolve(samples, &self.response(rng), fft);
        let after = mean_square(samples);
        if after > 0.0 {
            let factor = (before / after).sqrt() as f32;
            for sample in samples {
                *sample *= factor;
            }
        }
    }

    /// The response of a random room, from the direct sound on.
    fn response(&self, rng: &mut StdRng) -> Vec<f32> {
        let rt60 = within(rng, self.rt60);
        let ratio = amplitude(-within(rng, self.direct_to_reverberant_db));
        let first = samples_in(within(rng, self.first_reflection)).max(1);
        let mut response = vec![0.0; first];
        response.extend(white(rng, samples_in(rt60)));
        let decay = 10_f64.powf(-3.0 / (rt60 * f64::from(SAMPLE_RATE))) as f32;
        let mut envelope = 1.0;
        for tap in &mut response[first..] {
            *tap *= envelope;
            envelope *= decay;
        }
        let energy: f32 = response.iter().map(|tap| tap * tap).sum();
        if energy > 0.0 {
            let factor = ratio / energy.sqrt();
            for tap in &mut response {
                *tap *= factor;
            }
        }
        response[0] = 1.0;
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::chance::shuffling;

    #[test]
    fn the_response_has_the_ratio_and_the_decay_that_were_asked_for() {
        let room = Room {
            rt60: [0.5, 0.5],
            direct_to_reverberant_db: [6.0, 6.0],
            ..Room::default()
        };
        let response = room.response(&mut shuffling(1, 0, 0));
        assert_eq!(response[0], 1.0);
        let energy = |taps: &[f32]| taps.iter().map(|tap| tap * tap).sum::<f32>();
        let ratio = 10.0 * (1.0 / energy(&response[1..])).log10();
        assert!((ratio - 6.0).abs() < 0.01, "{ratio} dB");
        // 60 dB in 0.5 s are 24 dB in 0.2 s.
        let window = |start: f64| energy(&response[samples_in(start)..samples_in(start + 0.05)]);
        let fall = 10.0 * (window(0.1) / window(0.3)).log10();
        assert!((fall - 24.0).abs() < 1.5, "{fall} dB");
    }

    #[test]
    fn a_room_keeps_loudness_and_the_time_of_the_direct_sound() {
        let room = Room {
            direct_to_reverberant_db: [15.0, 15.0],
            ..Room::default()
        };
        let mut click = vec![0.0; 8000];
        click[1234] = 1.0;
        room.apply(
            &mut click,
            &mut RealFftPlanner::new(),
            &mut shuffling(1, 0, 0),
        );
        let loudest = (0..8000).max_by(|&a, &b| click[a].abs().total_cmp(&click[b].abs()));
        assert_eq!(loudest, Some(1234));
        assert!(click[..1234].iter().all(|sample| sample.abs() < 1e-5));
        assert!((mean_square(&click) * 8000.0 - 1.0).abs() < 1e-3);
    }
}
