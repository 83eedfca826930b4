//! Manifests: which audio there is, and what is said in it.
//!
//! A manifest is a text file of one JSON object a line, as NVIDIA NeMo has them:
//!
//! ```json
//! {"audio_filepath": "audio/84-121550-0000.flac", "duration": 9.25, "text": "he'd gone", "speaker": "84"}
//! ```
//!
//! | key | |
//! |---|---|
//! | `audio_filepath` | relative to the manifest's folder, or absolute |
//! | `duration` | seconds |
//! | `text` | the transcript, spelled by the rules of [`text`]; may be empty where nobody speaks; noise needs none |
//! | `speaker` | optional, a string or a number |
//! | `offset` | optional, seconds of the audio before the utterance |
//! | `shard_id` | the tar archive that holds the audio, where a [`Source`](super::Source) has archives; then `audio_filepath` is the member's name |
//!
//! Other keys are ignored.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::{DataError, LineFault, Strictness};
use super::text;

/// Most bytes of a line.
const LINE_LIMIT: usize = 1 << 20;

/// Most seconds of a duration or an offset.
const MOST_SECONDS: f64 = 1e6;

/// Bad lines of one manifest that are told of, one by one.
const MOST_WARNINGS: usize = 10;

/// A line of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The manifest's path.
    pub manifest: Arc<Path>,
    /// The line's number in the manifest, from 1.
    pub line: usize,
    /// The audio, as the manifest writes it.
    pub audio: String,
    /// Seconds of the audio before the utterance.
    pub offset: f64,
    /// Seconds of the utterance.
    pub duration: f64,
    /// What is said, normalised; empty for noise.
    pub text: String,
    /// Who says it.
    pub speaker: Option<String>,
    /// The number of the tar archive that holds the audio, where the line has one.
    pub shard: Option<u32>,
}

impl Entry {
    /// The audio file's path.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match self.manifest.parent() {
            Some(folder) => folder.join(&self.audio),
            None => PathBuf::from(&self.audio),
        }
    }

    /// A name for reports: the audio's path in the manifest, and the offset where there is one.
    #[must_use]
    pub fn id(&self) -> String {
        if self.offset > 0.0 {
            format!("{}@{}", self.audio, self.offset)
        } else {
            self.audio.clone()
        }
    }
}

/// What a manifest is a list of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// Speech with transcripts.
    Speech,
    /// Sound; transcripts are ignored.
    Noise,
}

#[derive(Serialize, Deserialize)]
struct Line {
    audio_filepath: String,
    duration: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    speaker: Option<Speaker>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offset: Option<f64>,
    /// Of any type, as it means nothing where there are no archives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shard_id: Option<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Speaker {
    Name(String),
    Number(i64),
}

/// Reads a manifest line by line, in memory for one line.
///
/// A bad line is an error that names it; the lines after it can still be read.
#[derive(Debug)]
pub struct Reader<R> {
    path: Arc<Path>,
    contents: Contents,
    input: Option<R>,
    line: usize,
    buffer: Vec<u8>,
    /// Bytes before the line, and in it.
    start: u64,
    length: u64,
}

impl Reader<BufReader<File>> {
    /// Opens the manifest at `path`.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub fn open(path: &Path, contents: Contents) -> Result<Self, DataError> {
        let file = File::open(path).map_err(|reason| DataError::Io {
            path: path.into(),
            reason,
        })?;
        Ok(Self::new(BufReader::new(file), path, contents))
    }
}

impl<R: BufRead> Reader<R> {
    /// Reads a manifest from `input`; `path` is its name in errors, and its folder the audio's.
    pub fn new(input: R, path: &Path, contents: Contents) -> Self {
        Self {
            path: path.into(),
            contents,
            input: Some(input),
            line: 0,
            buffer: Vec::new(),
            start: 0,
            length: 0,
        }
    }

    /// Where the line that was read last lies in the manifest, in bytes.
    pub(super) fn place(&self) -> Range<u64> {
        self.start..self.start + self.length
    }
}

