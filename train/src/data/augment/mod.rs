//! What happens to an utterance before a model hears it.
//!
//! Everything here works on the waveform, so that teacher and student hear the same. In order: the
//! speed changes, quiet is put before the speech, a room answers, noise is added, the telephone
//! narrows the band, the level changes, and zeros follow. What [`SpecAugment`](super::SpecAugment)
//! does to the student's features comes later and is not heard by a teacher.

mod convolution;
mod noise;
mod room;
mod telephone;

use std::sync::Arc;

use rand::RngExt;
use realfft::RealFftPlanner;
use serde::{Deserialize, Serialize};
use sori::audio::SAMPLE_RATE;

use super::audio::{resample, samples_in};
use super::chance::{Hearing, Purpose, happens, require_probability, require_range, within};
use super::corpus::Corpus;
use super::error::{DataError, require};
use super::manifest::Entry;

pub use noise::Noise;
pub use room::Room;
pub use telephone::Telephone;

/// Which changes are made, how often and how strongly. Each happens with its own `probability`,
/// independently of the others; ranges are `[low, high]` and drawn from uniformly.
///
/// The default is a moderate mixture of all of them; [`none`](Self::none) is for evaluation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// How fast it is said.
    pub speed: Speed,
    /// What is heard before and after the speech.
    pub quiet: Quiet,
    /// The room that it is said in.
    pub room: Room,
    /// What else is heard.
    pub noise: Noise,
    /// The line that it comes over.
    pub telephone: Telephone,
    /// How loud it is.
    pub gain: Gain,
}

/// Speech played faster or slower, pitch included (Ko et al. 2015, "Audio augmentation for speech
/// recognition").
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Speed {
    /// Speeds to choose from, each as likely as the others; from 0.5 to 2, in steps of 0.01.
    /// Default: 0.9, 1.0, 1.1. None: the speed stays.
    pub factors: Vec<f64>,
}

/// Silence around the speech.
///
/// A recogniser hears zeros after a recording's last sample, which training has to prepare it for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quiet {
    /// Default: 0.3.
    pub probability: f64,
    /// Seconds put before the speech, rounded up to 40 ms, which noise and room may fill. Default: 0 to
    /// 0.5.
    pub leading: [f64; 2],
    /// Seconds of zeros put after everything. Default: 0 to 1.
    pub trailing: [f64; 2],
}

/// A change of level; what exceeds full scale is clipped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gain {
    /// Default: 0.5.
    pub probability: f64,
    /// Decibels. Default: -20 to 6.
    pub db: [f64; 2],
}

impl Default for Speed {
    fn default() -> Self {
        Self {
            factors: vec![0.9, 1.0, 1.1],
        }
    }
}

impl Default for Quiet {
    fn default() -> Self {
        Self {
            probability: 0.3,
            leading: [0.0, 0.5],
            trailing: [0.0, 1.0],
        }
    }
}

impl Default for Gain {
    fn default() -> Self {
        Self {
            probability: 0.5,
            db: [-20.0, 6.0],
        }
    }
}

/// Samples to an output frame of a model, 40 ms.
const FRAME: usize = 640;

const SPEEDS: [f64; 2] = [0.5, 2.0];

/// Longest quiet on either side, in seconds.
const MOST_QUIET: f64 = 10.0;

impl Augmentation {
    /// Changes nothing.
    #[must_use]
    pub fn none() -> Self {
        let mut none = Self::default();
        none.speed.factors.clear();
        none.quiet.probability = 0.0;
        none.room.probability = 0.0;
        none.noise.probability = 0.0;
        none.telephone.probability = 0.0;
        none.gain.probability = 0.0;
        none
    }

