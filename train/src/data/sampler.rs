//! Which utterances make a batch, and which batch follows which.

use std::hash::{Hash, Hasher};

use rand::seq::SliceRandom;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sori::features::frame_count;

use super::audio::samples_in;
use super::augment::Augmentation;
use super::chance::{Hearing, shuffling};
use super::corpus::{Corpus, Part};
use super::error::{DataError, require};
use super::tokenizer::Tokenizer;

/// Log-mel frames of one output frame of a model.
const SUBSAMPLING: usize = crate::model::SUBSAMPLING as usize;

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
#[derive(Debug)]
pub struct Sampler {
    seed: u64,
    shard: Shard,
    batching: Batching,
    augmentation: Augmentation,
    parts: Vec<PartPlan>,
    /// By utterance of the corpus: its samples, 0 if it is left out.
    samples: Vec<usize>,
    left_out: LeftOut,
    fingerprint: u64,
    position: Position,
    /// The batches of the position's epoch, once they are planned.
    planned: Option<Vec<Vec<Hearing>>>,
}

/// The usable utterances of one source.
#[derive(Debug)]
struct PartPlan {
    utterances: Vec<u32>,
    /// Utterances in an epoch; `None` for each once.
    drawn: Option<usize>,
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
        let slow_enough: Vec<Option<bool>> = corpus
            .entries()
            .par_iter()
            .map(|entry| {
                let shortest = augmentation.bounds(samples_in(entry.duration))[0];
                let tokens = tokenizer.encode(&entry.text).ok()?;
                Some(fits(&tokens, shortest))
            })
            .collect();
        let mut samples = vec![0; corpus.entries().len()];
        let utterances = corpus.entries().iter().zip(slow_enough);
        for ((entry, slow_enough), samples) in utterances.zip(&mut samples) {
            match slow_enough {
                _ if entry.duration < batching.shortest => left_out.too_short += 1,
                _ if entry.duration > batching.longest => left_out.too_long += 1,
                None => left_out.unspellable += 1,
                Some(false) => left_out.too_dense += 1,
                Some(true) => *samples = samples_in(entry.duration),
            }
        }
        let parts = part_plans(corpus.parts(), &samples);
        if parts.iter().all(|part| part.utterances.is_empty()) {
            return Err(DataError::Nothing {
                what: "the training data".into(),
                reason: left_out.to_string(),
            });
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
        };
        sampler.fingerprint = sampler.fingerprint(corpus);
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

    /// The next batch; never one without utterances.
    ///
    /// # Errors
    /// [`DataError::Nothing`] if an epoch holds less than one batch for each process.
    pub fn next_batch(&mut self) -> Result<BatchPlan, DataError> {
        loop {
            let Position { epoch, batch, .. } = self.position;
            let planned = match self.planned.take() {
                Some(planned) => planned,
                None => self.plan_epoch(epoch)?,
            };
            let planned = self.planned.insert(planned);
            let Shard { rank, world } = self.shard;
            // Each process takes one of the next batches; where they are too few for all, a new epoch
            // begins.
            let step = planned.get(batch as usize..batch as usize + world);
            let Some(step) = step else {
                self.position = Position::start_of(epoch + 1);
                self.planned = None;
                continue;
            };
            let hearings = step[rank].clone();
            let longest = hearings.iter().map(|&hearing| self.length(hearing)).max();
            self.position = Position {
                epoch,
                batch: batch + world as u64,
                fingerprint: Some(self.fingerprint),
            };
            return Ok(BatchPlan {
                hearings,
                samples: self.batching.padded(longest.unwrap_or(0)),
                next: self.position,
            });
        }
    }

    /// Samples that an utterance has in one hearing.
    fn length(&self, hearing: Hearing) -> usize {
        let samples = self.samples[hearing.utterance as usize];
        self.augmentation.stretch(hearing).samples(samples)
    }

    /// All batches of one epoch, in their order, which no number of processes changes.
    fn plan_epoch(&self, epoch: u64) -> Result<Vec<Vec<Hearing>>, DataError> {
        let mut rng = shuffling(self.seed, epoch, 0);
        let mut hearings = self.hearings(epoch);
        hearings
            .sort_unstable_by_key(|&(length, hearing)| (length, hearing.utterance, hearing.repeat));
        let bucket = hearings.len().div_ceil(self.batching.buckets).max(1);
        for bucket in hearings.chunks_mut(bucket) {
            bucket.shuffle(&mut rng);
        }

        let mut batches = self.cut(&hearings);
        let world = self.shard.world;
        if batches.len() < world {
            return Err(DataError::Nothing {
                what: format!("epoch {epoch}"),
                reason: format!(
                    "{} utterances do not make a batch for each of {world} processes; lower \
                     batching.max_seconds",
                    hearings.len()
                ),
            });
        }
        batches.shuffle(&mut rng);
        Ok(batches)
    }

