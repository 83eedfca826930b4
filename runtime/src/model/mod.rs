//! A model package: a directory (or three pieces of memory) that holds one streaming recogniser.
//!
//! ```text
//! model.onnx  model.int8.onnx  (model.batch8.onnx)  tokens.txt  config.json  README.md  (lm.lm)
//! ```
//!
//! [`Package`] reads and validates all of it before any engine sees it: `config.json` field by
//! field, `tokens.txt` line by line, and the inputs, outputs and metadata of the ONNX graph against
//! both; a language model, if `config.json` names one. Whatever is wrong is a [`PackageError`] that
//! names the file, the field, what was expected and what was found.

mod checksum;
mod config;
mod error;
mod external;
mod graph;
#[cfg(any(feature = "ort", feature = "ort-download", feature = "tract"))]
mod outline;
mod package;
mod tokens;
mod wire;

pub use checksum::sha256;
pub use config::{
    BatchedGraph, BundledLm, Calibration, Config, Features, Geometry, GraphFile, Graphs,
    Measurement, Streaming, TokenFacts,
};
pub use error::PackageError;
pub use graph::{CONTRACT_INPUTS, CONTRACT_OUTPUTS};
#[cfg(any(feature = "ort", feature = "ort-download", feature = "tract"))]
pub(crate) use package::Graph;
#[cfg(feature = "tract")]
pub(crate) use package::GraphBytes;
pub use package::{GraphSource, Package, Precision};
pub use tokens::{TokenId, Tokens, WORD_START};
