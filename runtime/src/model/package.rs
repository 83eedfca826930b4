use std::fs::File;
use std::io::{self, Read};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use super::graph::{self, Signature};
#[cfg(any(feature = "ort", feature = "ort-download", feature = "tract"))]
use super::outline;
use super::{Config, PackageError, Tokens, checksum};
use crate::lm::{LanguageModel, LmError, LmOptions};
use crate::mapped;

/// Arithmetic of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 32-bit floats throughout.
    Fp32,
    /// Matrix products by weights in dynamically quantised 8-bit integers.
    Int8,
}

impl Precision {
    /// The name used in `config.json` and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Int8 => "int8",
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a graph's bytes are.
#[derive(Debug, Clone)]
pub enum GraphSource {
    /// A file of a package directory. Its bytes are not kept in memory.
    File(PathBuf),
    /// Bytes handed over by the caller, as from an Android asset.
    Memory(Arc<[u8]>),
}

/// A validated model package.
///
/// # Examples
/// ```no_run
/// let package = sori::model::Package::open("models/sori-en-5m")?;
/// println!("{}: {} tokens", package.config().name, package.tokens().len());
/// # Ok::<(), sori::model::PackageError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Package {
    path: PathBuf,
    config: Config,
    tokens: Tokens,
    fp32: Option<Graph>,
    int8: Option<Graph>,
    batched: Option<Graph>,
    language_model: Option<Arc<LanguageModel>>,
}

/// One validated graph of a package.
#[derive(Debug, Clone)]
#[cfg_attr(
    not(any(feature = "ort", feature = "ort-download")),
    allow(dead_code, reason = "only ort binds values by name")
)]
pub(crate) struct Graph {
    pub(crate) source: GraphSource,
    pub(crate) signature: Signature,
    /// Streams in one run.
    pub(crate) streams: usize,
    /// Named in errors.
    pub(crate) path: PathBuf,
    /// What `config.json` says of a file.
    sha256: Option<String>,
}

/// The bytes of a graph, in memory or as good as.
pub(crate) enum GraphBytes {
    Mapped(Mmap),
    Memory(Arc<[u8]>),
}

impl Deref for GraphBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(bytes) => bytes,
            Self::Memory(bytes) => bytes,
        }
    }
}

impl Graph {
    /// The bytes, once they have been found to be those that `config.json` means.
    pub(crate) fn bytes(&self) -> Result<GraphBytes, PackageError> {
        match &self.source {
            GraphSource::Memory(bytes) => Ok(GraphBytes::Memory(Arc::clone(bytes))),
            GraphSource::File(path) => {
                let bytes = map(path)?;
                checksum::check(&bytes, self.sha256.as_ref(), path)?;
                Ok(GraphBytes::Mapped(bytes))
            }
        }
    }

    /// `bytes` without the large tensors, which say instead where in the graph's file they are; and the directory of
    /// that file. `None` if the bytes are in no file, or in one whose place ONNX cannot say.
    #[cfg(any(feature = "ort", feature = "ort-download", feature = "tract"))]
    pub(crate) fn outline(&self, bytes: &[u8]) -> Option<(String, Vec<u8>)> {
        let GraphSource::File(path) = &self.source else {
            return None;
        };
        // Engines look into no file that a link leads to from elsewhere.
        let path = path.canonicalize().ok()?;
        let outline = outline::outline(bytes, path.file_name()?.to_str()?).ok()?;
        Some((path.parent()?.to_str()?.to_owned(), outline))
    }
}

/// Sizes past which a file is no sensible part of a package.
const MAX_CONFIG: u64 = 1 << 20;
const MAX_TOKENS: u64 = 4 << 20;
/// Protobuf's own limit.
const MAX_GRAPH: u64 = (1 << 31) - 1;

