//! Runs the streaming graph of a package: one window of log-mel frames in, log-probabilities out.
//!
//! Two engines read the same package. `ort` (cargo feature `ort`) is ONNX Runtime, loaded from a
//! shared library found at run time; `tract` (cargo feature `tract`) is pure Rust and always there.
//! [`load`] picks one; nothing outside this module names either.
//!
//! An [`Engine`] is the loaded graph, shared by all streams. Each stream has its own [`Session`],
//! which owns the stream's caches: they are handed from step to step inside the engine and never
//! copied out. Only where streams wait for one another anyway, and the package has a graph for several of them, are they
//! gathered for one run ([`EngineOptions::batch`]).

#[cfg(any(feature = "ort", feature = "ort-download", feature = "tract"))]
use std::any::Any;
use std::sync::Arc;

#[cfg(any(feature = "ort", feature = "ort-download", feature = "tract"))]
use crate::model::Graph;
use crate::model::{Package, PackageError, Precision};

#[cfg(any(feature = "ort", feature = "ort-download", feature = "tract"))]
mod batched;

#[cfg(any(feature = "ort", feature = "ort-download"))]
mod ort;
#[cfg(feature = "ort")]
mod ort_library;
#[cfg(feature = "tract")]
mod tract;

/// A loaded graph, shared by the streams that run it.
pub trait Engine: Send + Sync {
    /// Opens a stream: caches of zeros, as at the start of an utterance.
    ///
    /// # Errors
    /// [`EngineError::Run`] when the engine cannot allocate the caches.
    fn session(&self) -> Result<Box<dyn Session>, EngineError>;

    /// What runs the graph, for people: name, version, precision.
    fn description(&self) -> &str;

    /// How streams are computed together; `None` for an engine that never does.
    fn batching(&self) -> Option<Batching> {
        None
    }
}

/// How an engine computes streams together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    /// Streams that one run has room for.
    pub streams: usize,
    /// Steps so far that were computed together with others.
    pub steps: u64,
}

/// One stream's run through a graph, with its caches.
pub trait Session: Send {
    /// Runs one window of log-mel frames, row-major `(window_size, 80)`, and returns the
    /// log-probabilities of its output frames, row-major `(T', V)`.
    ///
    /// # Errors
    /// [`EngineError::Run`] when the engine fails; the caches are then in no defined state, and the
    /// stream must be [`reset`](Session::reset).
    fn step(&mut self, window: &[f32]) -> Result<&[f32], EngineError>;

    /// Forgets everything heard: caches of zeros again.
    fn reset(&mut self);
}

/// An engine that lets others at the caches of its streams. With a graph for N streams at once, a session of it is all N:
/// its windows are `(N, window_size, 80)`, its log-probabilities `(N, T', V)`, its caches those of N streams.
#[cfg(any(feature = "ort", feature = "ort-download", feature = "tract"))]
trait CachedEngine: Engine {
    /// As in errors.
    fn name(&self) -> &'static str;

    /// [`Engine::session`], as what it is.
    fn open(&self) -> Result<Box<dyn CachedSession>, EngineError>;
}

#[cfg(any(feature = "ort", feature = "ort-download", feature = "tract"))]
trait CachedSession: Session {
    /// What the next step will read. Fails after a step that failed.
    fn caches(&mut self) -> Result<CacheValues<'_>, EngineError>;
}

/// The caches of a stream, or of several, one behind the other.
#[cfg(any(feature = "ort", feature = "ort-download", feature = "tract"))]
struct CacheValues<'a> {
    channel: &'a mut [f32],
    time: &'a mut [f32],
    /// A number for each stream.
    channel_len: &'a mut [i64],
}

#[cfg(any(feature = "ort", feature = "ort-download", feature = "tract"))]
impl CacheValues<'_> {
    /// As if nothing had been heard.
    fn clear(&mut self) {
        self.channel.fill(0.0);
        self.time.fill(0.0);
        self.channel_len.fill(0);
    }
}