/// Reads a line; `path` is the manifest's and `number` the line's in it, from 1.
pub(super) fn parse(
    path: &Arc<Path>,
    number: usize,
    line: &[u8],
    contents: Contents,
) -> Result<Entry, LineFault> {
    let line: Line = serde_json::from_slice(line).map_err(LineFault::Json)?;
    let offset = line.offset.unwrap_or(0.0);
    if !(line.duration > 0.0 && line.duration <= MOST_SECONDS) {
        return Err(LineFault::Seconds {
            key: "duration",
            expected: "above 0 and at most 1000000",
            found: line.duration,
        });
    }
    if !(0.0..=MOST_SECONDS).contains(&offset) {
        return Err(LineFault::Seconds {
            key: "offset",
            expected: "from 0 to 1000000",
            found: offset,
        });
    }
    let text = match contents {
        Contents::Speech => text::normalise(&line.text.ok_or(LineFault::NoText)?)?,
        Contents::Noise => String::new(),
    };
    Ok(Entry {
        manifest: path.clone(),
        line: number,
        audio: line.audio_filepath,
        offset,
        duration: line.duration,
        text,
        speaker: line.speaker.map(|speaker| match speaker {
            Speaker::Name(name) => name,
            Speaker::Number(number) => number.to_string(),
        }),
        shard: line
            .shard_id
            .and_then(|shard| u32::try_from(shard.as_u64()?).ok()),
    })
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Entry, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.start += self.length;
            match read_line(self.input.as_mut()?, &mut self.buffer, &mut self.length) {
                Ok(None) => {
                    self.input = None;
                    return None;
                }
                Ok(Some(whole)) => {
                    self.line += 1;
                    if whole && self.buffer.trim_ascii().is_empty() {
                        continue;
                    }
                    let entry = if whole {
                        parse(&self.path, self.line, &self.buffer, self.contents)
                    } else {
                        Err(LineFault::TooLong { limit: LINE_LIMIT })
                    };
                    return Some(entry.map_err(|reason| DataError::Line {
                        path: self.path.to_path_buf(),
                        line: self.line,
                        reason,
                    }));
                }
                Err(reason) => {
                    self.input = None;
                    return Some(Err(DataError::Io {
                        path: self.path.to_path_buf(),
                        reason,
                    }));
                }
            }
        }
    }
}

/// Reads the next line into `buffer`: `None` at the end, `Some(false)` if the line is longer than
/// [`LINE_LIMIT`], of which the rest is passed over. `length` is then that of the line, with its end.
fn read_line(
    input: &mut impl BufRead,
    buffer: &mut Vec<u8>,
    length: &mut u64,
) -> io::Result<Option<bool>> {
    buffer.clear();
    *length = 0;
    let mut any = false;
    let mut whole = true;
    loop {
        let available = match input.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if available.is_empty() {
            return Ok(any.then_some(whole));
        }
        any = true;
        let end = available.iter().position(|&byte| byte == b'\n');
        let piece = &available[..end.unwrap_or(available.len())];
        whole = whole && buffer.len() + piece.len() <= LINE_LIMIT;
        if whole {
            buffer.extend_from_slice(piece);
        }
        let used = piece.len() + usize::from(end.is_some());
        input.consume(used);
        *length += used as u64;
        if end.is_some() {
            return Ok(Some(whole));
        }
    }
}

/// Reads a whole manifest. Bad lines are an error, or are told of, skipped and counted: the second
/// value is their number.
///
/// # Errors
/// [`DataError::Io`]; with [`Strictness::Strict`] also [`DataError::Line`].
pub fn read(
    path: &Path,
    contents: Contents,
    strictness: Strictness,
) -> Result<(Vec<Entry>, usize), DataError> {
    let mut entries = Vec::new();
    let skipped = visit(path, contents, strictness, |entry, _| {
        entries.push(entry);
        Ok(())
    })?;
    Ok((entries, skipped))
}

/// Shows all lines of a manifest and where they lie in it, in bytes. Bad lines, to `each` too, are an
/// error, or are told of, skipped and counted.
pub(super) fn visit(
    path: &Path,
    contents: Contents,
    strictness: Strictness,
    mut each: impl FnMut(Entry, Range<u64>) -> Result<(), LineFault>,
) -> Result<usize, DataError> {
    let mut skipped = 0;
    let mut reader = Reader::open(path, contents)?;
    while let Some(entry) = reader.next() {
        let visited = entry.and_then(|entry| {
            let line = entry.line;
            each(entry, reader.place()).map_err(|reason| DataError::Line {
                path: path.into(),
                line,
                reason,
            })
        });
        match visited {
            Ok(()) => {}
            Err(error @ DataError::Line { .. }) if strictness == Strictness::Lenient => {
                skipped += 1;
                if skipped <= MOST_WARNINGS {
                    tracing::warn!("skipped: {error}");
                }
            }
            Err(error) => return Err(error),
        }
    }
    if skipped > MOST_WARNINGS {
        tracing::warn!("{}: {skipped} bad lines skipped in all", path.display());
    }
    Ok(skipped)
}

/// Writes one line of a manifest. `audio` is relative to the manifest's folder, or absolute.
///
/// # Errors
/// What `out` fails with.
pub fn write_line(
    out: &mut impl Write,
    audio: &str,
    duration: f64,
    text: &str,
    speaker: Option<&str>,
) -> io::Result<()> {
    let line = Line {
        audio_filepath: audio.to_owned(),
        duration,
        text: Some(text.to_owned()),
        speaker: speaker.map(|name| Speaker::Name(name.to_owned())),
        offset: None,
        shard_id: None,
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}
