use std::io;
use std::path::PathBuf;

use crate::lm::LmError;

/// Why a model package cannot be used.
///
/// Packages come from anywhere, so every variant is written for somebody who did not make the
/// package: the message names the file and the field, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// The path given as a package does not exist. Check the spelling of the path.
    #[error("{path}: no such model package; give the directory that holds config.json")]
    NotFound {
        /// The path that was given.
        path: PathBuf,
    },
    /// The path exists but is a file. Give the directory, not one of the files in it.
    #[error(
        "{path}: a model package is a directory, this is a file; give the directory that holds config.json"
    )]
    NotADirectory {
        /// The path that was given.
        path: PathBuf,
    },
    /// A file that every package has is missing. The copy is incomplete, or it is no package.
    #[error("{path}: missing from the model package; copy the package again, whole")]
    MissingFile {
        /// The file that should be there.
        path: PathBuf,
    },
    /// The system refused to read a file. The cause says why (permissions, a broken disk).
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is larger than any sensible package has it, and was not read.
    #[error("{path}: {found} bytes, more than the {limit} bytes allowed for this file")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The largest size that is read.
        limit: u64,
    },
    /// `config.json` is not JSON, or a field is missing or of the wrong type.
    #[error("{path}: {field}: {reason}")]
    Json {
        /// The file.
        path: PathBuf,
        /// The field, as a path from the top (`geometry.window_size`), or `line L, column C`.
        field: String,
        /// What the parser found and what it expected.
        reason: String,
    },
    /// The package was written for another version of this library. Update the library, or export
    /// the model again.
    #[error(
        "{path}: format: package format {found}, this version of sori reads format {expected}; update sori or export the model again"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u64,
        /// The version this library reads.
        expected: u64,
    },
    /// A field has a value that the recogniser cannot work with, or two places disagree.
    #[error("{path}: {field}: expected {expected}, found {found}")]
    Field {
        /// The file.
        path: PathBuf,
        /// The field in it: a JSON path, a graph input or output, or a metadata key.
        field: String,
        /// What would have been right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A file is not the one that `config.json` was written for: it was damaged on its way, or replaced.
    #[error(
        "{path}: damaged or replaced: its SHA-256 is {found}, config.json says {expected}; copy the package again, whole"
    )]
    Checksum {
        /// The file.
        path: PathBuf,
        /// What `config.json` says.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// A line of `tokens.txt` is not `symbol id`, or its id is out of order.
    #[error("{path}:{line}: {reason}")]
    Token {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The ONNX file does not decode: truncated, or not ONNX at all.
    #[error("{path}: not a complete ONNX model ({reason}); copy the package again")]
    Onnx {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        reason: String,
    },
    /// The language model in the package cannot be used.
    #[error(transparent)]
    LanguageModel(LmError),
    /// The package has no graph of the precision that was asked for.
    #[error(
        "{path}: no {asked} graph in this package (it has {available}); choose another precision"
    )]
    NoPrecision {
        /// The package.
        path: PathBuf,
        /// The precision asked for.
        asked: &'static str,
        /// Those the package has.
        available: String,
    },
}
