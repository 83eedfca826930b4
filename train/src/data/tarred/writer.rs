//! Puts the audio of manifests into archives.

use std::fs::{self, File};
use std::io::{self, BufWriter, Cursor, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rand::seq::SliceRandom;
use serde_json::{Map, Value};
use sori::audio::AudioFile;

use super::reader::{MEMBER_LIMIT, is_audio};
use crate::data::audio;
use crate::data::chance::shuffling;
use crate::data::corpus::Corpus;
use crate::data::error::{AudioFault, DataError, LineFault, Strictness};
use crate::data::manifest::Entry;
use crate::whole_file;

const MANIFEST: &str = "tarred_audio_manifest.json";

/// Seconds that a file may be longer than its line says, and still is kept as it is.
const SPARE_SECONDS: f64 = 1.0;

/// Bytes of a tar archive that are no member's: two empty blocks.
const END: u64 = 1024;

/// How archives are written.
#[derive(Debug, Clone, Copy)]
pub struct Sharding {
    /// Most bytes of an archive, unless a single member has more.
    pub most_bytes: u64,
    /// Utterances are shuffled by this.
    pub seed: u64,
    /// Archives and a manifest that are there already are removed first.
    pub replace: bool,
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Archives.
    pub archives: usize,
    /// Members, one for each utterance.
    pub utterances: usize,
    /// Seconds of speech.
    pub seconds: f64,
    /// Bytes of all archives.
    pub bytes: u64,
    /// Utterances whose audio cannot be used.
    pub skipped: usize,
    /// The manifest.
    pub manifest: PathBuf,
    /// The pattern that means the archives.
    pub tars: String,
}

/// Shuffles a corpus and writes it into a folder as `audio_0.tar`, `audio_1.tar` ... and
/// `tarred_audio_manifest.json`. The same corpus, settings and files give the same bytes.
///
/// Audio files are copied as they are. Where a line means a part of a longer file, the part is cut out and
/// becomes a 16-bit WAV file at its rate, in mono.
///
/// `each` is told of the seconds of each utterance, and may break off: then the result is `None`, and the
/// folder has no manifest.
///
/// # Errors
/// [`DataError::Exists`] unless `replace` is set, [`DataError::Io`], [`DataError::Nothing`]; and with
/// [`Strictness::Strict`], what is wrong with the first broken audio.
pub fn write(
    corpus: &Corpus,
    out: &Path,
    sharding: &Sharding,
    strictness: Strictness,
    each: &mut dyn FnMut(f64) -> ControlFlow<()>,
) -> Result<Option<Written>, DataError> {
    make_room(out, sharding.replace)?;
    let manifest = out.join(MANIFEST);
    let mut lines = Part::create(&manifest)?;
    let mut written = Written {
        archives: 0,
        utterances: 0,
        seconds: 0.0,
        bytes: 0,
        skipped: 0,
        tars: String::new(),
        manifest: manifest.clone(),
    };
    let mut order: Vec<u32> = (0..corpus.len() as u32).collect();
    order.shuffle(&mut shuffling(sharding.seed, 0, 0));
    let mut archive: Option<Archive> = None;
    for index in order {
        let index = index as usize;
        let entry = corpus.entry(index)?;
        let member = match Member::of(index, &entry) {
            Ok(member) => member,
            Err(error) if strictness == Strictness::Lenient => {
                written.skipped += 1;
                tracing::warn!("skipped: {error}");
                continue;
            }
            Err(error) => return Err(error),
        };
        let full = |archive: &mut Archive| archive.bytes + member.blocks() > sharding.most_bytes;
        if let Some(full) = archive.take_if(full) {
            written.bytes += full.finish()?;
        }
        let open = match &mut archive {
            Some(open) => open,
            None => {
                let path = out.join(format!("audio_{}.tar", written.archives));
                written.archives += 1;
                archive.insert(Archive::create(&path)?)
            }
        };
        open.append(&member)?;
        let shard = written.archives - 1;
        lines.write(&line(corpus, index, &entry, &member.name, shard)?)?;
        written.utterances += 1;
        written.seconds += entry.duration;
        if each(entry.duration).is_break() {
            return Ok(None);
        }
    }
    let Some(last) = archive else {
        return Err(DataError::Nothing {
            what: "the manifests".into(),
            reason: format!("{} lines with broken audio", written.skipped),
        });
    };
    written.bytes += last.finish()?;
    // Whoever finds the manifest finds all of its archives.
    lines.finish()?;
    let tars = out.join(format!("audio_{{0..{}}}.tar", written.archives - 1));
    written.tars = tars.to_string_lossy().into_owned();
    Ok(Some(written))
}

/// Makes the folder, and removes what this module wrote into it before, or refuses to.
fn make_room(out: &Path, replace: bool) -> Result<(), DataError> {
    let io = |reason| DataError::Io {
        path: out.into(),
        reason,
    };
    fs::create_dir_all(out).map_err(io)?;
    let mut found = Vec::new();
    for file in fs::read_dir(out).map_err(io)? {
        let file = file.map_err(io)?;
        if is_ours(&file.file_name().to_string_lossy()) {
            found.push(file.path());
        }
    }
    // The manifest goes first: no one is to find it with archives of another.
    found.sort_by_key(|path| {
        (
            path.extension().is_some_and(|kind| kind == "tar"),
            path.clone(),
        )
    });
    for path in found {
        if !replace {
            return Err(DataError::Exists { path });
        }
        fs::remove_file(&path).map_err(|reason| DataError::Io { path, reason })?;
    }
    Ok(())
}

fn is_ours(name: &str) -> bool {
    let name = name.strip_suffix(".part").unwrap_or(name);
    let number = name.strip_prefix("audio_");
    let number = number.and_then(|name| name.strip_suffix(".tar"));
    name == MANIFEST || number.is_some_and(|number| number.parse::<u32>().is_ok())
}

/// A line about a member: all that the line before had, as NeMo does it.
fn line(
    corpus: &Corpus,
    index: usize,
    entry: &Entry,
    member: &str,
    shard: usize,
) -> Result<Vec<u8>, DataError> {
    let fault = |reason| DataError::Line {
        path: entry.manifest.to_path_buf(),
        line: entry.line,
        reason: LineFault::Json(reason),
    };
    let mut line: Map<String, Value> =
        serde_json::from_slice(&corpus.line(index)?).map_err(fault)?;
    line.insert("audio_filepath".into(), member.into());
    line.insert("shard_id".into(), shard.into());
    line.remove("offset");
    if entry.offset > 0.0 {
        line.insert("source_audio_offset".into(), entry.offset.into());
    }
    let mut line = serde_json::to_vec(&line).map_err(fault)?;
    line.push(b'\n');
    Ok(line)
}

/// A member to be.
struct Member {
    name: String,
    bytes: Vec<u8>,
}

impl Member {
    fn of(index: usize, entry: &Entry) -> Result<Self, DataError> {
        let path = entry.path();
        let fault = |reason| audio::fault(entry, reason);
        let file = AudioFile::open(&path).map_err(|error| fault(error.into()))?;
        let longest = entry.duration + SPARE_SECONDS;
        let is_part = entry.offset > 0.0 || file.duration().is_some_and(|all| all > longest);
        if !is_part && is_audio(&entry.audio) {
            let unreadable = |reason| DataError::Io {
                path: path.clone(),
                reason,
            };
            let found = fs::metadata(&path).map_err(unreadable)?.len();
            if found > MEMBER_LIMIT {
                return Err(fault(AudioFault::LargeMember {
                    path,
                    member: entry.audio.clone(),
                    found,
                    limit: MEMBER_LIMIT,
                }));
            }
            let extension = path.extension().unwrap_or_default().to_string_lossy();
            return Ok(Self {
                name: name(index, &path, &extension.to_lowercase()),
                bytes: fs::read(&path).map_err(unreadable)?,
            });
        }
        let (sound, rate) = audio::cut(entry)?;
        Ok(Self {
            name: name(index, &path, "wav"),
            bytes: wav(&sound, rate).map_err(|error| DataError::Io {
                path,
                reason: io::Error::other(error),
            })?,
        })
    }

    /// Bytes that it takes in an archive.
    fn blocks(&self) -> u64 {
        512 + (self.bytes.len() as u64).next_multiple_of(512)
    }
}

/// A member's name: no other has its number. It has no folders and only one dot, as WebDataset splits
/// names at the first; nor `-sub`, at which NeMo does.
fn name(index: usize, path: &Path, extension: &str) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let plain = |letter: char| match letter {
        '-' => '-',
        letter if letter.is_ascii_alphanumeric() => letter,
        _ => '_',
    };
    let stem: String = stem.chars().map(plain).take(60).collect();
    let stem = stem.replace("-sub", "_sub");
    format!("{index:08}_{stem}.{extension}")
}

