//! Which utterances make a batch, and which batch follows which.

use std::hash::{Hash, Hasher};
use std::ops::Range;

use rand::seq::SliceRandom;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sori::features::frame_count;

use super::audio::samples_in;
use super::augment::Augmentation;
use super::batching::Batching;
use super::chance::{Hearing, shuffling};
use super::corpus::Corpus;
use super::error::{DataError, require};
use super::part_plan::{PartPlan, part_plans};
use super::tokenizer::Tokenizer;

/// Log-mel frames of one output frame of a model.
const SUBSAMPLING: usize = crate::model::SUBSAMPLING as usize;

/// One of several processes that train together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// This process, from 0.
    pub rank: usize,
    /// How many there are.
    pub world: usize,
}

impl Shard {
    /// The only process.
    pub const WHOLE: Self = Self { rank: 0, world: 1 };
}

/// A place between two batches, to be saved and resumed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The pass through the data, from 0.
    pub epoch: u64,
    /// Batches of the epoch, of all processes together, that came before.
    pub batch: u64,
    /// Tells data and settings from others; `None` fits all.
    fingerprint: Option<u64>,
}

impl Position {
    /// Before the first batch of an epoch.
    #[must_use]
    pub fn start_of(epoch: u64) -> Self {
        Self {
            epoch,
            batch: 0,
            fingerprint: None,
        }
    }
}

/// Utterances that are never heard, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeftOut {
    /// Lines of the manifests that were skipped.
    pub bad_lines: usize,
    /// Shorter than [`Batching::shortest`].
    pub too_short: usize,
    /// Longer than [`Batching::longest`].
    pub too_long: usize,
    /// With more tokens than a CTC model has frames to say them in, at the fastest speed.
    pub too_dense: usize,
    /// With letters that the tokenizer does not know.
    pub unspellable: usize,
}

impl LeftOut {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> usize {
        self.bad_lines + self.too_short + self.too_long + self.too_dense + self.unspellable
    }
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} bad lines, {} utterances too short, {} too long, {} with too much text for their \
             length, {} with unknown letters",
            self.bad_lines, self.too_short, self.too_long, self.too_dense, self.unspellable
        )
    }
}

/// The utterances of a batch, before they are read.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchPlan {
    /// What is heard.
    pub hearings: Vec<Hearing>,
    /// Samples of every utterance after padding.
    pub samples: usize,
    /// The part of the epoch that the batch is of, from 0: utterances from archives are mixed within
    /// one.
    pub window: usize,
    /// The place after this batch.
    pub next: Position,
}

/// Plans the batches of one process, epoch after epoch. The plan depends on the seed, the data and
/// the settings only.
///
/// Lengths are those after augmentation. Utterances of similar length come together; which ones, and
/// the order of batches, changes with every epoch. Several processes take them in turns, each its own
/// and as many as the others; the up to `world - 1` batches that are over are dropped, other ones in
/// every epoch. So a position is good for any number of processes.
///
/// Utterances in archives ([`Source::tars`](super::Source::tars)) follow each other as they do there, archive
/// after archive in another order in every epoch. Then the epoch is cut into windows of some hours, each
/// with its share of every source, and only within these utterances are mixed. All this follows from the
/// manifests, and is the same for any number of processes: each reads every archive, and keeps what its own
/// batches want. Dealing whole archives to processes would save them reading what others want, but the order
/// would be another with each number of processes.
#[derive(Debug)]
pub struct Sampler {
    seed: u64,
    shard: Shard,
    batching: Batching,
    augmentation: Augmentation,
    parts: Vec<PartPlan>,
    /// By utterance of the corpus: its samples, 0 if it is left out.
    samples: Vec<u32>,
    left_out: LeftOut,
    fingerprint: u64,
    position: Position,
    /// The position's epoch, once it is planned.
    planned: Option<Planned>,
    /// Batches that are too few for all processes are given to some of them.
    keeps_rest: bool,
}

/// What is heard in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Heard {
    /// Samples of it.
    length: u32,
    utterance: u32,
    repeat: u32,
}

/// An epoch.
#[derive(Debug)]
struct Planned {
    heard: Vec<Heard>,
    /// Batches in their order, as ranges of `heard`.
    batches: Vec<Range<u32>>,
    /// By window: the batches in it and in those before.
    windows: Vec<usize>,
}

