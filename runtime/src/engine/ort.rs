//! ONNX Runtime.
//!
//! A step reads the stream's set of cache tensors and writes a spare set, which all streams of a session have in
//! common; then the stream keeps what was written, and what it had is the spare. Nothing is copied.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{IoBinding, Session as OrtSession};
use ort::value::Tensor;

use super::{
    CacheValues, CachedEngine, CachedSession, Engine, EngineError, EngineOptions, Session,
    transpose,
};
use crate::model::{Config, Graph, Precision};

const NAME: &str = "ort";

/// The option for the directory of the file that an outline's weights are in.
const WEIGHTS_IN: &str = "session.model_external_initializers_file_folder_path";

struct OrtEngine {
    /// The graph, as often as streams may be in a step at the same time.
    turns: Shared<Mutex<Turn>>,
    names: Arc<Names>,
    shapes: Shapes,
    description: String,
}

/// What one stream at a time has: the crate `ort` lets nobody else in meanwhile.
struct Turn {
    graph: OrtSession,
    spare: Caches,
}

struct Names {
    inputs: [String; 5],
    outputs: [String; 5],
}

#[derive(Clone, Copy)]
struct Shapes {
    signal: [usize; 3],
    log_probs: [usize; 3],
    cache_last_channel: [usize; 4],
    cache_last_time: [usize; 4],
}

impl Shapes {
    fn new(config: &Config, graph: &Graph) -> Self {
        let [channel1, channel2, channel3] = config.geometry.cache_last_channel;
        let [time1, time2, time3] = config.geometry.cache_last_time;
        let (streams, frames) = (graph.streams, graph.signature.frames);
        Self {
            signal: [
                streams,
                config.features.mel_bins,
                config.geometry.window_size,
            ],
            log_probs: [streams, frames, config.tokens.count],
            cache_last_channel: [streams, channel1, channel2, channel3],
            cache_last_time: [streams, time1, time2, time3],
        }
    }

    /// Of each of the three inputs that are one number a stream.
    fn lengths(&self) -> [usize; 1] {
        [self.signal[0]]
    }
}

pub(super) fn load(
    config: &Config,
    graph: &Graph,
    precision: Precision,
    options: EngineOptions,
) -> Result<Arc<dyn CachedEngine>, EngineError> {
    let EngineOptions {
        threads, parallel, ..
    } = options;
    let environment = environment()?;
    let shapes = Shapes::new(config, graph);
    let turn = |graph: OrtSession| {
        let spare = Caches::new(&graph, &shapes)?;
        Ok(Arc::new(Mutex::new(Turn { graph, spare })))
    };
    let turns = sessions(environment, graph, threads.max(1), parallel.max(1))?
        .into_iter()
        .map(turn)
        .collect::<ort::Result<_>>()
        .map(Shared::new)
        .map_err(|error| refuse(graph, &error))?;
    let several = match parallel {
        0 | 1 => String::new(),
        more => format!(", {more} steps at once"),
    };
    let library = library_name();
    Ok(Arc::new(OrtEngine {
        turns,
        names: Arc::new(Names {
            inputs: graph.signature.inputs.clone(),
            outputs: graph.signature.outputs.clone(),
        }),
        shapes,
        description: format!("ort ({library}), {precision}, {threads} thread(s){several}"),
    }))
}