/// Which engine to run a package on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineChoice {
    /// The faster one that can be used: `tract` on x86-64 with AVX2 and neither AVX-512 nor VNNI; elsewhere `ort` when a
    /// fitting ONNX Runtime library is found, else `tract`.
    #[default]
    Auto,
    /// ONNX Runtime.
    Ort,
    /// tract.
    Tract,
}

/// Which graph of a package to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PrecisionChoice {
    /// The faster one on the engine that runs: int8 on `ort`, and on `tract` where the processor is
    /// x86-64 with AVX2, else fp32; whichever there is when the package has only one.
    #[default]
    Auto,
    /// This one or none.
    Exactly(Precision),
}

/// How to run a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineOptions {
    /// Which engine.
    pub engine: EngineChoice,
    /// Which graph.
    pub precision: PrecisionChoice,
    /// Threads for one step on `ort`, at least 1. The steps of a small streaming model are too short to
    /// gain from more than one; `tract` takes one in any case.
    pub threads: usize,
    /// Streams that may be in a step at the same time, at least 1; more of them take turns. On `ort` each costs
    /// the engine's copy of the weights; on `tract` all may be, whatever is asked for, unless they are batched.
    pub parallel: usize,
    /// Whether streams that wait for their turn are computed together, where the package has a graph for that in the
    /// precision that runs: [`Package::batched`]. Nobody waits for company, so a stream that is alone is as fast as
    /// without; many that are late cost less each. On `ort` that graph's weights are held as often as the other's.
    pub batch: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            engine: EngineChoice::Auto,
            precision: PrecisionChoice::Auto,
            threads: 1,
            parallel: 1,
            batch: false,
        }
    }
}

/// Why a package cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The package lacks what the options ask for.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The engine was left out when this program was built. Build with the cargo feature of that
    /// name, or choose the other engine.
    #[error(
        "engine {name}: not part of this build; build with the cargo feature \"{name}\" or choose another engine"
    )]
    NotBuilt {
        /// The engine asked for.
        name: &'static str,
    },
    /// No usable ONNX Runtime library. Install one, point `ORT_DYLIB_PATH` at it, or choose tract.
    #[error(
        "engine ort: no usable ONNX Runtime library ({tried}); set ORT_DYLIB_PATH to libonnxruntime, 1.{minimum} or newer, or choose engine tract"
    )]
    NoLibrary {
        /// Each place that was looked at and what was wrong there.
        tried: String,
        /// The oldest minor version of ONNX Runtime 1 that fits.
        minimum: u32,
    },
    /// The engine refused the graph: it is damaged, or uses an operator that the engine lacks.
    /// Try the other engine; if both refuse it, export the model again.
    #[error("{path}: engine {engine} cannot load the graph: {reason}")]
    Load {
        /// The engine.
        engine: &'static str,
        /// The graph.
        path: String,
        /// What the engine said.
        reason: String,
    },
    /// A step failed. With a validated package this is a fault of the engine or a lack of memory.
    #[error("engine {engine}: a step failed: {reason}")]
    Run {
        /// The engine.
        engine: &'static str,
        /// What the engine said.
        reason: String,
    },
}

/// Loads the graph of `package` that `options` ask for into the engine they ask for.
///
/// # Errors
/// An [`EngineError`]: the engine is not part of the build, finds no library, or refuses the graph;
/// the package has no graph of that precision.
pub fn load(package: &Package, options: EngineOptions) -> Result<Arc<dyn Engine>, EngineError> {
    match options.engine {
        EngineChoice::Ort => load_ort(package, options),
        EngineChoice::Tract => load_tract(package, options),
        EngineChoice::Auto if is_faster_on_tract() => {
            tracing::info!("engine tract, the faster one on this processor");
            load_either([TRACT, ORT], package, options)
        }
        EngineChoice::Auto => load_either([ORT, TRACT], package, options),
    }
}

