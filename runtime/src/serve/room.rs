//! The engine room: every stream of every protocol is heard here, on a bounded number of threads.
//!
//! A stream has at most one piece of work in the queue, a second of sound at most, and its client is not
//! read before that is done: the queue is as long as there are streams, all get their turn, and a client
//! that sends faster than it is heard is slowed down by its own socket.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use cpu_time::ThreadTime;
use sori::audio::{AudioError, AudioFile, OpusPackets, PcmReader, SAMPLE_RATE};
use sori::decode::Grammar;
use sori::model::Tokens;
use sori::{Event, Stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use super::metrics::{Metrics, OpenStream};

/// What the server tells of its model.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) name: String,
    /// Language tag (BCP 47).
    pub(crate) language: String,
    /// How often there is something new.
    pub(crate) chunk_ms: u32,
}

/// Makes a stream, with all that the command line asks of it.
pub(crate) type Opener = Arc<dyn Fn() -> Result<Stream, sori::Error> + Send + Sync>;

/// Opens streams while there are seats.
pub(crate) struct Room {
    opener: Opener,
    pub(crate) model: Model,
    size: usize,
    seats: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// The right to one stream.
pub(crate) struct Seat {
    _permit: OwnedSemaphorePermit,
    _open: OpenStream,
}

/// Where sound comes from, piece by piece.
pub(crate) trait Source: Send + 'static {
    fn sample_rate(&self) -> u32;

    /// Appends what there is now; `false` when there is nothing, or nothing more.
    fn read(&mut self, samples: &mut Vec<f32>) -> Result<bool, AudioError>;
}

/// Sound from a socket: bytes are put in as they come.
pub(crate) type Pcm = PcmReader<VecDeque<u8>>;

impl Source for Pcm {
    fn sample_rate(&self) -> u32 {
        self.sample_rate()
    }

    fn read(&mut self, samples: &mut Vec<f32>) -> Result<bool, AudioError> {
        if self.get_mut().is_empty() {
            return Ok(false);
        }
        self.read(samples)
    }
}

/// Sound from a socket, as the client said it would send it.
pub(crate) enum Sent {
    Pcm(Pcm),
    /// Packets that are still to be decoded.
    Opus(OpusPackets, VecDeque<Bytes>),
}

impl Sent {
    /// Puts the bytes of a message in.
    pub(crate) fn put(&mut self, bytes: Bytes) {
        match self {
            Self::Pcm(pcm) => pcm.get_mut().extend(bytes),
            Self::Opus(_, packets) => packets.push_back(bytes),
        }
    }
}

impl Source for Sent {
    fn sample_rate(&self) -> u32 {
        match self {
            Self::Pcm(pcm) => pcm.sample_rate(),
            Self::Opus(..) => SAMPLE_RATE,
        }
    }

    fn read(&mut self, samples: &mut Vec<f32>) -> Result<bool, AudioError> {
        match self {
            Self::Pcm(pcm) => Source::read(pcm, samples),
            Self::Opus(decoder, packets) => {
                let Some(packet) = packets.pop_front() else {
                    return Ok(false);
                };
                decoder.decode(&packet, samples)?;
                Ok(true)
            }
        }
    }
}

impl Source for AudioFile {
    fn sample_rate(&self) -> u32 {
        self.sample_rate()
    }

    fn read(&mut self, samples: &mut Vec<f32>) -> Result<bool, AudioError> {
        self.read(samples)
    }
}

/// Why a stream cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The sound is not what it should be.
    #[error(transparent)]
    Audio(#[from] AudioError),
    /// The model's engine gave up.
    #[error("the model cannot be run: {0}")]
    Recognizer(#[from] sori::Error),
    /// A mistake in this program. Other streams do not notice.
    #[error("internal error; please report it, with the sound if possible")]
    Panicked,
}

impl Failure {
    /// For programs; stable.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Audio(_) => "bad-audio",
            Self::Recognizer(_) | Self::Panicked => "internal",
        }
    }
}