/// Loads the graph so many times.
fn sessions(
    environment: &Environment,
    graph: &Graph,
    threads: usize,
    count: usize,
) -> Result<Vec<OrtSession>, EngineError> {
    let bytes = graph.bytes()?;
    let (directory, bytes) = match graph.outline(&bytes) {
        Some((directory, outline)) => {
            // Its pages count as ours as long as it is mapped.
            drop(bytes);
            (Some(directory), Cow::Owned(outline))
        }
        None => (None, Cow::Borrowed(&*bytes)),
    };
    let session = |_| {
        let mut builder = OrtSession::builder(environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(threads)?
            // A chunk lasts a few milliseconds and comes a few times a second: a waiting thread that
            // spins would burn more than it computes.
            .with_intra_op_spinning(false)?
            // Its errors come back as errors; it need not print them too.
            .with_log_level(LogLevel::Fatal)?;
        if let Some(directory) = &directory {
            builder = builder.with_config_entry(WEIGHTS_IN, directory)?;
        }
        builder.commit_from_memory(&bytes)
    };
    let sessions: ort::Result<_> = (0..count).map(session).collect();
    sessions.map_err(|error| refuse(graph, &error))
}

fn refuse(graph: &Graph, error: &ort::Error) -> EngineError {
    EngineError::Load {
        engine: NAME,
        path: graph.path.display().to_string(),
        reason: error.to_string(),
    }
}

/// The process's one ONNX Runtime environment. A failure is not remembered: the next load may find
/// `ORT_DYLIB_PATH` mended.
pub(super) fn environment() -> Result<&'static Environment, EngineError> {
    static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
    static OPENING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = ENVIRONMENT.get() {
        return Ok(environment);
    }
    let environment = open_library()?
        .with_telemetry(false)
        .build()
        .map_err(|error| EngineError::NoLibrary {
            tried: error.to_string(),
            minimum: ort::MINOR_VERSION,
        })?;
    Ok(ENVIRONMENT.get_or_init(|| environment))
}

#[cfg(feature = "ort")]
static LIBRARY: OnceLock<std::path::PathBuf> = OnceLock::new();

#[cfg(feature = "ort")]
fn open_library() -> Result<ort::environment::EnvironmentBuilder, EngineError> {
    let (builder, path) = super::ort_library::open()?;
    tracing::info!("engine ort, from {}", path.display());
    LIBRARY.get_or_init(|| path);
    Ok(builder)
}

#[cfg(feature = "ort")]
fn library_name() -> String {
    LIBRARY
        .get()
        .map_or_else(String::new, |path| path.display().to_string())
}

#[cfg(not(feature = "ort"))]
fn open_library() -> Result<ort::environment::EnvironmentBuilder, EngineError> {
    Ok(ort::init())
}

#[cfg(not(feature = "ort"))]
fn library_name() -> String {
    "linked in".to_owned()
}

impl Engine for OrtEngine {
    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(CachedEngine::open(self)?)
    }

    fn description(&self) -> &str {
        &self.description
    }
}

impl CachedEngine for OrtEngine {
    fn name(&self) -> &'static str {
        NAME
    }

    fn open(&self) -> Result<Box<dyn CachedSession>, EngineError> {
        self.stream()
            .map(|stream| Box::new(stream) as Box<dyn CachedSession>)
            .map_err(|error| run_error(&error))
    }
}

impl OrtEngine {
    fn stream(&self) -> ort::Result<OrtStream> {
        let shared = self.turns.least_shared();
        let turn = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let allocator = turn.graph.allocator();
        let mut signal = Tensor::<f32>::new(allocator, self.shapes.signal)?;
        let mut length = Tensor::<i64>::new(allocator, self.shapes.lengths())?;
        let mut log_probs = Tensor::<f32>::new(allocator, self.shapes.log_probs)?;
        let mut encoded_lengths = Tensor::<i64>::new(allocator, self.shapes.lengths())?;
        signal.try_extract_tensor_mut::<f32>()?.1.fill(0.0);
        length
            .try_extract_tensor_mut::<i64>()?
            .1
            .fill(self.shapes.signal[2] as i64);

        let mut binding = turn.graph.create_binding()?;
        let Names { inputs, outputs } = &*self.names;
        binding.bind_input(&inputs[0], &signal)?;
        binding.bind_input(&inputs[1], &length)?;
        binding.bind_output(&outputs[0], &mut log_probs)?;
        binding.bind_output(&outputs[1], &mut encoded_lengths)?;
        Ok(OrtStream {
            caches: Caches::new(&turn.graph, &self.shapes)?,
            turn: Arc::clone(&shared),
            names: Arc::clone(&self.names),
            window: [self.shapes.signal[1], self.shapes.signal[2]],
            signal,
            log_probs,
            binding,
        })
    }
}

/// What streams share, each one of them.
struct Shared<T> {
    all: Vec<Arc<T>>,
    choosing: Mutex<()>,
}

impl<T> Shared<T> {
    fn new(all: Vec<Arc<T>>) -> Self {
        let choosing = Mutex::new(());
        Self { all, choosing }
    }

