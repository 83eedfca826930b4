//! ONNX Runtime.
//!
//! Each stream binds two sets of cache tensors once. A step reads one set and writes the other;
//! the next step runs the mirrored binding. Nothing is copied or allocated on our side.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{IoBinding, Session as OrtSession};
use ort::value::Tensor;

use super::{Engine, EngineError, Session, transpose};
use crate::model::{Config, GraphSource, Package, Precision};

const NAME: &str = "ort";

struct OrtEngine {
    /// `Run` is not safe to call from two threads at once, so streams take turns.
    graph: Arc<Mutex<OrtSession>>,
    inputs: [String; 5],
    outputs: [String; 5],
    shapes: Shapes,
    description: String,
}

#[derive(Clone, Copy)]
struct Shapes {
    signal: [usize; 3],
    log_probs: [usize; 3],
    cache_last_channel: [usize; 4],
    cache_last_time: [usize; 4],
}

impl Shapes {
    fn new(config: &Config, frames: usize) -> Self {
        let [channel1, channel2, channel3] = config.geometry.cache_last_channel;
        let [time1, time2, time3] = config.geometry.cache_last_time;
        Self {
            signal: [1, config.features.mel_bins, config.geometry.window_size],
            log_probs: [1, frames, config.tokens.count],
            cache_last_channel: [1, channel1, channel2, channel3],
            cache_last_time: [1, time1, time2, time3],
        }
    }
}

pub(super) fn load(
    package: &Package,
    precision: Precision,
    threads: usize,
) -> Result<Arc<dyn Engine>, EngineError> {
    let graph = package.graph(precision)?;
    let environment = environment()?;
    let refuse = |error: &dyn std::fmt::Display| EngineError::Load {
        engine: NAME,
        path: graph.path.display().to_string(),
        reason: error.to_string(),
    };
    let mut builder = OrtSession::builder(environment)
        .map_err(|error| refuse(&error))?
        .with_optimization_level(GraphOptimizationLevel::All)
        .map_err(|error| refuse(&error))?
        .with_intra_threads(threads)
        .map_err(|error| refuse(&error))?
        // A chunk lasts a few milliseconds and comes a few times a second: a waiting thread that
        // spins would burn more than it computes.
        .with_intra_op_spinning(false)
        .map_err(|error| refuse(&error))?
        // Its errors come back as errors; it need not print them too.
        .with_log_level(LogLevel::Fatal)
        .map_err(|error| refuse(&error))?;
    let session = match &graph.source {
        GraphSource::File(path) => builder.commit_from_file(path),
        GraphSource::Memory(bytes) => builder.commit_from_memory(bytes),
    }
    .map_err(|error| refuse(&error))?;
    Ok(Arc::new(OrtEngine {
        graph: Arc::new(Mutex::new(session)),
        inputs: graph.signature.inputs.clone(),
        outputs: graph.signature.outputs.clone(),
        shapes: Shapes::new(package.config(), graph.signature.frames),
        description: format!("ort ({}), {precision}, {threads} thread(s)", library_name()),
    }))
}

/// The process's one ONNX Runtime environment. A failure is not remembered: the next load may find
/// `ORT_DYLIB_PATH` mended.
fn environment() -> Result<&'static Environment, EngineError> {
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
    log::info!("engine ort, from {}", path.display());
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
        self.open()
            .map(|session| Box::new(session) as Box<dyn Session>)
            .map_err(|error| run_error(&error))
    }

    fn description(&self) -> &str {
        &self.description
    }
}

