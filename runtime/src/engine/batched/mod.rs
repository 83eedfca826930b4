//! Several streams in one run of a graph, where they wait for one another anyway.
//!
//! A step puts its window into a queue. Whoever finds a run free takes from the front of the queue as much as pays: one
//! window, for the graph of one stream, as long as few wait; else all that one run of the batched graph has room for.
//! Nobody waits for company, so batches form by themselves, just when the machine is behind.
//!
//! A stream has its own caches, in a session of the graph of one stream. For a batched run they are copied into its
//! places and back; places that nobody takes are zero.

mod queue;
/// What the queue waits with.
mod sync {
    pub(super) use std::sync::{Condvar, Mutex, MutexGuard};
}

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use self::queue::Queue;
use super::{
    Batching, CacheValues, CachedEngine, CachedSession, Engine, EngineError, Session, said,
};
use crate::model::Config;

/// Runs streams of `alone` together on `several`, as many runs at a time as `parallel` says.
pub(super) fn together(
    alone: Arc<dyn CachedEngine>,
    several: &dyn CachedEngine,
    config: &Config,
    parallel: usize,
) -> Result<Arc<dyn Engine>, EngineError> {
    let window = config.geometry.window_size * config.features.mel_bins;
    let engine = BatchedEngine::new(alone, several, window, parallel)?;
    Ok(Arc::new(engine))
}

struct BatchedEngine {
    alone: Arc<dyn CachedEngine>,
    queue: Arc<Queue<Run>>,
    /// Streams in one run.
    room: usize,
    /// Computed in company.
    steps: Arc<AtomicU64>,
    /// Values of a window.
    window: usize,
    streams: AtomicU64,
    description: String,
}

impl BatchedEngine {
    fn new(
        alone: Arc<dyn CachedEngine>,
        several: &dyn CachedEngine,
        window: usize,
        parallel: usize,
    ) -> Result<Self, EngineError> {
        let steps = Arc::<AtomicU64>::default();
        let idle: Vec<Run> = (0..parallel.max(1))
            .map(|_| Run::new(several, window, &steps))
            .collect::<Result<_, _>>()?;
        let room = idle.first().map_or(1, |run| run.room);
        let description = alone.description();
        Ok(Self {
            description: format!("{description}, up to {room} waiting streams in a run"),
            queue: Arc::new(Queue::new(idle)),
            room,
            steps,
            alone,
            window,
            streams: AtomicU64::new(0),
        })
    }
}

impl Engine for BatchedEngine {
    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(Stream {
            seat: Some(Seat {
                stream: self.streams.fetch_add(1, Ordering::Relaxed),
                session: self.alone.open()?,
                window: vec![0.0; self.window],
                log_probs: Vec::new(),
                outcome: Ok(()),
            }),
            queue: Arc::clone(&self.queue),
        }))
    }

    fn description(&self) -> &str {
        &self.description
    }

    fn batching(&self) -> Option<Batching> {
        Some(Batching {
            streams: self.room,
            steps: self.steps.load(Ordering::Relaxed),
        })
    }
}

struct Stream {
    /// On its way through the queue during a step.
    seat: Option<Seat>,
    queue: Arc<Queue<Run>>,
}

impl Session for Stream {
    fn step(&mut self, window: &[f32]) -> Result<&[f32], EngineError> {
        if let Some(seat) = &mut self.seat {
            seat.window.copy_from_slice(window);
        }
        let seat = self.seat.take().map(|seat| self.queue.pass(seat));
        let Some(seat) = seat else {
            unreachable!("a seat comes back from every step")
        };
        let seat = self.seat.insert(seat);
        std::mem::replace(&mut seat.outcome, Ok(()))?;
        Ok(&seat.log_probs)
    }

    fn reset(&mut self) {
        if let Some(seat) = &mut self.seat {
            seat.session.reset();
        }
    }
}

/// A stream's window, and all that computing it takes.
struct Seat {
    stream: u64,
    session: Box<dyn CachedSession>,
    window: Vec<f32>,
    log_probs: Vec<f32>,
    outcome: Result<(), EngineError>,
}

impl Seat {
    fn step(&mut self) -> Result<(), EngineError> {
        let log_probs = self.session.step(&self.window)?;
        self.log_probs.clear();
        self.log_probs.extend_from_slice(log_probs);
        Ok(())
    }
}

