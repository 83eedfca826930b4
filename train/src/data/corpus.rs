//! The utterances to train on, from one or several manifests.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::{DataError, LineFault, Strictness, require};
use super::manifest::{self, Contents, Entry};
use super::tarred::Tars;

/// Hours of speech from archives that are mixed with each other, unless a source says otherwise.
const BUFFER_HOURS: f64 = 4.0;

/// A manifest and how much of an epoch is taken from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The manifest's path.
    pub manifest: PathBuf,
    /// The tar archives that hold the audio, if it has no files of its own: a pattern such as
    /// `audio_{0..31}.tar`, NeMo's `tarred_audio_filepaths`. The number in an archive's name is the
    /// `shard_id` of its lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tars: Option<String>,
    /// Archives are read from end to end, in another order in each epoch; what is read is mixed within
    /// so many hours of speech, twice which lie in memory, still compressed. Default: 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer_hours: Option<f64>,
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
            tars: None,
            buffer_hours: None,
            share: None,
        }
    }
}

/// All utterances of the sources, in their order.
///
/// Of each line only the place in its manifest and the duration are kept; the rest is read again where it
/// is needed. So a corpus of thousands of hours takes some megabytes, and its manifests must stay as
/// they are while it is in use.
#[derive(Debug, Clone, Default)]
pub struct Corpus {
    lines: Arc<Vec<Line>>,
    parts: Arc<Vec<Part>>,
    bad_lines: usize,
}

/// A good line of a manifest.
#[derive(Debug, Clone, Copy)]
struct Line {
    /// Bytes before it.
    start: u64,
    length: u32,
    /// From 1.
    number: u32,
    /// Seconds.
    duration: f64,
}

/// The utterances of one source.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) range: Range<usize>,
    pub(super) share: Option<f64>,
    pub(super) shards: Option<Shards>,
    pub(super) manifest: Arc<Path>,
    file: File,
}

/// Where a source's audio is, if it is in archives.
#[derive(Debug)]
pub(super) struct Shards {
    pub(super) tars: Tars,
    /// By utterance of the source: its archive's index.
    pub(super) of: Vec<u32>,
    pub(super) buffer_seconds: f64,
}

impl Corpus {
    /// Reads the manifests. Bad lines are told of and skipped, or fatal.
    ///
    /// # Errors
    /// [`DataError::Config`] for impossible shares, [`DataError::Tars`] for archives that are not
    /// there; otherwise as [`manifest::read`].
    pub fn read(sources: &[Source], strictness: Strictness) -> Result<Self, DataError> {
        check_shares(sources)?;
        let mut lines = Vec::new();
        let mut parts = Vec::new();
        let mut bad_lines = 0;
        for source in sources {
            let hours = source.buffer_hours.unwrap_or(BUFFER_HOURS);
            let holds = (0.001..=1000.0).contains(&hours);
            require("buffer_hours", "from 0.001 to 1000", hours, holds)?;
            let tars = source.tars.as_deref().map(Tars::find).transpose()?;
            let mut of = Vec::new();
            let path = &source.manifest;
            let start = lines.len();
            let speech = Contents::Speech;
            bad_lines += manifest::visit(path, speech, strictness, |entry, place| {
                if let Some(tars) = &tars {
                    let shard = entry.shard.ok_or(LineFault::NoShard)?;
                    let archives = tars.len();
                    let index = tars.index(shard);
                    of.push(index.ok_or(LineFault::UnknownShard { shard, archives })?);
                }
                lines.push(Line {
                    start: place.start,
                    length: (place.end - place.start) as u32,
                    number: entry.line as u32,
                    duration: entry.duration,
                });
                Ok(())
            })?;
            let file = File::open(path).map_err(|reason| DataError::Io {
                path: path.clone(),
                reason,
            })?;
            parts.push(Part {
                range: start..lines.len(),
                share: source.share,
                shards: tars.map(|tars| Shards {
                    tars,
                    of,
                    buffer_seconds: hours * 3600.0,
                }),
                manifest: path.as_path().into(),
                file,
            });
        }
        lines.shrink_to_fit();
        Ok(Self {
            lines: lines.into(),
            parts: parts.into(),
            bad_lines,
        })
    }