impl OrtEngine {
    fn open(&self) -> ort::Result<OrtStream> {
        let graph = self.graph.lock().unwrap_or_else(PoisonError::into_inner);
        let allocator = graph.allocator();
        let Shapes {
            signal,
            log_probs,
            cache_last_channel,
            cache_last_time,
        } = self.shapes;
        let mut signal = Tensor::<f32>::new(allocator, signal)?;
        let mut length = Tensor::<i64>::new(allocator, [1_usize])?;
        let mut log_probs = Tensor::<f32>::new(allocator, log_probs)?;
        let mut encoded_lengths = Tensor::<i64>::new(allocator, [1_usize])?;
        signal.try_extract_tensor_mut::<f32>()?.1.fill(0.0);
        length
            .try_extract_tensor_mut::<i64>()?
            .1
            .fill(self.shapes.signal[2] as i64);

        let caches = || -> ort::Result<Caches> {
            let mut caches = Caches {
                channel: Tensor::new(allocator, cache_last_channel)?,
                time: Tensor::new(allocator, cache_last_time)?,
                channel_len: Tensor::new(allocator, [1_usize])?,
            };
            caches.clear()?;
            Ok(caches)
        };
        let mut caches = [caches()?, caches()?];
        let mut bind = |from: usize, to: usize| -> ort::Result<IoBinding> {
            let mut binding = graph.create_binding()?;
            let [audio_signal, length_name, channel, time, channel_len] = &self.inputs;
            binding.bind_input(audio_signal, &signal)?;
            binding.bind_input(length_name, &length)?;
            binding.bind_input(channel, &caches[from].channel)?;
            binding.bind_input(time, &caches[from].time)?;
            binding.bind_input(channel_len, &caches[from].channel_len)?;
            let [log_probs_name, lengths_name, channel, time, channel_len] = &self.outputs;
            binding.bind_output(log_probs_name, &mut log_probs)?;
            binding.bind_output(lengths_name, &mut encoded_lengths)?;
            binding.bind_output(channel, &mut caches[to].channel)?;
            binding.bind_output(time, &mut caches[to].time)?;
            binding.bind_output(channel_len, &mut caches[to].channel_len)?;
            Ok(binding)
        };
        let bindings = [bind(0, 1)?, bind(1, 0)?];
        drop(graph);
        Ok(OrtStream {
            graph: Arc::clone(&self.graph),
            frames: self.shapes.signal[2],
            signal,
            log_probs,
            caches,
            bindings,
            turn: 0,
        })
    }
}

struct Caches {
    channel: Tensor<f32>,
    time: Tensor<f32>,
    channel_len: Tensor<i64>,
}

impl Caches {
    fn clear(&mut self) -> ort::Result<()> {
        self.channel.try_extract_tensor_mut::<f32>()?.1.fill(0.0);
        self.time.try_extract_tensor_mut::<f32>()?.1.fill(0.0);
        self.channel_len.try_extract_tensor_mut::<i64>()?.1.fill(0);
        Ok(())
    }
}

struct OrtStream {
    graph: Arc<Mutex<OrtSession>>,
    /// Frames of a window.
    frames: usize,
    signal: Tensor<f32>,
    log_probs: Tensor<f32>,
    caches: [Caches; 2],
    /// `bindings[i]` reads `caches[i]` and writes the other.
    bindings: [IoBinding; 2],
    turn: usize,
}

impl Session for OrtStream {
    fn step(&mut self, window: &[f32]) -> Result<&[f32], EngineError> {
        let (_, signal) = self
            .signal
            .try_extract_tensor_mut::<f32>()
            .map_err(|error| run_error(&error))?;
        transpose(window, self.frames, signal);
        let mut graph = self.graph.lock().unwrap_or_else(PoisonError::into_inner);
        graph
            .run_binding(&self.bindings[self.turn])
            .map_err(|error| run_error(&error))?;
        drop(graph);
        self.turn ^= 1;
        let (_, log_probs) = self
            .log_probs
            .try_extract_tensor::<f32>()
            .map_err(|error| run_error(&error))?;
        Ok(log_probs)
    }

    fn reset(&mut self) {
        // The next step reads the set of this turn and overwrites the other.
        if let Err(error) = self.caches[self.turn].clear() {
            log::error!("engine ort: caches could not be cleared: {error}");
        }
    }
}

fn run_error(error: &ort::Error) -> EngineError {
    EngineError::Run {
        engine: NAME,
        reason: error.to_string(),
    }
}