    /// Checks all bounds.
    ///
    /// # Errors
    /// [`DataError::Config`] with the first setting that is out of bounds.
    pub fn validate(&self) -> Result<(), DataError> {
        let possible = |speed: &f64| (SPEEDS[0]..=SPEEDS[1]).contains(speed);
        require(
            "augmentation.speed.factors",
            format!("speeds from {} to {}", SPEEDS[0], SPEEDS[1]),
            &self.speed.factors,
            self.speed.factors.iter().all(possible),
        )?;
        let Quiet {
            probability,
            leading,
            trailing,
        } = self.quiet;
        require_probability("augmentation.quiet.probability", probability)?;
        require_range("augmentation.quiet.leading", leading, [0.0, MOST_QUIET])?;
        require_range("augmentation.quiet.trailing", trailing, [0.0, MOST_QUIET])?;
        self.room.validate()?;
        self.noise.validate()?;
        require_probability(
            "augmentation.telephone.probability",
            self.telephone.probability,
        )?;
        require_probability("augmentation.gain.probability", self.gain.probability)?;
        require_range("augmentation.gain.db", self.gain.db, [-60.0, 40.0])
    }

    /// What changes the length in one hearing: known without the sound, so that batches can be
    /// planned.
    #[must_use]
    pub fn stretch(&self, hearing: Hearing) -> Stretch {
        let mut rng = hearing.rng(Purpose::Length);
        let speed = match self.speed.factors.len() {
            0 => 1.0,
            choices => self.speed.factors[rng.random_range(0..choices)],
        };
        let mut stretch = Stretch {
            rate: declared_rate(speed),
            ..Stretch::default()
        };
        if happens(&mut rng, self.quiet.probability) {
            // Whole output frames, so that what is known of the speech alone fits by a shift.
            let leading = samples_in(within(&mut rng, self.quiet.leading));
            stretch.leading = leading.next_multiple_of(FRAME);
            stretch.trailing = samples_in(within(&mut rng, self.quiet.trailing));
        }
        stretch
    }

    /// Bounds of what [`stretch`](Self::stretch) makes of so many samples: the fewest and the most.
    #[must_use]
    pub fn bounds(&self, samples: usize) -> [usize; 2] {
        let rates = || self.speed.factors.iter().map(|&speed| declared_rate(speed));
        let played = |rate: Option<u32>| {
            let rate = rate.unwrap_or(SAMPLE_RATE);
            Stretch {
                rate,
                ..Stretch::default()
            }
            .samples(samples)
        };
        let quiet = if self.quiet.probability > 0.0 {
            samples_in(self.quiet.leading[1]).next_multiple_of(FRAME)
                + samples_in(self.quiet.trailing[1])
        } else {
            0
        };
        [played(rates().max()), played(rates().min()) + quiet]
    }
}

/// The rate to resample from so that sound at 16 kHz plays this much faster. Whole percents keep the
/// resampler's blocks short.
fn declared_rate(speed: f64) -> u32 {
    (speed.clamp(SPEEDS[0], SPEEDS[1]) * 100.0).round() as u32 * (SAMPLE_RATE / 100)
}

/// A change of length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The rate that the sound is taken to have, so that it plays at another speed.
    rate: u32,
    /// Samples put before.
    leading: usize,
    /// Zeros put after.
    trailing: usize,
}

impl Default for Stretch {
    fn default() -> Self {
        Self {
            rate: SAMPLE_RATE,
            leading: 0,
            trailing: 0,
        }
    }
}

impl Stretch {
    /// Samples put before.
    #[must_use]
    pub fn leading(&self) -> usize {
        self.leading
    }

    /// How much faster than it was said.
    #[must_use]
    pub fn speed(&self) -> f64 {
        f64::from(self.rate) / f64::from(SAMPLE_RATE)
    }

    /// Samples that come out for so many that go in.
    #[must_use]
    pub fn samples(&self, samples: usize) -> usize {
        let (rate, normal) = (u64::from(self.rate), u64::from(SAMPLE_RATE));
        // Rounded as the resampler does.
        let played = (samples as u64 * normal * 2 + rate) / (rate * 2);
        self.leading + played as usize + self.trailing
    }
}

