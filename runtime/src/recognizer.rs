use std::path::Path;
use std::sync::Arc;

use crate::decode::Fusion;
#[cfg(doc)]
use crate::engine::EngineOptions;
use crate::engine::{self, Batching, Engine};
use crate::error::Error;
use crate::model::Package;
use crate::options::Options;
use crate::stream::{Shared, Stream};

/// A loaded model. Cheap to clone; all clones and all their streams share one copy of the weights.
///
/// # Examples
/// ```no_run
/// use sori::{Event, Recognizer};
///
/// let recognizer = Recognizer::open("models/sori-en-5m")?;
/// let mut stream = recognizer.stream()?;
/// # let microphone: Vec<Vec<f32>> = vec![];
/// for samples in microphone {
///     for event in stream.accept(48_000, &samples)? {
///         match event {
///             Event::Partial(heard) => eprint!("\r{}", heard.text),
///             Event::Final(said) => println!("{:.2} {}", said.start, said.text),
///             _ => {}
///         }
///     }
/// }
/// for event in stream.finish()? {
///     if let Event::Final(said) = event {
///         println!("{:.2} {}", said.start, said.text);
///     }
/// }
/// # Ok::<(), sori::Error>(())
/// ```
#[derive(Clone)]
pub struct Recognizer {
    shared: Arc<Shared>,
}

impl Recognizer {
    /// Loads the model package in a directory with the default [`Options`].
    ///
    /// # Errors
    /// [`Error::Package`] when the package is not what it should be, [`Error::Engine`] when no
    /// engine can run it.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, Error> {
        Self::new(Package::open(directory)?, Options::default())
    }

    /// Loads a package that has been opened before. Graphs that it holds in memory are let go once the
    /// engine has read them.
    ///
    /// # Errors
    /// [`Error::Engine`] when no engine can run it.
    pub fn new(mut package: Package, options: Options) -> Result<Self, Error> {
        let engine = engine::load(&package, options.engine)?;
        package.forget_graphs_in_memory();
        tracing::info!("{}: {}", package.path().display(), engine.description());
        Ok(Self::with_engine(package, engine, options))
    }

    /// Runs a package on an engine of the caller's own (an NPU's, say). `options.engine` is unused.
    #[must_use]
    pub fn with_engine(package: Package, engine: Arc<dyn Engine>, options: Options) -> Self {
        let fusion = options
            .language_model
            .then(|| package.language_model())
            .flatten()
            .map(|(model, suits)| Arc::new(Fusion::new(model.clone(), suits, package.tokens())));
        Self {
            shared: Arc::new(Shared {
                package,
                engine,
                options,
                fusion,
            }),
        }
    }

    /// Opens a stream: one source of audio, from its first sample.
    ///
    /// # Errors
    /// [`Error::Engine`] when the engine cannot allocate the stream's caches.
    pub fn stream(&self) -> Result<Stream, Error> {
        Stream::open(Arc::clone(&self.shared))
    }

    /// The model's package.
    #[must_use]
    pub fn package(&self) -> &Package {
        &self.shared.package
    }

    /// What runs the model, for people: engine, library, precision, threads.
    #[must_use]
    pub fn engine(&self) -> &str {
        self.shared.engine.description()
    }

    /// How streams are computed together; `None` where none ever is. See [`EngineOptions::batch`].
    #[must_use]
    pub fn batching(&self) -> Option<Batching> {
        self.shared.engine.batching()
    }
}

impl Stream {
    /// The recognizer that this stream is of.
    #[must_use]
    pub fn recognizer(&self) -> Recognizer {
        Recognizer {
            shared: Arc::clone(&self.shared),
        }
    }
}
