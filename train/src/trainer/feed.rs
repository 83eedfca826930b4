//! Batches with what the teacher hears of them, made while the trainer works.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tch::Tensor;

use super::cache::{self, Cache, Key};
use super::error::TrainError;
use super::record::Record;
use crate::data::{Batch, Broken, Loader, SpecAugment, Waiting};
use crate::front_end::FrontEnd;

/// Batches that may wait for the trainer, besides those in the loader.
const AHEAD: usize = 2;

/// Who hears a batch besides a student of our log-mel frames: a teacher, or a student with another
/// front-end.
pub(super) struct Ear {
    front_end: FrontEnd,
    /// What is hidden from a student is hidden in these features, too.
    masked: bool,
    /// What a teacher said before.
    cache: Option<Cache>,
}

/// A batch for all who hear it.
pub(super) struct Course {
    pub(super) batch: Batch,
    /// Features of the other ear's front-end, (B, T, width), and the frames of each utterance; `None`
    /// without one. If there is a cache, of the utterances that it lacks.
    pub(super) other_features: Option<(Tensor, Vec<i64>)>,
    /// What a cache has of each utterance, if there is one.
    pub(super) known: Option<Vec<Known>>,
    /// What could not be read so far.
    pub(super) broken: Broken,
}

/// What a cache has of an utterance.
pub(super) struct Known {
    pub(super) key: Key,
    pub(super) record: Option<Record>,
}

impl Ear {
    pub(super) fn teacher(front_end: FrontEnd, cache: Option<Cache>) -> Self {
        Self {
            front_end,
            masked: false,
            cache,
        }
    }

    pub(super) fn student(front_end: FrontEnd) -> Self {
        Self {
            front_end,
            masked: true,
            cache: None,
        }
    }

    /// A batch, and all that this ear hears of it.
    fn attend(&self, batch: Batch, masks: &SpecAugment) -> Result<Course, TrainError> {
        let Some(cache) = &self.cache else {
            return Ok(Course {
                other_features: Some(self.hear(&batch, masks)),
                known: None,
                batch,
                broken: Broken::default(),
            });
        };
        let known = batch.clean.iter().map(|clean| {
            let key = cache::key(clean);
            let record = cache.get(&key)?;
            Ok(Known { key, record })
        });
        let known = known.collect::<Result<Vec<_>, TrainError>>()?;
        let missing = batch.clean.iter().zip(&known);
        let missing: Vec<_> = missing
            .filter(|(_, known)| known.record.is_none())
            .map(|(clean, _)| clean.samples.clone())
            .collect();
        let features = (!missing.is_empty()).then(|| self.front_end.batch(&missing));
        Ok(Course {
            other_features: features,
            known: Some(known),
            batch,
            broken: Broken::default(),
        })
    }

    fn hear(&self, batch: &Batch, masks: &SpecAugment) -> (Tensor, Vec<i64>) {
        match &self.front_end {
            FrontEnd::Sori => (batch.clean_features.shallow_clone(), batch.frames.clone()),
            FrontEnd::Samples => (batch.waveforms.unsqueeze(-1), batch.samples.clone()),
            front_end if !self.masked => front_end.batch(&waveforms(batch)),
            front_end => {
                let (bands, hearings) = (front_end.width(), &batch.hearings);
                front_end.batch_with(&waveforms(batch), |row, features| {
                    masks.apply(features, bands, hearings[row]);
                })
            }
        }
    }
}

/// Takes batches from a loader and computes the other ear's features, in a thread of its own.
pub(super) struct Feed {
    /// Gone once there is nothing more to receive.
    courses: Option<Receiver<Result<Course, TrainError>>>,
    thread: Option<JoinHandle<()>>,
    first_asked: Option<Instant>,
    waited: Duration,
}

impl Feed {
    pub(super) fn start(loader: Loader, other: Option<Ear>, masks: SpecAugment) -> Self {
        let (sender, courses) = sync_channel(AHEAD);
        let thread = thread::spawn(move || {
            let mut loader = loader;
            while let Some(batch) = loader.next() {
                let broken = loader.broken();
                let course = batch.map_err(TrainError::from).and_then(|batch| {
                    let course = match &other {
                        Some(ear) => ear.attend(batch, &masks)?,
                        None => Course {
                            batch,
                            other_features: None,
                            known: None,
                            broken,
                        },
                    };
                    Ok(Course { broken, ..course })
                });
                if sender.send(course).is_err() {
                    break;
                }
            }
        });
        Self {
            courses: Some(courses),
            thread: Some(thread),
            first_asked: None,
            waited: Duration::ZERO,
        }
    }

    /// How long the trainer waited so far.
    pub(super) fn waiting(&self) -> Waiting {
        Waiting {
            waited: self.waited,
            elapsed: self
                .first_asked
                .map_or(Duration::ZERO, |start| start.elapsed()),
        }
    }
}

impl Iterator for Feed {
    type Item = Result<Course, TrainError>;

    fn next(&mut self) -> Option<Self::Item> {
        let asked = Instant::now();
        self.first_asked.get_or_insert(asked);
        let next = self.courses.as_ref()?.recv().ok();
        self.waited += asked.elapsed();
        if next.is_none() {
            self.end();
        }
        next
    }
}

impl Feed {
    /// Ends the thread. A panic in it goes on here.
    fn end(&mut self) {
        // Without a receiver it has nothing to send.
        self.courses = None;
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.end();
    }
}

fn waveforms(batch: &Batch) -> Vec<Vec<f32>> {
    let rows = batch.samples.iter().enumerate();
    rows.map(|(row, &samples)| {
        let row = batch.waveforms.get(row as i64).narrow(0, 0, samples);
        let mut values = vec![0.0; samples as usize];
        row.copy_data(&mut values, samples as usize);
        values
    })
    .collect()
}