impl Package {
    /// Reads and validates the package in a directory: configuration, tokens, and what every graph says of itself.
    /// Files whose SHA-256 `config.json` tells are checked against it: a graph when an engine loads it, and all of
    /// them by [`verify`](Self::verify).
    ///
    /// # Errors
    /// A [`PackageError`] that names the file and the field at fault.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, PackageError> {
        let directory = directory.as_ref();
        match directory.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(PackageError::NotFound {
                    path: directory.to_owned(),
                });
            }
            Err(source) => {
                return Err(PackageError::Read {
                    path: directory.to_owned(),
                    source,
                });
            }
            Ok(metadata) if !metadata.is_dir() => {
                return Err(PackageError::NotADirectory {
                    path: directory.to_owned(),
                });
            }
            Ok(_) => {}
        }
        let config_path = directory.join("config.json");
        let config = Config::parse(&read(&config_path, MAX_CONFIG)?, &config_path)?;
        let tokens_path = directory.join(&config.tokens.file);
        let tokens = parse_tokens(&read(&tokens_path, MAX_TOKENS)?, &config, &tokens_path)?;
        let graph = |file: &str, sha256: &Option<String>, streams: usize| {
            let path = directory.join(file);
            let signature = graph::check(&map(&path)?, &config, streams, &path)?;
            Ok(Graph {
                source: GraphSource::File(path.clone()),
                signature,
                streams,
                path,
                sha256: sha256.clone(),
            })
        };
        let single = |file: &Option<super::GraphFile>| {
            let file = file.as_ref();
            file.map(|file| graph(&file.file, &file.sha256, 1))
                .transpose()
        };
        let (fp32, int8) = (single(&config.graphs.fp32)?, single(&config.graphs.int8)?);
        let batched = config.batched.as_ref();
        let batched = batched
            .map(|batched| graph(&batched.file, &batched.sha256, batched.streams))
            .transpose()?;
        let language_model = match &config.language_model {
            Some(lm) => {
                let path = directory.join(&lm.file);
                let model = open_language_model(&path)?;
                checksum::check(model.bytes(), lm.sha256.as_ref(), &path)?;
                Some(model)
            }
            None => None,
        };
        Ok(Self {
            path: directory.to_owned(),
            config,
            tokens,
            fp32,
            int8,
            batched,
            language_model,
        })
    }

    /// Checks the SHA-256 of every graph that `config.json` tells it of.
    ///
    /// # Errors
    /// [`PackageError::Checksum`] for a file that is another one or damaged.
    pub fn verify(&self) -> Result<(), PackageError> {
        [&self.fp32, &self.int8, &self.batched]
            .into_iter()
            .flatten()
            .try_for_each(|graph| graph.bytes().map(drop))
    }

    /// Builds a package from memory, for callers whose model is not on a file system (an app's
    /// assets, an embedded image). `graph` is used for the precision given with it, and the
    /// package then has that one only, and none for several streams at once. A language model is not looked for:
    /// [`with_language_model`](Self::with_language_model) adds it.
    ///
    /// # Errors
    /// A [`PackageError`] whose path is a file name of the package.
    pub fn from_memory(
        config: &[u8],
        tokens: &[u8],
        precision: Precision,
        graph: Arc<[u8]>,
    ) -> Result<Self, PackageError> {
        let config = Config::parse(config, Path::new("config.json"))?;
        let tokens = parse_tokens(tokens, &config, Path::new(&config.tokens.file))?;
        let path = PathBuf::from(match precision {
            Precision::Fp32 => "model.onnx",
            Precision::Int8 => "model.int8.onnx",
        });
        let file = match precision {
            Precision::Fp32 => &config.graphs.fp32,
            Precision::Int8 => &config.graphs.int8,
        };
        let expected = file.as_ref().and_then(|file| file.sha256.as_ref());
        checksum::check(&graph, expected, &path)?;
        let signature = graph::check(&graph, &config, 1, &path)?;
        let graph = Some(Graph {
            source: GraphSource::Memory(graph),
            signature,
            streams: 1,
            path,
            sha256: None,
        });
        let (fp32, int8) = match precision {
            Precision::Fp32 => (graph, None),
            Precision::Int8 => (None, graph),
        };
        Ok(Self {
            path: PathBuf::from("<memory>"),
            config,
            tokens,
            fp32,
            int8,
            batched: None,
            language_model: None,
        })
    }

    /// Gives the package a language model in place of any that it brought along. What suits it is in
    /// `config.json`, or else [`LmOptions::default`].
    #[must_use]
    pub fn with_language_model(mut self, model: Arc<LanguageModel>) -> Self {
        self.language_model = Some(model);
        self
    }

    /// Drops the graphs whose bytes are in memory: what remains names none of them.
    pub(crate) fn forget_graphs_in_memory(&mut self) {
        for slot in [&mut self.fp32, &mut self.int8] {
            slot.take_if(|graph| matches!(graph.source, GraphSource::Memory(_)));
        }
    }

    /// The directory, or `<memory>`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The validated configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The token inventory.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The language model that the package brings along, and what suits it.
    #[must_use]
    pub fn language_model(&self) -> Option<(&Arc<LanguageModel>, LmOptions)> {
        let facts = self.config.language_model.as_ref();
        let suits = facts.map_or_else(LmOptions::default, super::BundledLm::options);
        Some((self.language_model.as_ref()?, suits))
    }

    /// The precisions there is a graph for.
    pub fn precisions(&self) -> impl Iterator<Item = Precision> + '_ {
        [(Precision::Fp32, &self.fp32), (Precision::Int8, &self.int8)]
            .into_iter()
            .filter_map(|(precision, graph)| graph.is_some().then_some(precision))
    }

    /// Where the graph of a precision is, if the package has it.
    #[must_use]
    pub fn source(&self, precision: Precision) -> Option<&GraphSource> {
        self.slot(precision).as_ref().map(|graph| &graph.source)
    }

    /// Streams in one run of the package's batched graph, if it has one; its arithmetic is
    /// [`Fp32`](Precision::Fp32).
    #[must_use]
    pub fn batched(&self) -> Option<usize> {
        self.batched.as_ref().map(|graph| graph.streams)
    }

    /// The graph for several streams at once, if it computes with this precision.
    #[cfg(any(feature = "ort", feature = "ort-download", feature = "tract"))]
    pub(crate) fn batched_graph(&self, precision: Precision) -> Option<&Graph> {
        self.batched
            .as_ref()
            .filter(|_| precision == Precision::Fp32)
    }

    #[cfg_attr(
        not(any(feature = "ort", feature = "ort-download", feature = "tract")),
        allow(dead_code, reason = "only an engine reads it")
    )]
    pub(crate) fn graph(&self, precision: Precision) -> Result<&Graph, PackageError> {
        self.slot(precision)
            .as_ref()
            .ok_or_else(|| PackageError::NoPrecision {
                path: self.path.clone(),
                asked: precision.name(),
                available: self
                    .precisions()
                    .map(Precision::name)
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }

    fn slot(&self, precision: Precision) -> &Option<Graph> {
        match precision {
            Precision::Fp32 => &self.fp32,
            Precision::Int8 => &self.int8,
        }
    }
}

fn open_language_model(path: &Path) -> Result<Arc<LanguageModel>, PackageError> {
    match LanguageModel::open(path) {
        Ok(model) => Ok(Arc::new(model)),
        Err(LmError::Read { path, reason }) if reason.kind() == io::ErrorKind::NotFound => {
            Err(PackageError::MissingFile { path })
        }
        Err(error) => Err(PackageError::LanguageModel(error)),
    }
}

fn parse_tokens(bytes: &[u8], config: &Config, path: &Path) -> Result<Tokens, PackageError> {
    checksum::check(bytes, config.tokens.sha256.as_ref(), path)?;
    let text = std::str::from_utf8(bytes).map_err(|error| PackageError::Token {
        path: path.to_owned(),
        line: bytes[..error.valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1,
        reason: "not UTF-8 text".to_owned(),
    })?;
    let tokens = Tokens::parse(text, path)?;
    if tokens.len() == config.tokens.count {
        return Ok(tokens);
    }
    Err(PackageError::Field {
        path: path.to_owned(),
        field: "number of tokens".to_owned(),
        expected: format!("{}, as config.json says", config.tokens.count),
        found: tokens.len().to_string(),
    })
}

/// Maps the file of a graph, unless it is larger than a graph can be.
fn map(path: &Path) -> Result<Mmap, PackageError> {
    let bytes = mapped::map(path).map_err(|source| cannot_read(path, source))?;
    within(path, bytes.len() as u64, MAX_GRAPH)?;
    Ok(bytes)
}

/// Reads a file whole, unless it is larger than `limit` bytes.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>, PackageError> {
    let error = |source| cannot_read(path, source);
    let file = File::open(path).map_err(error)?;
    within(path, file.metadata().map_err(error)?.len(), limit)?;
    let mut bytes = Vec::new();
    // The size that the system gives is only a hint for special files: bound the reading itself.
    file.take(limit).read_to_end(&mut bytes).map_err(error)?;
    Ok(bytes)
}

fn cannot_read(path: &Path, source: io::Error) -> PackageError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => PackageError::MissingFile { path },
        _ => PackageError::Read { path, source },
    }
}

fn within(path: &Path, found: u64, limit: u64) -> Result<(), PackageError> {
    if found <= limit {
        return Ok(());
    }
    Err(PackageError::TooLarge {
        path: path.to_owned(),
        found,
        limit,
    })
}