impl Sampler {
    /// Sorts out what can be used of a corpus, and starts at `position`.
    ///
    /// # Errors
    /// [`DataError::Config`], [`DataError::Nothing`], and [`DataError::OtherData`] if `position` was
    /// saved with other data or settings.
    pub fn new(
        corpus: &Corpus,
        tokenizer: &Tokenizer,
        seed: u64,
        batching: &Batching,
        augmentation: &Augmentation,
        shard: Shard,
        position: Position,
    ) -> Result<Self, DataError> {
        augmentation.validate()?;
        batching.validate(augmentation)?;
        let holds = shard.rank < shard.world;
        require(
            "rank",
            format!("below {} processes", shard.world),
            shard.rank,
            holds,
        )?;

        let mut left_out = LeftOut {
            bad_lines: corpus.bad_lines(),
            ..LeftOut::default()
        };
        // By utterance: whether it is said slowly enough; nothing where it cannot be spelled.
        let slow_enough = (0..corpus.len()).into_par_iter().map(|index| {
            let entry = corpus.entry(index)?;
            let shortest = augmentation.bounds(samples_in(entry.duration))[0];
            let tokens = tokenizer.encode(&entry.text).ok();
            Ok(tokens.map(|tokens| fits(&tokens, shortest)))
        });
        let slow_enough = slow_enough.collect::<Result<Vec<Option<bool>>, DataError>>()?;
        let mut samples = vec![0; corpus.len()];
        for (index, (slow_enough, samples)) in slow_enough.into_iter().zip(&mut samples).enumerate()
        {
            let duration = corpus.duration(index);
            match slow_enough {
                _ if duration < batching.shortest => left_out.too_short += 1,
                _ if duration > batching.longest => left_out.too_long += 1,
                None => left_out.unspellable += 1,
                Some(false) => left_out.too_dense += 1,
                Some(true) => *samples = samples_in(duration) as u32,
            }
        }
        let parts = part_plans(corpus, &samples);
        if parts.iter().all(|part| part.utterances.is_empty()) {
            return Err(DataError::Nothing {
                what: "the training data".into(),
                reason: left_out.to_string(),
            });
        }
        for (part, plan) in corpus.parts().iter().zip(&parts) {
            if part.share.is_some() && plan.utterances.is_empty() {
                return Err(DataError::Nothing {
                    what: part.manifest.display().to_string(),
                    reason: format!(
                        "its share would go to the others; leave it out of the recipe, or bring its speech ({left_out})"
                    ),
                });
            }
        }
        let mut sampler = Self {
            seed,
            shard,
            batching: batching.clone(),
            augmentation: augmentation.clone(),
            parts,
            samples,
            left_out,
            fingerprint: 0,
            position,
            planned: None,
            keeps_rest: false,
        };
        sampler.fingerprint = sampler.fingerprint(corpus)?;
        match position.fingerprint {
            Some(expected) if expected != sampler.fingerprint => Err(DataError::OtherData {
                expected,
                found: sampler.fingerprint,
            }),
            _ => Ok(sampler),
        }
    }

    /// Utterances that are never heard.
    #[must_use]
    pub fn left_out(&self) -> LeftOut {
        self.left_out
    }

    /// From now on batches at an epoch's end that are too few for all processes are not dropped: some
    /// processes have one more than others.
    pub(super) fn keep_rest(&mut self) {
        self.keeps_rest = true;
    }

    /// The next batch; never one without utterances.
    ///
    /// # Errors
    /// [`DataError::Nothing`] if an epoch holds less than one batch for each process.
    pub fn next_batch(&mut self) -> Result<BatchPlan, DataError> {
        loop {
            if let Some(plan) = self.next_of_epoch()? {
                return Ok(plan);
            }
        }
    }

    /// The next batch of the epoch at hand; `None` where it has ended, and the next one begins.
    pub(super) fn next_of_epoch(&mut self) -> Result<Option<BatchPlan>, DataError> {
        let Position { epoch, batch, .. } = self.position;
        let planned = match self.planned.take() {
            Some(planned) => planned,
            None => self.plan_epoch(epoch)?,
        };
        let planned = self.planned.insert(planned);
        let Shard { rank, world } = self.shard;
        // Each process takes one of the next batches, as long as there is one for all.
        let left = planned.batches.len().saturating_sub(batch as usize);
        let whole = left >= world || self.keeps_rest && left > rank;
        if !whole {
            self.position = Position::start_of(epoch + 1);
            self.planned = None;
            return Ok(None);
        }
        let index = batch as usize + rank;
        let Range { start, end } = planned.batches[index].clone();
        let heard = &planned.heard[start as usize..end as usize];
        let hearing = |heard: &Heard| Hearing {
            seed: self.seed,
            epoch,
            utterance: heard.utterance,
            repeat: heard.repeat,
        };
        let longest = heard.iter().map(|heard| heard.length).max();
        self.position = Position {
            epoch,
            batch: batch + world as u64,
            fingerprint: Some(self.fingerprint),
        };
        Ok(Some(BatchPlan {
            hearings: heard.iter().map(hearing).collect(),
            samples: self.batching.padded(longest.unwrap_or(0) as usize),
            window: planned.windows.partition_point(|&end| end <= index),
            next: self.position,
        }))
    }

    /// The epoch of the next batch, or the one that has ended.
    pub(super) fn epoch(&self) -> u64 {
        self.position.epoch
    }

