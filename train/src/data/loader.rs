//! Batches made in the background while the trainer works.

use std::collections::VecDeque;
use std::iter;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::augment::{Augmentation, Augmenter};
use super::batch::{Batch, KeptSpeech};
use super::batching::Batching;
use super::chance::Hearing;
use super::corpus::Corpus;
use super::error::{DataError, Strictness, require};
use super::manifest::{self, Contents, Entry};
use super::sampler::{LeftOut, Position, Sampler, Shard};
use super::spec_augment::SpecAugment;
use super::tarred::{Buffer, Reader};
use super::timbre::Timbre;
use super::tokenizer::Tokenizer;
use super::worker::{Counters, Made, Plan, Worker};

/// How batches are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoaderConfig {
    /// Decides everything that is random. Default: 0.
    pub seed: u64,
    /// Threads that read, augment and compute features. What comes out does not depend on it.
    /// Default: one less than the machine has cores for each process that trains on it.
    pub workers: usize,
    /// Finished batches that may wait for the trainer, for each worker: memory is bounded by
    /// `workers * (ahead + 1)` batches. Default: 2.
    pub ahead: usize,
    /// Passes through the data; `None` for no end. Default: none.
    pub epochs: Option<u64>,
    /// How utterances are put together.
    pub batching: Batching,
    /// What happens to the sound.
    pub augmentation: Augmentation,
    /// The voice that the student hears instead.
    pub timbre: Timbre,
    /// What is hidden from the student.
    pub spec_augment: SpecAugment,
    /// Transcripts are split into pieces in random ways, see [`Tokenizer::sample`]: the power of
    /// their probability, 0.1 to 0.5 as a rule. Default: none, the best split.
    pub subword_alpha: Option<f64>,
    /// What batches keep of the speech without quiet, room and noise ([`Batch::clean`]). Default: nothing.
    #[serde(skip)]
    pub keep_clean: KeptSpeech,
    /// Utterances are heard in two timbres and with two masks ([`Batch::other_view`]). Default: no.
    #[serde(skip)]
    pub two_views: bool,
    /// Batches at an epoch's end that are too few for all processes are not dropped. Default: no.
    #[serde(skip)]
    pub keep_rest: bool,
}

/// Processors for each of the training processes on this machine, of which launchers tell the number.
fn own_cores() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let processes = std::env::var("LOCAL_WORLD_SIZE").ok();
    let processes = processes
        .and_then(|number| number.parse().ok())
        .unwrap_or(1);
    (cores / processes.max(1)).max(1)
}

impl Default for LoaderConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            workers: (own_cores() - 1).max(1),
            ahead: 2,
            epochs: None,
            batching: Batching::default(),
            augmentation: Augmentation::default(),
            timbre: Timbre::default(),
            spec_augment: SpecAugment::default(),
            subword_alpha: None,
            keep_clean: KeptSpeech::None,
            two_views: false,
            keep_rest: false,
        }
    }
}

impl LoaderConfig {
    /// One pass over unchanged utterances.
    #[must_use]
    pub fn evaluation() -> Self {
        Self {
            epochs: Some(1),
            augmentation: Augmentation::none(),
            timbre: Timbre::none(),
            spec_augment: SpecAugment::none(),
            ..Self::default()
        }
    }

    /// Checks all bounds.
    ///
    /// # Errors
    /// [`DataError::Config`] with the first setting that is out of bounds.
    pub fn validate(&self) -> Result<(), DataError> {
        let count =
            |field, found| require(field, "from 1 to 1024", found, (1..=1024).contains(&found));
        count("workers", self.workers)?;
        count("ahead", self.ahead)?;
        self.augmentation.validate()?;
        self.batching.validate(&self.augmentation)?;
        self.timbre.validate()?;
        self.spec_augment.validate()?;
        let alpha = self.subword_alpha;
        let holds = alpha.is_none_or(|alpha| (0.0..=100.0).contains(&alpha));
        require("subword_alpha", "from 0 to 100", alpha, holds)
    }
}

/// What went wrong while reading, so far; the batches lack these utterances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Broken {
    /// Hearings of utterances whose audio could not be used.
    pub utterances: u64,
    /// Hearings that lack their noise because it could not be read.
    pub noises: u64,
}

/// How long the trainer waited for batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// Time spent waiting in [`Loader::next`].
    pub waited: Duration,
    /// Time since the first batch was asked for.
    pub elapsed: Duration,
}