/// A run of one graph or the other, which one thread at a time leads.
struct Run {
    /// Of the batched graph.
    session: Box<dyn CachedSession>,
    /// Of the engine.
    name: &'static str,
    windows: Vec<f32>,
    room: usize,
    aboard: Vec<Seat>,
    /// Computed in company, by all runs.
    steps: Arc<AtomicU64>,
}

impl queue::Run for Run {
    type Seat = Seat;

    fn stream(seat: &Seat) -> u64 {
        seat.stream
    }

    /// A batched run costs as much with empty places as with full ones: as 2.7 of four streams one by one on ort, as 3.3
    /// on tract, and 5.2 and 6.4 of eight (docs/performance.md).
    fn worth(&self, waiting: usize) -> usize {
        if 4 * waiting > 3 * self.room {
            waiting.min(self.room)
        } else {
            waiting.min(1)
        }
    }

    fn aboard(&mut self) -> &mut Vec<Seat> {
        &mut self.aboard
    }

    /// Whatever goes wrong is the outcome of each who is aboard, and of nobody else.
    fn lead(&mut self) {
        let company = self.aboard.len();
        let stopped = catch_unwind(AssertUnwindSafe(|| match &mut self.aboard[..] {
            [seat] => seat.step(),
            _ => self.step(),
        }));
        let (engine, reason) = match stopped {
            Ok(Ok(())) => {
                if company > 1 {
                    self.steps.fetch_add(company as u64, Ordering::Relaxed);
                }
                return;
            }
            Ok(Err(EngineError::Run { engine, reason })) => (engine, reason),
            Ok(Err(error)) => (self.name, error.to_string()),
            Err(panic) => (self.name, said(&*panic)),
        };
        for seat in &mut self.aboard {
            let reason = reason.clone();
            seat.outcome = Err(EngineError::Run { engine, reason });
        }
        self.session.reset();
    }
}

impl Run {
    fn new(
        several: &dyn CachedEngine,
        window: usize,
        steps: &Arc<AtomicU64>,
    ) -> Result<Self, EngineError> {
        let mut session = several.open()?;
        let room = session.caches()?.channel_len.len();
        Ok(Self {
            session,
            name: several.name(),
            windows: vec![0.0; room * window],
            room,
            aboard: Vec::with_capacity(room),
            steps: Arc::clone(steps),
        })
    }

    /// Computes all who are aboard in one run of the batched graph.
    fn step(&mut self) -> Result<(), EngineError> {
        let size = self.windows.len() / self.room;
        let mut seats = self.aboard.iter_mut();
        let mut caches = self.session.caches()?;
        let places = caches.places().zip(self.windows.chunks_exact_mut(size));
        for (mut place, window) in places {
            if let Some(seat) = seats.next() {
                window.copy_from_slice(&seat.window);
                place.copy_from(&seat.session.caches()?);
            } else {
                window.fill(0.0);
                place.clear();
            }
        }
        let log_probs = self.session.step(&self.windows)?;
        let size = log_probs.len() / self.room;
        for (seat, log_probs) in self.aboard.iter_mut().zip(log_probs.chunks_exact(size)) {
            seat.log_probs.clear();
            seat.log_probs.extend_from_slice(log_probs);
        }
        let mut caches = self.session.caches()?;
        for (seat, place) in self.aboard.iter_mut().zip(caches.places()) {
            seat.session.caches()?.copy_from(&place);
        }
        Ok(())
    }
}

impl CacheValues<'_> {
    /// Those of each stream.
    fn places(&mut self) -> impl Iterator<Item = CacheValues<'_>> {
        let streams = self.channel_len.len();
        let channel = self.channel.chunks_exact_mut(self.channel.len() / streams);
        let time = self.time.chunks_exact_mut(self.time.len() / streams);
        let lengths = self.channel_len.chunks_exact_mut(1);
        channel
            .zip(time)
            .zip(lengths)
            .map(|((channel, time), channel_len)| CacheValues {
                channel,
                time,
                channel_len,
            })
    }

    fn copy_from(&mut self, other: &CacheValues<'_>) {
        self.channel.copy_from_slice(other.channel);
        self.time.copy_from_slice(other.time);
        self.channel_len.copy_from_slice(other.channel_len);
    }
}

#[cfg(test)]
mod tests;
