//! What is asked for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;
use sori::model::Measurement;

/// What to make of a checkpoint.
#[derive(Debug, Clone)]
pub struct Options {
    /// Audio of one chunk, ms.
    pub chunk_ms: u32,
    /// Audio before the chunk that attention sees, ms; `None` for what the model was trained with,
    /// or 5120 if the checkpoint does not say.
    pub left_ms: Option<u32>,
    /// Add a graph whose products by weights are in 8-bit integers.
    pub int8: bool,
    /// Leave the float graph out, if there is one in 8-bit integers: a third of the size.
    pub int8_only: bool,
    /// Store float weights in 16 bits: half the bytes, and the same speed.
    pub f16_weights: bool,
    /// Add a graph for so many streams at once, for servers.
    pub batch: Option<u32>,
    /// The file of tokens that the model was trained with; `None` for those in the checkpoint, or
    /// else `tokens.txt` beside it.
    pub tokens: Option<PathBuf>,
    /// Speech to verify with, a WAV file; `None` for the speech that is built in.
    pub speech: Option<PathBuf>,
    /// What the package says of itself.
    pub about: About,
}

impl Default for Options {
    /// A float graph for chunks of 320 ms.
    fn default() -> Self {
        Self {
            chunk_ms: 320,
            left_ms: None,
            int8: false,
            int8_only: false,
            f16_weights: false,
            batch: None,
            tokens: None,
            speech: None,
            about: About::default(),
        }
    }
}

/// What a package says of itself, for people.
#[derive(Debug, Clone)]
pub struct About {
    /// Short name; `None` for that of the package's directory.
    pub name: Option<String>,
    /// Language tag (BCP 47).
    pub language: String,
    /// One sentence.
    pub description: String,
    /// Licence of the weights.
    pub license: String,
    /// Where the weights come from (data and its licence, teacher, …). It comes before what the
    /// checkpoint says.
    pub training: BTreeMap<String, Value>,
    /// Word error rates that were measured.
    pub measured: Vec<Measurement>,
}

impl Default for About {
    /// English, and no more said.
    fn default() -> Self {
        Self {
            name: None,
            language: "en".to_owned(),
            description: String::new(),
            license: String::new(),
            training: BTreeMap::new(),
            measured: Vec::new(),
        }
    }
}
