//! The package on disk: graphs, tokens, configuration and model card, all or nothing.

mod card;
mod describe;
mod options;

use std::fs;
use std::path::Path;

use prost::Message;
use serde_json::Value;
use sori::features::LogMel;
use sori::model::{Package, Tokens};
use tract_onnx::pb::{GraphProto, ModelProto, OperatorSetIdProto};

use crate::checkpoint::Checkpoint;
use crate::graph::{self, Streaming};
use crate::verify::{self, Batched, Comparison, Signal, Tolerance};
use crate::{ExportError, dynamic_int8, f16_weights};
use describe::Description;
pub use options::{About, Options};

/// A package that was written and verified.
#[derive(Debug)]
#[non_exhaustive]
pub struct Exported {
    /// The package's graphs.
    pub graphs: Vec<WrittenGraph>,
    /// Trainable parameters of the model.
    pub parameters: i64,
    /// How the graphs compare to the trained model.
    pub comparisons: Vec<Comparison>,
}

/// A graph in the package.
#[derive(Debug)]
#[non_exhaustive]
pub struct WrittenGraph {
    /// File name in the package.
    pub file: String,
    /// Nodes in it.
    pub nodes: usize,
    /// Its size.
    pub bytes: u64,
}

/// File names in a package.
const TOKENS: &str = "tokens.txt";
const CONFIG: &str = "config.json";
const CARD: &str = "README.md";

/// Left context where neither the options nor the checkpoint say, ms.
const LEFT_MS: u32 = 5120;

/// Largest difference of a log-probability in float32.
const FLOAT: f64 = 1e-4;
/// Largest share of the probability that may move, on average over frames, where weights are
/// rounded to float16, and where products are quantised: 1.5e-3 to 6.2e-3 of it do in trained
/// students, 5.1e-2 where sums of products overflow.
const F16_WEIGHTS: f64 = 1e-3;
const INT8: f64 = 0.02;

/// Writes the package of a checkpoint as the directory `target`: its graphs are verified against
/// the trained model in both engines, and the directory appears whole or not at all.
///
/// # Errors
/// [`ExportError`]; nothing is left behind then.
pub fn export(
    checkpoint: &Path,
    target: &Path,
    options: &Options,
) -> Result<Exported, ExportError> {
    if target.symlink_metadata().is_ok() {
        return Err(ExportError::Exists {
            path: target.into(),
        });
    }
    let checkpoint = Checkpoint::open(checkpoint)?;
    let streaming = streaming(&checkpoint, options)?;
    let tokens = tokens(&checkpoint, options)?;

    let parent = target.parent().unwrap_or(Path::new(""));
    // Near the target, so that the last step is a rename within one file system.
    let near = parent
        .ancestors()
        .find(|folder| folder.is_dir())
        .unwrap_or(Path::new("."));
    let workplace = tempfile::Builder::new()
        .prefix(".sori-export-")
        .tempdir_in(near)
        .map_err(io(near))?;
    let directory = workplace.path().join("package");
    fs::create_dir(&directory).map_err(io(&directory))?;

    let name = target
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let mut training = checkpoint.facts();
    training.extend(options.about.training.clone());
    let draft = Draft {
        checkpoint: &checkpoint,
        options,
        description: Description {
            name: options.about.name.clone().or(name).unwrap_or_default(),
            about: &options.about,
            model: checkpoint.model.config(),
            streaming,
            training,
        },
    };
    let exported = draft.write(&directory, &tokens)?;
    fs::create_dir_all(parent).map_err(io(parent))?;
    fs::rename(&directory, target).map_err(io(target))?;
    Ok(exported)
}

/// How the model is to be run, if it was trained for that.
fn streaming(checkpoint: &Checkpoint, options: &Options) -> Result<Streaming, ExportError> {
    let path = || checkpoint.path.clone();
    let features = checkpoint.model.config().features;
    if features != LogMel::BINS as i64 {
        return Err(ExportError::Features {
            path: path(),
            found: features,
        });
    }
    if let Some(trained) = checkpoint.chunks_other_than(options.chunk_ms) {
        return Err(ExportError::Chunk {
            path: path(),
            trained,
            found: options.chunk_ms,
        });
    }
    let left_ms = options.left_ms.or(checkpoint.left_ms()).unwrap_or(LEFT_MS);
    Ok(Streaming::new(options.chunk_ms, left_ms)?)
}

/// The text of `tokens.txt`, which has as many tokens as the model.
fn tokens(checkpoint: &Checkpoint, options: &Options) -> Result<String, ExportError> {
    let (path, text) = match (&options.tokens, checkpoint.tokens()) {
        (None, Some(text)) => (checkpoint.path.clone(), text),
        (path, _) => {
            let path = path
                .clone()
                .unwrap_or_else(|| checkpoint.path.with_file_name(TOKENS));
            let text = fs::read_to_string(&path).map_err(io(&path))?;
            (path, text)
        }
    };
    let found = Tokens::parse(&text, &path)?.len() as i64;
    let expected = checkpoint.model.config().outputs();
    if found == expected {
        return Ok(text);
    }
    Err(ExportError::Tokens {
        path,
        expected,
        found,
    })
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> ExportError {
    let path = path.to_owned();
    move |reason| ExportError::Io {
        path: path.clone(),
        reason,
    }
}

/// A package in the making.
struct Draft<'a> {
    checkpoint: &'a Checkpoint,
    options: &'a Options,
    description: Description<'a>,
}