/// An engine's name and what loads it.
type Loader = (
    &'static str,
    fn(&Package, EngineOptions) -> Result<Arc<dyn Engine>, EngineError>,
);

const ORT: Loader = ("ort", load_ort);
const TRACT: Loader = ("tract", load_tract);

/// An engine, or another where it is not there or refuses the graph; the first one's error if neither can be used.
fn load_either(
    [(name, load), (other_name, load_other)]: [Loader; 2],
    package: &Package,
    options: EngineOptions,
) -> Result<Arc<dyn Engine>, EngineError> {
    let is_unfit = |error: &EngineError| {
        matches!(
            error,
            EngineError::NotBuilt { .. } | EngineError::NoLibrary { .. } | EngineError::Load { .. }
        )
    };
    load(package, options).or_else(|error| {
        if !is_unfit(&error) {
            return Err(error);
        }
        match load_other(package, options) {
            // That one is not there is less than what is wrong with the graph.
            Err(EngineError::NotBuilt { .. } | EngineError::NoLibrary { .. }) => Err(error),
            Err(EngineError::Load { .. }) if matches!(error, EngineError::Load { .. }) => {
                Err(error)
            }
            other => {
                tracing::info!("engine {other_name}, because {name} cannot be used: {error}");
                other
            }
        }
    })
}

/// The precisions in the order in which [`PrecisionChoice::Auto`] takes them on an engine: the first that a package has. For
/// callers who fetch a graph before there is a package, so that they fetch no other.
#[must_use]
pub fn preferred_precisions(engine: EngineChoice) -> [Precision; 2] {
    let is_ort = match engine {
        EngineChoice::Ort => true,
        EngineChoice::Tract => false,
        EngineChoice::Auto => !is_faster_on_tract() && has_ort(),
    };
    if is_ort || is_fast_on_int8() {
        [Precision::Int8, Precision::Fp32]
    } else {
        [Precision::Fp32, Precision::Int8]
    }
}

/// Whether a chunk costs less on tract than on ONNX Runtime, as far as that has been measured: docs/performance.md.
fn is_faster_on_tract() -> bool {
    #[cfg(feature = "tract")]
    return tract::is_faster_than_ort();
    #[cfg(not(feature = "tract"))]
    false
}

/// Whether tract gains by int8 on this processor.
fn is_fast_on_int8() -> bool {
    #[cfg(feature = "tract")]
    return tract::is_fast_on_int8();
    #[cfg(not(feature = "tract"))]
    false
}

/// Whether ONNX Runtime can be used.
fn has_ort() -> bool {
    #[cfg(any(feature = "ort", feature = "ort-download"))]
    return ort::environment().is_ok();
    #[cfg(not(any(feature = "ort", feature = "ort-download")))]
    false
}

#[cfg(any(feature = "ort", feature = "ort-download"))]
fn load_ort(package: &Package, options: EngineOptions) -> Result<Arc<dyn Engine>, EngineError> {
    let preferred = preferred_precisions(EngineChoice::Ort);
    let precision = choose(package, options.precision, preferred)?;
    contained("ort", package, || {
        assemble(package, precision, options, |graph| {
            ort::load(package.config(), graph, precision, options)
        })
    })
}

#[cfg(not(any(feature = "ort", feature = "ort-download")))]
fn load_ort(_: &Package, _: EngineOptions) -> Result<Arc<dyn Engine>, EngineError> {
    Err(EngineError::NotBuilt { name: "ort" })
}

#[cfg(feature = "tract")]
fn load_tract(package: &Package, options: EngineOptions) -> Result<Arc<dyn Engine>, EngineError> {
    let preferred = preferred_precisions(EngineChoice::Tract);
    let precision = choose(package, options.precision, preferred)?;
    if options.threads > 1 {
        tracing::warn!("tract takes one thread for a step, not {}", options.threads);
    }
    contained("tract", package, || {
        assemble(package, precision, options, |graph| {
            tract::load(package.config(), graph, precision)
        })
    })
}

