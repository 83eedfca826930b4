use std::io;
use std::path::PathBuf;

/// Why a language model cannot be built or used.
///
/// The files come from anywhere: messages are written for somebody who did not make them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LmError {
    /// The system refused to read the file. Check path and permissions.
    #[error("{path}: cannot be read: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// A line of an ARPA file is not what its place asks for. Correct it, or make the file again with
    /// the tool that wrote it.
    #[error("{path}:{line}: {reason}")]
    Arpa {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// Expected and found.
        reason: String,
    },
    /// The file is something else. An ARPA file has to be converted first.
    #[error(
        "{path}: not a language model of sori; `sori lm build model.arpa -o model.lm` makes one of an ARPA file"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file was built by another version of this library. Build it again from its ARPA file.
    #[error(
        "{path}: language model format {found}, this version of sori reads format {expected}; build it again from its ARPA file"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
        /// The version this library reads.
        expected: u32,
    },
    /// The file is cut short or was changed. Copy it again, or build it again from its ARPA file.
    #[error("{path}: damaged language model: {reason}; copy or build it again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Expected and found.
        reason: String,
    },
}