    /// All that is heard in an epoch, with its length in samples.
    fn hearings(&self, epoch: u64) -> Vec<(usize, Hearing)> {
        let mut hearings = Vec::new();
        let mut hear = |utterance, repeat| {
            let hearing = Hearing {
                seed: self.seed,
                epoch,
                utterance,
                repeat,
            };
            hearings.push((self.length(hearing), hearing));
        };
        for (index, part) in (1..).zip(&self.parts) {
            let Some(drawn) = part.drawn else {
                part.utterances
                    .iter()
                    .for_each(|&utterance| hear(utterance, 0));
                continue;
            };
            // The source is passed through again and again, shuffled each time; an epoch takes up
            // where the one before stopped.
            let all = part.utterances.len() as u128;
            let start = u128::from(epoch) * drawn as u128;
            let end = start + drawn as u128;
            for pass in start / all..end.div_ceil(all) {
                let mut order = part.utterances.clone();
                order.shuffle(&mut shuffling(self.seed, pass as u64, index));
                let from = start.saturating_sub(pass * all) as usize;
                let to = (end - pass * all).min(all) as usize;
                for &utterance in &order[from..to] {
                    hear(utterance, (pass - start / all) as u32);
                }
            }
        }
        hearings
    }

    /// Cuts hearings into batches, each as large as it may be.
    fn cut(&self, hearings: &[(usize, Hearing)]) -> Vec<Vec<Hearing>> {
        let most = samples_in(self.batching.max_seconds);
        let mut batches = Vec::new();
        let mut batch = Vec::new();
        let mut longest = 0;
        for &(length, hearing) in hearings {
            let longest_now = longest.max(self.batching.padded(length));
            let full = longest_now * (batch.len() + 1) > most
                || batch.len() == self.batching.max_utterances;
            if full && !batch.is_empty() {
                batches.push(std::mem::take(&mut batch));
                longest = self.batching.padded(length);
            } else {
                longest = longest_now;
            }
            batch.push(hearing);
        }
        if !batch.is_empty() {
            batches.push(batch);
        }
        batches
    }

    /// Of all that decides which utterances make which batch.
    fn fingerprint(&self, corpus: &Corpus) -> u64 {
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
                let entry = &corpus.entries()[utterance as usize];
                (utterance, &entry.audio, self.samples[utterance as usize]).hash(&mut hash);
            }
        }
        hash.finish()
    }
}

/// Whether a CTC model has frames enough for the tokens: one for each, and a blank's between two
/// that are the same.
pub(super) fn fits(tokens: &[i64], samples: usize) -> bool {
    let doubled = tokens.windows(2).filter(|pair| pair[0] == pair[1]).count();
    frame_count(samples) / SUBSAMPLING >= tokens.len() + doubled
}

fn part_plans(parts: &[Part], samples: &[usize]) -> Vec<PartPlan> {
    let usable = |part: &Part| -> Vec<u32> {
        let utterances = part.range.clone().filter(|&index| samples[index] > 0);
        utterances.map(|index| index as u32).collect()
    };
    let total = |utterances: &[u32]| -> usize {
        utterances
            .iter()
            .map(|&index| samples[index as usize])
            .sum()
    };
    let usable: Vec<Vec<u32>> = parts.iter().map(usable).collect();
    let shares: f64 = parts.iter().filter_map(|part| part.share).sum();
    let all_shared = parts.iter().all(|part| part.share.is_some());
    let once = parts
        .iter()
        .zip(&usable)
        .filter(|(part, _)| all_shared || part.share.is_none());
    let once: usize = once.map(|(_, utterances)| total(utterances)).sum();
    let epoch = if all_shared {
        once as f64
    } else {
        once as f64 / (1.0 - shares)
    };

    let plan = |(part, utterances): (&Part, Vec<u32>)| {
        let drawn = part.share.map(|share| {
            let mean = total(&utterances) as f64 / utterances.len().max(1) as f64;
            (share * epoch / mean.max(1.0)).round().max(1.0) as usize
        });
        PartPlan {
            drawn: drawn.filter(|_| !utterances.is_empty()),
            utterances,
        }
    };
    parts.iter().zip(usable).map(plan).collect()
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