#[cfg(not(feature = "tract"))]
fn load_tract(_: &Package, _: EngineOptions) -> Result<Arc<dyn Engine>, EngineError> {
    Err(EngineError::NotBuilt { name: "tract" })
}

#[cfg(any(feature = "ort", feature = "ort-download", feature = "tract"))]
fn choose(
    package: &Package,
    choice: PrecisionChoice,
    preferred: [Precision; 2],
) -> Result<Precision, PackageError> {
    let precision = match choice {
        PrecisionChoice::Exactly(precision) => precision,
        PrecisionChoice::Auto => preferred
            .into_iter()
            .find(|one| package.source(*one).is_some())
            .unwrap_or(preferred[0]),
    };
    package.graph(precision).map(|_| precision)
}

/// Loads the graph of a precision, and with it the one for several streams where that is wanted and there.
#[cfg(any(feature = "ort", feature = "ort-download", feature = "tract"))]
fn assemble(
    package: &Package,
    precision: Precision,
    options: EngineOptions,
    load: impl Fn(&Graph) -> Result<Arc<dyn CachedEngine>, EngineError>,
) -> Result<Arc<dyn Engine>, EngineError> {
    let alone = load(package.graph(precision)?)?;
    let several = package.batched_graph(precision);
    let Some(graph) = several.filter(|_| options.batch) else {
        return Ok(alone);
    };
    batched::together(alone, &*load(graph)?, package.config(), options.parallel)
}

/// Runs a loader that hands a graph from outside to a third-party parser: a panic in there is the
/// graph's fault and becomes an error like any other.
#[cfg(any(feature = "ort", feature = "ort-download", feature = "tract"))]
fn contained(
    engine: &'static str,
    package: &Package,
    load: impl FnOnce() -> Result<Arc<dyn Engine>, EngineError>,
) -> Result<Arc<dyn Engine>, EngineError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(load)).unwrap_or_else(|panic| {
        Err(EngineError::Load {
            engine,
            path: package.path().display().to_string(),
            reason: said(&*panic),
        })
    })
}

#[cfg(all(test, feature = "tract"))]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_refuses_a_graph_leaves_it_to_the_other() {
        let refuse: Loader = ("refusing", |_, _| {
            Err(EngineError::Load {
                engine: "refusing",
                path: "model.onnx".into(),
                reason: "too new".into(),
            })
        });
        let absent: Loader = ("absent", |_, _| {
            Err(EngineError::NotBuilt { name: "absent" })
        });
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/tone");
        let package = Package::open(directory).expect("the tone package");
        let load = |loaders| load_either(loaders, &package, EngineOptions::default());
        assert!(load([refuse, TRACT]).is_ok());
        assert!(load([absent, TRACT]).is_ok());
        for both in [[refuse, refuse], [refuse, absent], [absent, refuse]] {
            let told = load(both).err().map(|error| error.to_string());
            assert!(told.is_some_and(|told| told.contains("too new")));
        }
    }
}

/// What a panic said.
#[cfg(any(feature = "ort", feature = "ort-download", feature = "tract"))]
fn said(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_else(|| "it stopped without a reason".to_owned())
}

/// Writes row-major `(frames, bins)` of one stream or several into `out` as `(bins, frames)`, the layout of
/// `audio_signal`.
#[cfg(any(feature = "ort", feature = "ort-download", feature = "tract"))]
fn transpose(windows: &[f32], [bins, frames]: [usize; 2], out: &mut [f32]) {
    let size = bins * frames;
    for (window, out) in windows.chunks_exact(size).zip(out.chunks_exact_mut(size)) {
        for (frame, row) in window.chunks_exact(bins).enumerate() {
            for (bin, value) in row.iter().enumerate() {
                out[bin * frames + frame] = *value;
            }
        }
    }
}