    /// Number of utterances.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is no utterance at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// An utterance, by its index, as a [`Hearing`](super::Hearing) has it. Its line is read from the
    /// manifest.
    ///
    /// # Errors
    /// [`DataError::Io`], and [`DataError::Changed`] if the manifest is not what it was.
    ///
    /// # Panics
    /// If there is no such utterance.
    pub fn entry(&self, index: usize) -> Result<Entry, DataError> {
        let (line, part) = (self.lines[index], self.part(index));
        let bytes = self.line(index)?;
        let number = line.number as usize;
        let entry = manifest::parse(&part.manifest, number, &bytes, Contents::Speech);
        let same = entry.ok().filter(|entry| entry.duration == line.duration);
        same.ok_or_else(|| DataError::Changed {
            path: part.manifest.to_path_buf(),
            line: number,
        })
    }

    /// All utterances: for sets that are small.
    ///
    /// # Errors
    /// As [`entry`](Self::entry).
    pub fn entries(&self) -> Result<Vec<Entry>, DataError> {
        (0..self.len()).map(|index| self.entry(index)).collect()
    }

    /// Lines of the manifests that were skipped.
    #[must_use]
    pub fn bad_lines(&self) -> usize {
        self.bad_lines
    }

    /// Seconds of audio in all.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.lines.iter().map(|line| line.duration).sum()
    }

    /// Seconds of an utterance.
    pub(crate) fn duration(&self, index: usize) -> f64 {
        self.lines[index].duration
    }

    /// An utterance's line, as the manifest has it.
    pub(super) fn line(&self, index: usize) -> Result<Vec<u8>, DataError> {
        let (line, part) = (self.lines[index], self.part(index));
        let mut bytes = vec![0; line.length as usize];
        let read = part.file.read_exact_at(&mut bytes, line.start);
        read.map_err(|reason| DataError::Io {
            path: part.manifest.to_path_buf(),
            reason,
        })?;
        Ok(bytes)
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Whether any audio is in archives.
    pub(super) fn is_tarred(&self) -> bool {
        self.parts.iter().any(|part| part.shards.is_some())
    }

    /// The archive that holds an utterance's audio, if one does: the index of its part, and its own in
    /// this.
    pub(super) fn shard(&self, index: usize) -> Option<(usize, u32)> {
        let number = self.part_number(index);
        let part = &self.parts[number];
        let shards = part.shards.as_ref()?;
        Some((number, shards.of[index - part.range.start]))
    }

    /// How errors call the audio of an utterance, if it is in an archive.
    pub(super) fn member(&self, index: usize, entry: &Entry) -> Option<PathBuf> {
        let (part, archive) = self.shard(index)?;
        let shards = self.parts[part].shards.as_ref()?;
        Some(shards.tars.path(archive).join(&entry.audio))
    }

    /// How many utterances have files of their own, so that they can be read at any time.
    pub(super) fn files(&self) -> usize {
        self.in_files().map(|part| part.range.len()).sum()
    }

    /// One of these.
    pub(super) fn file(&self, mut number: usize) -> Result<Entry, DataError> {
        for part in self.in_files() {
            if number < part.range.len() {
                return self.entry(part.range.start + number);
            }
            number -= part.range.len();
        }
        panic!("there are {} utterances in files", self.files());
    }

    fn in_files(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| part.shards.is_none())
    }

    fn part(&self, index: usize) -> &Part {
        &self.parts[self.part_number(index)]
    }

    fn part_number(&self, index: usize) -> usize {
        self.parts.partition_point(|part| part.range.end <= index)
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