/// Makes the changes. Each thread has its own, since it keeps tables for its transforms.
pub struct Augmenter {
    settings: Arc<Augmentation>,
    /// Recorded noise.
    noises: Arc<[Entry]>,
    /// People to talk in the background.
    talkers: Corpus,
    fft: RealFftPlanner<f32>,
}

impl std::fmt::Debug for Augmenter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Augmenter")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Augmenter {
    /// `noises` is recorded noise to add, `talkers` has utterances to make babble of, those with a file
    /// of their own; either may be empty.
    #[must_use]
    pub fn new(settings: Arc<Augmentation>, noises: Arc<[Entry]>, talkers: Corpus) -> Self {
        Self {
            settings,
            noises,
            talkers,
            fft: RealFftPlanner::new(),
        }
    }

    /// Changes an utterance's speed for one hearing, and nothing else.
    #[must_use]
    pub fn play(&self, samples: Vec<f32>, hearing: Hearing) -> Vec<f32> {
        replay(samples, self.settings.stretch(hearing).rate)
    }

    /// Changes an utterance's samples (16 kHz) for one hearing. The result has as many samples as
    /// [`Stretch::samples`] of [`Augmentation::stretch`] says.
    ///
    /// Noise that cannot be read goes to `broken`, which decides whether to go on without it.
    ///
    /// # Errors
    /// What `broken` returns.
    pub fn apply(
        &mut self,
        samples: Vec<f32>,
        hearing: Hearing,
        broken: &mut dyn FnMut(DataError) -> Result<(), DataError>,
    ) -> Result<Vec<f32>, DataError> {
        let played = self.play(samples, hearing);
        self.disturb(played, hearing, broken)
    }

    /// Puts quiet around an utterance that is played at its speed, and everything else over it: what
    /// [`apply`](Self::apply) does after [`play`](Self::play).
    ///
    /// Noise that cannot be read goes to `broken`, which decides whether to go on without it.
    ///
    /// # Errors
    /// What `broken` returns.
    pub fn disturb(
        &mut self,
        mut samples: Vec<f32>,
        hearing: Hearing,
        broken: &mut dyn FnMut(DataError) -> Result<(), DataError>,
    ) -> Result<Vec<f32>, DataError> {
        let settings = self.settings.clone();
        let stretch = settings.stretch(hearing);
        let length = stretch.leading + samples.len() + stretch.trailing;
        if stretch.leading > 0 {
            samples.splice(0..0, std::iter::repeat_n(0.0, stretch.leading));
        }

        let mut rng = hearing.rng(Purpose::Sound);
        if happens(&mut rng, settings.room.probability) {
            settings.room.apply(&mut samples, &mut self.fft, &mut rng);
        }
        if happens(&mut rng, settings.noise.probability) {
            let noise = settings.noise.draw(
                samples.len(),
                &self.noises,
                &self.talkers,
                &mut self.fft,
                &mut rng,
            );
            match noise {
                Ok(noise) => settings.noise.mix(&mut samples, &noise, &mut rng),
                Err(error) => broken(error)?,
            }
        }
        if happens(&mut rng, settings.telephone.probability) {
            samples = telephone::apply(samples, &mut self.fft);
        }
        if happens(&mut rng, settings.gain.probability) {
            let factor = amplitude(within(&mut rng, settings.gain.db));
            for sample in &mut samples {
                *sample = (*sample * factor).clamp(-1.0, 1.0);
            }
        }
        samples.resize(length, 0.0);
        Ok(samples)
    }
}

/// Plays samples as if they had been recorded at `rate` Hz, one that this module chose.
fn replay(samples: Vec<f32>, rate: u32) -> Vec<f32> {
    resample(samples, rate).expect("the rate is one that can be resampled")
}

/// The factor of amplitude that a level in decibels means.
fn amplitude(db: f64) -> f32 {
    10_f64.powf(db / 20.0) as f32
}

fn mean_square(samples: &[f32]) -> f64 {
    let sum: f64 = samples.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    sum / samples.len().max(1) as f64
}
