//! Where a trained model comes from: what its file says about itself.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::checkpoint::State;
use crate::config::{Chunk, Recipe};
use crate::data::Tokenizer;

/// The header's key.
pub(super) const PROVENANCE: &str = "provenance";

/// Most bytes of a file's header.
const HEADER_LIMIT: u64 = 64 << 20;

/// The header entry `provenance` of a trained model, in JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The recipe's name.
    pub recipe: String,
    /// The whole recipe, in TOML.
    pub recipe_toml: String,
    /// The teacher, if there was one.
    pub teacher: Option<String>,
    /// What random numbers started from.
    pub seed: u64,
    /// Steps over all stages.
    pub steps: u64,
    /// Hours of audio heard, repeated hearings counted again.
    pub hours: f64,
    /// The git commit of the folder that training ran in, `-dirty` behind it if there were changes.
    pub commit: Option<String>,
    /// The version of this crate.
    pub version: String,
    /// Chunk sizes that were trained, in milliseconds; `"full"` for whole utterances.
    pub chunks_ms: Vec<Chunk>,
    /// Left context of a chunk, in milliseconds.
    pub left_ms: u32,
    /// The tokens in the order of the outputs, without the blank.
    pub tokens: Vec<String>,
}

impl Provenance {
    /// What the trained model in a file says about itself; `None` if it says nothing, as models from
    /// elsewhere do.
    ///
    /// # Errors
    /// If the file cannot be read, or what it says cannot be understood.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        #[derive(Deserialize)]
        struct Header {
            #[serde(rename = "__metadata__")]
            entries: HashMap<String, String>,
        }

        let mut file = File::open(path)?;
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let mut json = Vec::new();
        let length = u64::from_le_bytes(length).min(HEADER_LIMIT);
        file.take(length).read_to_end(&mut json)?;
        let header = serde_json::from_slice::<Header>(&json).ok();
        let entry = header.and_then(|mut header| header.entries.remove(PROVENANCE));
        let said = entry.map(|entry| serde_json::from_str(&entry)).transpose();
        said.map_err(|error| {
            let reason = format!("\"{PROVENANCE}\" in the header: {error}");
            io::Error::new(io::ErrorKind::InvalidData, reason)
        })
    }

    pub(super) fn of(recipe: &Recipe, state: &State, tokenizer: &Tokenizer) -> Self {
        Self {
            recipe: recipe.name.clone(),
            recipe_toml: state.recipe.clone(),
            teacher: recipe
                .teacher
                .as_ref()
                .map(|teacher| teacher.source.clone()),
            seed: recipe.seed,
            steps: state.step,
            hours: state.seconds / 3600.0,
            commit: commit(),
            version: env!("CARGO_PKG_VERSION").into(),
            chunks_ms: recipe.contexts.chunks_ms.clone(),
            left_ms: recipe.contexts.left_ms,
            tokens: tokenizer.pieces().to_vec(),
        }
    }
}

/// The commit of the folder we are in; `None` without git or a repository.
#[must_use]
pub fn commit() -> Option<String> {
    let arguments = [
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ];
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
