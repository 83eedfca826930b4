//! Random numbers that depend on what they are for, and on nothing else.
//!
//! Every hearing of an utterance has its own numbers, so that batches are the same however many
//! threads make them, and from wherever training is resumed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::error::{DataError, require};

/// What random numbers are drawn for: each purpose has its own.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    /// Which utterances follow each other.
    Order,
    /// What changes an utterance's length.
    Length,
    /// What changes its sound.
    Sound,
    /// Which features are hidden.
    Masks,
    /// How its transcript is split into pieces.
    Pieces,
    /// Whose throat and which microphone its features are of.
    Timbre,
}

/// One hearing of an utterance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hearing {
    /// The run's seed.
    pub seed: u64,
    /// The pass through the data, from 0.
    pub epoch: u64,
    /// The utterance's index in the corpus.
    pub utterance: u32,
    /// How often it was heard before in this epoch.
    pub repeat: u32,
}

impl Hearing {
    /// With other random numbers, which no hearing of an epoch has.
    pub(super) fn other_view(self) -> Self {
        Self {
            repeat: !self.repeat,
            ..self
        }
    }

    pub(super) fn rng(self, purpose: Purpose) -> StdRng {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8..16].copy_from_slice(&self.epoch.to_le_bytes());
        seed[16..20].copy_from_slice(&self.utterance.to_le_bytes());
        seed[20..24].copy_from_slice(&self.repeat.to_le_bytes());
        seed[24] = purpose as u8;
        StdRng::from_seed(seed)
    }
}

/// Random numbers for what belongs to no single utterance.
pub(super) fn shuffling(seed: u64, epoch: u64, part: u32) -> StdRng {
    Hearing {
        seed,
        epoch,
        utterance: part,
        repeat: 0,
    }
    .rng(Purpose::Order)
}

/// A number between the two ends of a range.
pub(super) fn within(rng: &mut StdRng, [low, high]: [f64; 2]) -> f64 {
    low + (high - low) * rng.random::<f64>()
}

/// Whether something of this probability happens.
pub(super) fn happens(rng: &mut StdRng, probability: f64) -> bool {
    rng.random::<f64>() < probability
}

/// Noise of constant power density, each value within [-1, 1].
pub(super) fn white(rng: &mut StdRng, samples: usize) -> Vec<f32> {
    (0..samples)
        .map(|_| rng.random::<f32>().mul_add(2.0, -1.0))
        .collect()
}

pub(super) fn require_probability(field: &'static str, found: f64) -> Result<(), DataError> {
    require(field, "from 0 to 1", found, (0.0..=1.0).contains(&found))
}

/// Checks that a range is one, and lies within bounds.
pub(super) fn require_range(
    field: &'static str,
    found: [f64; 2],
    [low, high]: [f64; 2],
) -> Result<(), DataError> {
    let holds = low <= found[0] && found[0] <= found[1] && found[1] <= high;
    require(
        field,
        format!("a range [low, high] within [{low}, {high}]"),
        found,
        holds,
    )
}