fn wav(sound: &[f32], rate: u32) -> Result<Vec<u8>, hound::Error> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut bytes = Cursor::new(Vec::new());
    let mut wav = hound::WavWriter::new(&mut bytes, spec)?;
    for sample in sound {
        // A number out of range becomes the nearest.
        wav.write_sample((sample * 32_768.0).round() as i16)?;
    }
    wav.finalize()?;
    Ok(bytes.into_inner())
}

/// A file that has another name until it is complete.
struct Part {
    path: PathBuf,
    part: PathBuf,
    file: BufWriter<File>,
}

impl Part {
    fn create(path: &Path) -> Result<Self, DataError> {
        let part = whole_file::part(path);
        let file = File::create(&part).map_err(|reason| DataError::Io {
            path: part.clone(),
            reason,
        })?;
        Ok(Self {
            path: path.into(),
            part,
            file: BufWriter::with_capacity(1 << 20, file),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        let written = self.file.write_all(bytes);
        written.map_err(|reason| self.failed(reason))
    }

    fn finish(mut self) -> Result<(), DataError> {
        let flushed = self.file.flush();
        let finished = flushed.and_then(|()| whole_file::settle(&self.part, &self.path));
        finished.map_err(|reason| self.failed(reason))
    }

    fn failed(&self, reason: io::Error) -> DataError {
        DataError::Io {
            path: self.part.clone(),
            reason,
        }
    }
}

impl Write for Part {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// An archive that is being written.
struct Archive {
    tar: tar::Builder<Part>,
    bytes: u64,
}

impl Archive {
    fn create(path: &Path) -> Result<Self, DataError> {
        Ok(Self {
            tar: tar::Builder::new(Part::create(path)?),
            bytes: END,
        })
    }

    fn append(&mut self, member: &Member) -> Result<(), DataError> {
        // Neither times nor owners: the same audio gives the same bytes.
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(member.bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        let appended = self
            .tar
            .append_data(&mut header, &member.name, member.bytes.as_slice());
        appended.map_err(|reason| self.tar.get_ref().failed(reason))?;
        self.bytes += member.blocks();
        Ok(())
    }

    /// Returns the bytes that were written.
    fn finish(mut self) -> Result<u64, DataError> {
        let finished = self.tar.finish();
        finished.map_err(|reason| self.tar.get_ref().failed(reason))?;
        let path = self.tar.get_ref().path.clone();
        let part = self.tar.into_inner();
        part.map_err(|reason| DataError::Io { path, reason })?
            .finish()?;
        Ok(self.bytes)
    }
}