impl Waiting {
    /// The share of time that the trainer waited, from 0 to 1.
    #[must_use]
    pub fn share(&self) -> f64 {
        if self.elapsed.is_zero() {
            return 0.0;
        }
        self.waited.as_secs_f64() / self.elapsed.as_secs_f64()
    }
}

/// Gives batches, made by threads in the background in bounded memory.
///
/// The batches and their order depend on the seed, the data and the settings only: not on the number
/// of threads, nor on time. A loader that starts at a batch's [`next`](Batch::next) position gives
/// exactly the batches that would have followed.
///
/// As an iterator it gives an error where the data cannot be used, and then ends. Dropping it stops
/// the threads.
pub struct Loader {
    /// By worker; batch `i` comes from worker `i % workers`.
    batches: Vec<Receiver<Made>>,
    turn: usize,
    threads: Vec<JoinHandle<()>>,
    position: Position,
    left_out: LeftOut,
    counters: Arc<Counters>,
    /// What was read of archives, if there are any.
    buffer: Option<Arc<Buffer>>,
    first_asked: Option<Instant>,
    waited: Duration,
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader")
            .field("position", &self.position)
            .field("left_out", &self.left_out)
            .finish_non_exhaustive()
    }
}

impl Loader {
    /// Starts to make batches of `corpus` from `position` on.
    ///
    /// # Errors
    /// [`DataError`] if a setting is out of bounds, a noise manifest cannot be read, nothing in the
    /// corpus can be used, or `position` was saved with other data or settings.
    pub fn start(
        corpus: &Corpus,
        tokenizer: Arc<Tokenizer>,
        config: &LoaderConfig,
        strictness: Strictness,
        shard: Shard,
        position: Position,
    ) -> Result<Self, DataError> {
        config.validate()?;
        let holds = config.subword_alpha.is_none() || tokenizer.can_sample();
        require(
            "subword_alpha",
            "none, as the tokenizer is not of unigrams",
            config.subword_alpha,
            holds,
        )?;
        let mut sampler = Sampler::new(
            corpus,
            &tokenizer,
            config.seed,
            &config.batching,
            &config.augmentation,
            shard,
            position,
        )?;
        if config.keep_rest {
            sampler.keep_rest();
        }
        let noises = read_noises(&config.augmentation.noise.manifests, strictness)?;
        let left_out = sampler.left_out();
        let counters = Arc::new(Counters::default());

        let mut threads = Vec::new();
        let buffer = corpus.is_tarred().then(|| Arc::new(Buffer::default()));
        let windows = buffer.clone().map(|buffer| {
            let (sender, receiver) = sync_channel(1);
            let reader = Reader::new(corpus.clone(), buffer);
            threads.push(thread::spawn(move || reader.run(&receiver)));
            sender
        });
        let mut batches = Vec::new();
        let mut plans = Vec::new();
        let augmentation = Arc::new(config.augmentation.clone());
        for tokenizer in std::iter::repeat_n(tokenizer, config.workers) {
            let (plan_sender, plan_receiver) = sync_channel(config.ahead);
            let (batch_sender, batch_receiver) = sync_channel(config.ahead);
            plans.push(plan_sender);
            batches.push(batch_receiver);
            let worker = Worker {
                corpus: corpus.clone(),
                buffer: buffer.clone(),
                tokenizer,
                augmentation: augmentation.clone(),
                augmenter: Augmenter::new(augmentation.clone(), noises.clone(), corpus.clone()),
                timbre: config.timbre.clone(),
                spec_augment: config.spec_augment.clone(),
                subword_alpha: config.subword_alpha,
                keep_clean: config.keep_clean,
                two_views: config.two_views,
                strictness,
                counters: counters.clone(),
            };
            threads.push(thread::spawn(move || {
                worker.run(&plan_receiver, &batch_sender);
            }));
        }
        let epochs = config.epochs;
        threads.push(thread::spawn(move || match windows {
            None => hand_out(iter::from_fn(|| next_plan(&mut sampler, epochs)), &plans),
            Some(windows) => {
                let plans_ahead = Ahead::new(|| next_plan(&mut sampler, epochs), windows);
                hand_out(plans_ahead, &plans);
            }
        }));
        Ok(Self {
            batches,
            turn: 0,
            threads,
            position,
            left_out,
            counters,
            buffer,
            first_asked: None,
            waited: Duration::ZERO,
        })
    }

    /// The place after the last batch that was given: what a checkpoint saves.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Utterances that are never heard.
    #[must_use]
    pub fn left_out(&self) -> LeftOut {
        self.left_out
    }

    /// What could not be read so far.
    #[must_use]
    pub fn broken(&self) -> Broken {
        Broken {
            utterances: self.counters.utterances.load(Ordering::Relaxed),
            noises: self.counters.noises.load(Ordering::Relaxed),
        }
    }

