//! The utterances to train on, from one or several manifests.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::{DataError, Strictness, require};
use super::manifest::{self, Contents, Entry};

/// A manifest and how much of an epoch is taken from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The manifest's path.
    pub manifest: PathBuf,
    /// The share of an epoch's audio that comes from here, above 0 and at most 1.
    ///
    /// Without a share, an epoch holds each utterance once. With one, as many utterances are drawn
    /// as make up the share; over the epochs all of them come equally often. If every source has a
    /// share, the shares must add up to 1, and an epoch is as long as all sources together.
    #[serde(default)]
    pub share: Option<f64>,
}

impl Source {
    /// A manifest of which an epoch holds each utterance once.
    pub fn once(manifest: impl Into<PathBuf>) -> Self {
        Self {
            manifest: manifest.into(),
            share: None,
        }
    }
}

/// All utterances of the sources, in their order.
#[derive(Debug, Clone)]
pub struct Corpus {
    entries: Arc<[Entry]>,
    /// One for each source.
    parts: Vec<Part>,
    bad_lines: usize,
}

/// The utterances of one source.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    pub(super) range: Range<usize>,
    pub(super) share: Option<f64>,
}

impl Corpus {
    /// Reads the manifests. Bad lines are told of and skipped, or fatal.
    ///
    /// # Errors
    /// [`DataError::Config`] for impossible shares; otherwise as [`manifest::read`].
    pub fn read(sources: &[Source], strictness: Strictness) -> Result<Self, DataError> {
        check_shares(sources)?;
        let mut entries = Vec::new();
        let mut parts = Vec::new();
        let mut bad_lines = 0;
        for source in sources {
            let (read, bad) = manifest::read(&source.manifest, Contents::Speech, strictness)?;
            let start = entries.len();
            entries.extend(read);
            bad_lines += bad;
            parts.push(Part {
                range: start..entries.len(),
                share: source.share,
            });
        }
        Ok(Self {
            entries: entries.into(),
            parts,
            bad_lines,
        })
    }

    /// The utterances. A [`Hearing`](super::Hearing) names one by its index.
    #[must_use]
    pub fn entries(&self) -> &Arc<[Entry]> {
        &self.entries
    }

    /// Lines of the manifests that were skipped.
    #[must_use]
    pub fn bad_lines(&self) -> usize {
        self.bad_lines
    }

    /// Seconds of audio in all.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.entries.iter().map(|entry| entry.duration).sum()
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }
}

fn check_shares(sources: &[Source]) -> Result<(), DataError> {
    let shares = || sources.iter().filter_map(|source| source.share);
    for share in shares() {
        let holds = share > 0.0 && share <= 1.0;
        require("share", "above 0 and at most 1", share, holds)?;
    }
    let sum: f64 = shares().sum();
    if shares().count() == sources.len() && !sources.is_empty() {
        let holds = (sum - 1.0).abs() < 1e-6;
        return require("the sum of all sources' shares", "1", sum, holds);
    }
    require(
        "the sum of the shares",
        "below 1, as a source without a share takes the rest",
        sum,
        sum < 1.0,
    )
}