impl Room {
    pub(crate) fn new(opener: Opener, model: Model, size: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            opener,
            model,
            size,
            seats: Arc::new(Semaphore::new(size)),
            metrics,
        }
    }

    /// A seat for a stream of `protocol`; `None` when all are taken.
    pub(crate) fn seat(&self, protocol: &'static str) -> Option<Seat> {
        let permit = Arc::clone(&self.seats).try_acquire_owned().ok()?;
        Some(Seat {
            _permit: permit,
            _open: self.metrics.stream(protocol),
        })
    }

    /// Opens the source and a stream for it.
    pub(crate) async fn open<S: Source>(
        &self,
        seat: Seat,
        source: impl FnOnce() -> Result<S, AudioError> + Send + 'static,
    ) -> Result<Hearing<S>, Failure> {
        let opener = Arc::clone(&self.opener);
        let work = spawn_blocking(move || {
            Ok(Box::new(Work {
                source: source()?,
                stream: opener()?,
                samples: Vec::new(),
                _seat: seat,
            }))
        });
        let opened: Result<_, Failure> = work.await.unwrap_or(Err(Failure::Panicked));
        Ok(Hearing {
            work: Some(opened?),
            heard: 0.0,
            metrics: Arc::clone(&self.metrics),
        })
    }

    /// Waits until no stream is left.
    pub(crate) async fn emptied(&self) {
        // Only a closed semaphore gives an error, and this one is never closed.
        let _ = self.seats.acquire_many(self.size as u32).await;
    }
}

/// A stream and its source, on the way to a thread and back.
struct Work<S> {
    source: S,
    stream: Stream,
    samples: Vec<f32>,
    _seat: Seat,
}

/// One stream of sound and what is heard in it. Dropped, it gives its seat back.
pub(crate) struct Hearing<S> {
    /// Away while a thread has it, and for good after a failure.
    work: Option<Box<Work<S>>>,
    heard: f64,
    metrics: Arc<Metrics>,
}

/// What a piece of sound brought.
pub(crate) struct Heard {
    pub(crate) events: Vec<Event>,
    /// Whether the source has more to give; an error when this was the last that could be heard.
    pub(crate) more: Result<bool, Failure>,
}

impl<S: Source> Hearing<S> {
    /// The source, to be filled or changed; `None` after a failure.
    pub(crate) fn source(&mut self) -> Option<&mut S> {
        Some(&mut self.work.as_mut()?.source)
    }

    /// Seconds of sound heard, of all that came.
    pub(crate) fn seconds(&self) -> f64 {
        self.heard
    }

    /// Hears what the source has, a second at most: also what it gave before it failed.
    pub(crate) async fn step(&mut self) -> Result<Heard, Failure> {
        self.work(|work| {
            work.samples.clear();
            let rate = work.source.sample_rate();
            let mut more = Ok(true);
            while matches!(more, Ok(true)) && work.samples.len() < rate as usize {
                more = work.source.read(&mut work.samples);
            }
            let heard = work.stream.accept(rate, &work.samples).map(drop);
            if heard.is_err() {
                // What was said before is said.
                work.stream.end_utterance();
            }
            let events = work.stream.events().collect();
            let more = heard
                .map_err(Failure::from)
                .and(more.map_err(Failure::from));
            let seconds = work.samples.len() as f64 / f64::from(rate.max(1));
            (Heard { events, more }, seconds)
        })
        .await
    }

    /// Hears only what a grammar allows from here on, or everything again; what was being said ends here. Nothing
    /// changes if there is no such grammar.
    pub(crate) async fn restrict<E: Send + 'static>(
        &mut self,
        grammar: impl FnOnce(&Tokens) -> Result<Option<Grammar>, E> + Send + 'static,
    ) -> Result<Result<Vec<Event>, E>, Failure> {
        self.work(|work| {
            let recognizer = work.stream.recognizer();
            let ended = grammar(recognizer.package().tokens())
                .map(|grammar| work.stream.set_grammar(grammar.map(Arc::new)).collect());
            (ended, 0.0)
        })
        .await
    }

    /// Ends the sound: what is still to be said. The stream begins again at 0.
    pub(crate) async fn finish(&mut self) -> Result<Heard, Failure> {
        self.work(|work| {
            let finished = work.stream.finish().map(drop);
            let more = finished.map(|()| false).map_err(Failure::from);
            let events = work.stream.events().collect();
            (Heard { events, more }, 0.0)
        })
        .await
    }

    /// Has a thread do a `job`, which tells how many seconds of sound it heard, too.
    async fn work<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&mut Work<S>) -> (T, f64) + Send + 'static,
    ) -> Result<T, Failure> {
        let mut work = self.work.take().ok_or(Failure::Panicked)?;
        let came = Instant::now();
        // A panic ends with this thread's work: the pool catches it.
        let done = spawn_blocking(move || {
            let cpu = ThreadTime::now();
            let (result, seconds) = job(&mut work);
            (work, result, seconds, cpu.elapsed())
        });
        let (work, result, seconds, cpu) = done.await.map_err(|_| Failure::Panicked)?;
        self.work = Some(work);
        self.heard += seconds;
        self.metrics.heard(seconds, cpu, came.elapsed());
        Ok(result)
    }
}
