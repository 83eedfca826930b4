//! What a run's trained model heard of test sets, kept beside the run so that nothing is heard twice.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::Chunk;
use crate::evaluate::Row;
use crate::whole_file;

/// The file in a run's folder.
const FILE: &str = "scores.json";

/// Changes when older files can no longer be understood.
const FORMAT: u32 = 1;

/// What a score depends on, besides the chunk size. Batches are not part of it: they change nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// The [`fingerprint`] of the trained model's file.
    pub model: String,
    /// The manifest of the test set, as it was named.
    pub manifest: PathBuf,
    /// The manifest's [`fingerprint`].
    pub contents: String,
    /// Left context of a chunk, in milliseconds.
    pub left_ms: u32,
    /// Longer utterances were left out, in seconds.
    pub longest: f64,
    /// Only so many of the manifest's first utterances were heard.
    pub limit: Option<usize>,
    /// The teacher, as it was named; spikes were compared with its own if its tokens are the model's.
    pub teacher: Option<String>,
    /// What tells it from another under the same name ([`contents`](crate::trainer::contents)), if that is known.
    #[serde(default)]
    pub teacher_contents: Option<String>,
}

/// A test set heard with one chunk size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// What it depends on.
    pub conditions: Conditions,
    /// Errors, spikes and hidden vectors.
    pub row: Row,
    /// Lines of the manifest that say nothing.
    pub bad_lines: usize,
    /// Parameters of the model.
    pub parameters: i64,
    /// When it was heard, in UTC (RFC 3339).
    pub date: String,
    /// The git commit of the folder that it was heard in, `-dirty` behind it if there were changes.
    pub commit: Option<String>,
}

/// All scores of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    path: PathBuf,
    scores: Vec<Score>,
}

#[derive(Serialize, Deserialize)]
struct Stored<S> {
    format: u32,
    scores: S,
}

impl Scores {
    /// Reads the scores in a run's folder; none are there yet if there is no such file. A file that
    /// cannot be understood is told of, and as good as none: all of it can be heard again.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(run: &Path) -> io::Result<Self> {
        let path = run.join(FILE);
        let scores = match fs::read(&path) {
            Ok(json) => parse(&json).unwrap_or_else(|reason| {
                tracing::warn!("{}: {reason}; hearing all of it again", path.display());
                Vec::new()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { path, scores })
    }

    /// The score of a chunk size, if it is known.
    #[must_use]
    pub fn get(&self, conditions: &Conditions, chunk_ms: Chunk) -> Option<&Score> {
        let mut scores = self.scores.iter();
        scores.find(|score| score.conditions == *conditions && score.row.chunk_ms == chunk_ms)
    }

    /// Adds scores of the model as it is now, and writes the file. Those of an earlier model are
    /// dropped.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn add(&mut self, model: &str, scores: impl IntoIterator<Item = Score>) -> io::Result<()> {
        self.scores.retain(|score| score.conditions.model == model);
        self.scores.extend(scores);
        let json = serde_json::to_string_pretty(&Stored {
            format: FORMAT,
            scores: &self.scores,
        })?;
        whole_file::write(&self.path, |part| fs::write(part, json))
    }
}

fn parse(json: &[u8]) -> Result<Vec<Score>, String> {
    let stored: Stored<serde_json::Value> =
        serde_json::from_slice(json).map_err(|error| error.to_string())?;
    if stored.format != FORMAT {
        return Err(format!("expected format {FORMAT}, found {}", stored.format));
    }
    serde_json::from_value(stored.scores).map_err(|error| error.to_string())
}

/// Tells one content of a file from another: its CRC-32C and its length. It is no protection against
/// who wants to deceive.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> String {
    format!("{:08x}-{}", crc32c::crc32c(bytes), bytes.len())
}