    /// The one with the fewest others to wait for.
    fn least_shared(&self) -> Arc<T> {
        // Streams that begin at the same time are to see each other's choice.
        let _one_at_a_time = self.choosing.lock().unwrap_or_else(PoisonError::into_inner);
        let least = self.all.iter().min_by_key(|it| Arc::strong_count(it));
        match least {
            Some(least) => Arc::clone(least),
            None => unreachable!("an engine is loaded at least once"),
        }
    }
}

struct Caches {
    channel: Tensor<f32>,
    time: Tensor<f32>,
    channel_len: Tensor<i64>,
}

impl Caches {
    fn new(graph: &OrtSession, shapes: &Shapes) -> ort::Result<Self> {
        let allocator = graph.allocator();
        let mut caches = Self {
            channel: Tensor::new(allocator, shapes.cache_last_channel)?,
            time: Tensor::new(allocator, shapes.cache_last_time)?,
            channel_len: Tensor::new(allocator, shapes.lengths())?,
        };
        caches.clear()?;
        Ok(caches)
    }

    fn values(&mut self) -> ort::Result<CacheValues<'_>> {
        Ok(CacheValues {
            channel: self.channel.try_extract_tensor_mut::<f32>()?.1,
            time: self.time.try_extract_tensor_mut::<f32>()?.1,
            channel_len: self.channel_len.try_extract_tensor_mut::<i64>()?.1,
        })
    }

    fn clear(&mut self) -> ort::Result<()> {
        self.values().map(|mut values| values.clear())
    }
}

struct OrtStream {
    turn: Arc<Mutex<Turn>>,
    names: Arc<Names>,
    /// Bins and frames of a window.
    window: [usize; 2],
    signal: Tensor<f32>,
    log_probs: Tensor<f32>,
    caches: Caches,
    /// All but the caches is bound once.
    binding: IoBinding,
}

impl OrtStream {
    fn run(&mut self, windows: &[f32]) -> ort::Result<&[f32]> {
        let (_, signal) = self.signal.try_extract_tensor_mut::<f32>()?;
        transpose(windows, self.window, signal);
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Turn { graph, spare } = &mut *turn;
        let [.., channel, time, channel_len] = &self.names.inputs;
        self.binding.bind_input(channel, &self.caches.channel)?;
        self.binding.bind_input(time, &self.caches.time)?;
        self.binding
            .bind_input(channel_len, &self.caches.channel_len)?;
        let [.., channel, time, channel_len] = &self.names.outputs;
        self.binding.bind_output(channel, &mut spare.channel)?;
        self.binding.bind_output(time, &mut spare.time)?;
        self.binding
            .bind_output(channel_len, &mut spare.channel_len)?;
        graph.run_binding(&self.binding)?;
        std::mem::swap(&mut self.caches, spare);
        drop(turn);
        Ok(self.log_probs.try_extract_tensor::<f32>()?.1)
    }
}

impl CachedSession for OrtStream {
    fn caches(&mut self) -> Result<CacheValues<'_>, EngineError> {
        self.caches.values().map_err(|error| run_error(&error))
    }
}

impl Session for OrtStream {
    fn step(&mut self, window: &[f32]) -> Result<&[f32], EngineError> {
        self.run(window).map_err(|error| run_error(&error))
    }

    fn reset(&mut self) {
        if let Err(error) = self.caches.clear() {
            tracing::error!("engine ort: caches could not be cleared: {error}");
        }
    }
}

fn run_error(error: &ort::Error) -> EngineError {
    EngineError::Run {
        engine: NAME,
        reason: error.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn streams_that_begin_together_share_nothing_as_long_as_there_is_enough() {
        for _ in 0..50 {
            let shared = Shared::new((0..4).map(Arc::new).collect());
            let begin = Barrier::new(4);
            let mut taken: Vec<Arc<usize>> = thread::scope(|scope| {
                let streams: Vec<_> = (0..4)
                    .map(|_| {
                        scope.spawn(|| {
                            begin.wait();
                            shared.least_shared()
                        })
                    })
                    .collect();
                let taken = streams.into_iter().map(|stream| stream.join().unwrap());
                taken.collect()
            });
            taken.sort();
            assert_eq!(taken, [0, 1, 2, 3].map(Arc::new));
        }
    }
}