    /// How long the trainer waited so far.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        Waiting {
            waited: self.waited,
            elapsed: self
                .first_asked
                .map_or(Duration::ZERO, |start| start.elapsed()),
        }
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let asked = Instant::now();
        self.first_asked.get_or_insert(asked);
        let next = self.receive();
        self.waited += asked.elapsed();
        next
    }
}

impl Loader {
    fn receive(&mut self) -> Option<Result<Batch, DataError>> {
        loop {
            let Some(Ok(made)) = self.batches.get(self.turn).map(Receiver::recv) else {
                self.stop();
                return None;
            };
            self.turn = (self.turn + 1) % self.batches.len();
            match made {
                Ok((next, Some(batch))) => {
                    self.position = next;
                    return Some(Ok(batch));
                }
                // A whole epoch has gone by: the audio is not there.
                Ok((next, None)) if next.epoch > self.position.epoch + 1 => {
                    self.stop();
                    let utterances = self.broken().utterances;
                    return Some(Err(DataError::Nothing {
                        what: format!("epoch {}", self.position.epoch + 1),
                        reason: format!("{utterances} utterances could not be read"),
                    }));
                }
                Ok((_, None)) => {}
                Err(error) => {
                    self.stop();
                    return Some(Err(error));
                }
            }
        }
    }

    /// Ends the threads. A panic in one of them goes on here.
    fn stop(&mut self) {
        // Without receivers nobody has anything to send, and nobody waits for archives.
        self.batches.clear();
        if let Some(buffer) = &self.buffer {
            buffer.stop();
        }
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join()
                && !thread::panicking()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.stop();
    }
}

fn read_noises(manifests: &[PathBuf], strictness: Strictness) -> Result<Arc<[Entry]>, DataError> {
    let mut noises = Vec::new();
    for manifest in manifests {
        noises.extend(manifest::read(manifest, Contents::Noise, strictness)?.0);
    }
    Ok(noises.into())
}

/// The next plan, until the last epoch has ended.
fn next_plan(sampler: &mut Sampler, epochs: Option<u64>) -> Option<Plan> {
    // A process may have no batch at all, in any epoch.
    while epochs.is_none_or(|epochs| sampler.epoch() < epochs) {
        if let Some(plan) = sampler.next_of_epoch().transpose() {
            return Some(plan);
        }
    }
    None
}

/// Hands plans out in turn, until there are no more, or nobody takes them.
fn hand_out(plans: impl Iterator<Item = Plan>, workers: &[SyncSender<Plan>]) {
    for (plan, worker) in plans.zip(workers.iter().cycle()) {
        let failed = plan.is_err();
        if worker.send(plan).is_err() || failed {
            return;
        }
    }
}

/// Plans, of which the reader of archives is told one window before.
struct Ahead<F> {
    plans: F,
    reader: SyncSender<Vec<Hearing>>,
    /// Those of this window, and those of the next.
    now: VecDeque<Plan>,
    next: VecDeque<Plan>,
    /// The first plan after these.
    first: Option<Plan>,
}

impl<F: FnMut() -> Option<Plan>> Ahead<F> {
    fn new(mut plans: F, reader: SyncSender<Vec<Hearing>>) -> Self {
        let first = plans();
        let mut ahead = Self {
            plans,
            reader,
            now: VecDeque::new(),
            next: VecDeque::new(),
            first,
        };
        ahead.gather();
        ahead
    }

    /// Takes the plans of another window.
    fn gather(&mut self) {
        let window =
            |plan: &Plan| Some((plan.as_ref().ok()?.next.epoch, plan.as_ref().ok()?.window));
        let Some(first) = self.first.take() else {
            return;
        };
        let number = window(&first);
        self.next.push_back(first);
        while number.is_some() {
            match (self.plans)() {
                Some(plan) if window(&plan) == number => self.next.push_back(plan),
                other => {
                    self.first = other;
                    break;
                }
            }
        }
        let plans = self.next.iter().flatten();
        let hearings = plans.flat_map(|plan| plan.hearings.iter().copied());
        // If it has ended, so have those who wait for what it reads.
        let _ = self.reader.send(hearings.collect());
    }
}

impl<F: FnMut() -> Option<Plan>> Iterator for Ahead<F> {
    type Item = Plan;

    fn next(&mut self) -> Option<Plan> {
        if self.now.is_empty() {
            self.now = std::mem::take(&mut self.next);
            self.gather();
        }
        self.now.pop_front()
    }
}