/// A graph of the package.
struct Graph {
    /// `fp32`, `int8` or `batched`.
    name: &'static str,
    file: String,
    streaming: Streaming,
    onnx: Vec<u8>,
    nodes: usize,
}

impl Draft<'_> {
    fn write(&self, directory: &Path, tokens: &str) -> Result<Exported, ExportError> {
        let put = |name: &str, bytes: &[u8]| {
            let path = directory.join(name);
            fs::write(&path, bytes).map_err(io(&path))
        };
        let graphs = self.graphs()?;
        for graph in &graphs {
            put(&graph.file, &graph.onnx)?;
        }
        put(TOKENS, tokens.as_bytes())?;
        let mut config = self.description.config(&graphs, tokens);
        put(CONFIG, text(&config).as_bytes())?;

        let comparisons = self.verify(&Package::open(directory)?, &graphs)?;
        config["verified"] = serde_json::to_value(&comparisons).unwrap_or_default();
        put(CONFIG, text(&config).as_bytes())?;
        let package = Package::open(directory)?;
        let graphs = graphs.iter().map(|graph| WrittenGraph {
            file: graph.file.clone(),
            nodes: graph.nodes,
            bytes: graph.onnx.len() as u64,
        });
        let exported = Exported {
            graphs: graphs.collect(),
            parameters: self.description.parameters(),
            comparisons,
        };
        put(CARD, card::write(package.config(), &exported).as_bytes())?;
        Ok(exported)
    }

    fn graphs(&self) -> Result<Vec<Graph>, ExportError> {
        let streaming = self.description.streaming;
        let float = self.build(streaming)?;
        let int8 = self.options.int8.then(|| dynamic_int8(&float));
        let mut graphs = vec![self.graph("fp32", "model.onnx".to_owned(), streaming, float)];
        if let Some(int8) = int8 {
            graphs.push(self.graph("int8", "model.int8.onnx".to_owned(), streaming, int8));
            if self.options.int8_only {
                graphs.remove(0);
            }
        }
        if let Some(batch) = self.options.batch {
            let streaming = streaming.batched(batch)?;
            let graph = self.build(streaming)?;
            graphs.push(self.graph(
                "batched",
                format!("model.batch{batch}.onnx"),
                streaming,
                graph,
            ));
        }
        Ok(graphs)
    }

    fn build(&self, streaming: Streaming) -> Result<GraphProto, ExportError> {
        let Checkpoint {
            path,
            model,
            weights,
            ..
        } = self.checkpoint;
        graph::build(model.config(), weights, streaming).map_err(|reason| ExportError::Graph {
            path: path.clone(),
            reason,
        })
    }

    fn graph(
        &self,
        name: &'static str,
        file: String,
        streaming: Streaming,
        graph: GraphProto,
    ) -> Graph {
        let graph = if self.options.f16_weights {
            f16_weights(&graph)
        } else {
            graph
        };
        let nodes = graph.node.len();
        let model = ModelProto {
            // The first version with this operator set.
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto {
                domain: String::new(),
                version: graph::OPSET,
            }],
            producer_name: env!("CARGO_PKG_NAME").to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            metadata_props: self.description.metadata(name),
            graph: Some(graph),
            ..ModelProto::default()
        };
        Graph {
            name,
            file,
            streaming,
            onnx: model.encode_to_vec(),
            nodes,
        }
    }

    fn verify(&self, package: &Package, graphs: &[Graph]) -> Result<Vec<Comparison>, ExportError> {
        let (model, streaming) = (&self.checkpoint.model, self.description.streaming);
        let speech = Signal::speech(self.options.speech.as_deref(), streaming)?;
        let signals = [speech, Signal::noise(streaming)];
        let mut comparisons = verify::compare_package(package, model, streaming, &signals)?;
        for graph in graphs.iter().filter(|graph| graph.name == "batched") {
            let batched = Batched::load(&graph.onnx, graph.streaming)?;
            for signal in &signals {
                comparisons.push(batched.compare(model, signal)?);
            }
        }
        for comparison in &comparisons {
            comparison.check(match comparison.graph {
                "int8" => Tolerance::Moved(INT8),
                _ if self.options.f16_weights => Tolerance::Moved(F16_WEIGHTS),
                _ => Tolerance::Largest(FLOAT),
            })?;
        }
        Ok(comparisons)
    }
}

/// The text of `config.json`.
fn text(config: &Value) -> String {
    format!("{config:#}\n")
}