    /// All batches of one epoch, in their order, which no number of processes changes.
    fn plan_epoch(&self, epoch: u64) -> Result<Planned, DataError> {
        let mut rng = shuffling(self.seed, epoch, 0);
        let (mut heard, ends) = self.heard(epoch);
        let mut batches = Vec::new();
        let mut windows = Vec::new();
        let mut start = 0;
        for end in ends {
            let window = &mut heard[start..end];
            window.sort_unstable();
            let bucket = window.len().div_ceil(self.batching.buckets).max(1);
            for bucket in window.chunks_mut(bucket) {
                bucket.shuffle(&mut rng);
            }
            let before = batches.len();
            self.cut(window, start, &mut batches);
            batches[before..].shuffle(&mut rng);
            windows.push(batches.len());
            start = end;
        }
        let world = self.shard.world;
        if batches.len() < world && !self.keeps_rest {
            return Err(DataError::Nothing {
                what: format!("epoch {epoch}"),
                reason: format!(
                    "{} utterances do not make a batch for each of {world} processes; lower \
                     batching.max_seconds",
                    heard.len()
                ),
            });
        }
        Ok(Planned {
            heard,
            batches,
            windows,
        })
    }

    /// All that is heard in an epoch, window by window, and where each of these ends.
    fn heard(&self, epoch: u64) -> (Vec<Heard>, Vec<usize>) {
        let tarred = self.parts.iter().any(|part| part.archives.is_some());
        let streams: Vec<_> = (1..)
            .zip(&self.parts)
            .map(|(index, part)| part.stream(self.seed, epoch, index, tarred))
            .collect();
        let windows = streams.iter().zip(&self.parts).map(|(stream, part)| {
            let samples =
                |&(utterance, _): &(u32, u32)| f64::from(self.samples[utterance as usize]);
            match part.archives {
                Some(_) => (stream.iter().map(samples).sum::<f64>() / part.buffer).ceil() as usize,
                None => 1,
            }
        });
        let windows = windows.max().unwrap_or(1).max(1);
        let mut heard = Vec::with_capacity(streams.iter().map(Vec::len).sum());
        let mut ends = Vec::new();
        for window in 0..windows {
            for stream in &streams {
                let at = |window: usize| {
                    (stream.len() as u128 * window as u128 / windows as u128) as usize
                };
                for &(utterance, repeat) in &stream[at(window)..at(window + 1)] {
                    let hearing = Hearing {
                        seed: self.seed,
                        epoch,
                        utterance,
                        repeat,
                    };
                    let samples = self.samples[utterance as usize] as usize;
                    heard.push(Heard {
                        length: self.augmentation.stretch(hearing).samples(samples) as u32,
                        utterance,
                        repeat,
                    });
                }
            }
            ends.push(heard.len());
        }
        (heard, ends)
    }

    /// Cuts what is heard into batches, each as large as it may be. `start` is its place in the epoch.
    fn cut(&self, heard: &[Heard], start: usize, batches: &mut Vec<Range<u32>>) {
        let most = samples_in(self.batching.max_seconds);
        let mut first = 0;
        let mut longest = 0;
        let place = |index: usize| (start + index) as u32;
        for (index, heard) in heard.iter().enumerate() {
            let length = self.batching.padded(heard.length as usize);
            let longest_now = longest.max(length);
            let count = index - first;
            let full = longest_now * (count + 1) > most || count == self.batching.max_utterances;
            if full && count > 0 {
                batches.push(place(first)..place(index));
                first = index;
                longest = length;
            } else {
                longest = longest_now;
            }
        }
        if first < heard.len() {
            batches.push(place(first)..place(heard.len()));
        }
    }

    /// Of all that decides which utterances make which batch.
    fn fingerprint(&self, corpus: &Corpus) -> Result<u64, DataError> {
        let mut hash = Fnv::default();
        self.seed.hash(&mut hash);
        let settings = (
            &self.batching,
            &self.augmentation.speed,
            &self.augmentation.quiet,
        );
        format!("{settings:?}").hash(&mut hash);
        for part in &self.parts {
            part.drawn.hash(&mut hash);
            for &utterance in &part.utterances {
                let entry = corpus.entry(utterance as usize)?;
                let samples = self.samples[utterance as usize] as usize;
                (utterance, &entry.audio, samples).hash(&mut hash);
            }
            if let Some(archives) = &part.archives {
                (part.buffer.to_bits(), archives).hash(&mut hash);
            }
        }
        Ok(hash.finish())
    }
}

/// Whether a CTC model has frames enough for the tokens: one for each, and a blank's between two
/// that are the same.
pub(super) fn fits(tokens: &[i64], samples: usize) -> bool {
    let doubled = tokens.windows(2).filter(|pair| pair[0] == pair[1]).count();
    frame_count(samples) / SUBSAMPLING >= tokens.len() + doubled
}

/// The hash FNV-1a: unlike the standard library's, the same in every version.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
