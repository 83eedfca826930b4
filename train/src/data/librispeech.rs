//! Manifests of a LibriSpeech that lies unpacked on disk.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;
use sori::audio::AudioFile;

use super::error::{AudioFault, DataError, LineFault, Strictness};
use super::{manifest, text};

/// What the names of transcripts end with.
const TRANSCRIPTS: &str = ".trans.txt";

/// Folders between the one that is given and the transcripts, at most: `LibriSpeech/train-clean-100/
/// 84/121550` in the folder where the archives were unpacked, and some to spare.
const DEPTH: usize = 6;

/// Most bytes of one file of transcripts, which is of one chapter.
const TRANSCRIPTS_LIMIT: u64 = 16 << 20;

/// A manifest that was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// LibriSpeech's name for it, `dev-clean` for example.
    pub name: String,
    /// Where it was written.
    pub manifest: PathBuf,
    /// Utterances in it.
    pub utterances: usize,
    /// Their length in seconds.
    pub seconds: f64,
    /// Utterances left out because their line or their audio is broken.
    pub skipped: usize,
}

/// Finds every split below `folder` and writes a manifest `<split>.jsonl` for each into `out`,
/// utterances in the order of their names. Audio is named relative to `out`.
///
/// # Errors
/// [`DataError::Nothing`] if there are no transcripts below `folder`; [`DataError::Io`]; and with
/// [`Strictness::Strict`], what is wrong with the first bad line or audio file.
pub fn prepare(folder: &Path, out: &Path, strictness: Strictness) -> Result<Vec<Split>, DataError> {
    let mut found = Vec::new();
    find_transcripts(folder, DEPTH, &mut found)?;
    found.sort();
    // Transcripts lie in SPLIT/SPEAKER/CHAPTER.
    let mut splits = BTreeMap::<String, Vec<PathBuf>>::new();
    for path in found {
        let split = path.ancestors().nth(3).and_then(Path::file_name);
        let name = split.map_or_else(|| "librispeech".into(), OsStr::to_string_lossy);
        splits.entry(name.into_owned()).or_default().push(path);
    }
    if splits.is_empty() {
        return Err(DataError::Nothing {
            what: folder.display().to_string(),
            reason: format!(
                "there is no *{TRANSCRIPTS} below it; give the folder that LibriSpeech was unpacked in"
            ),
        });
    }
    fs::create_dir_all(out).map_err(|reason| io(out, reason))?;
    let write = |(name, transcripts): (String, Vec<PathBuf>)| {
        write_split(name, &transcripts, out, strictness)
    };
    splits.into_iter().map(write).collect()
}

fn write_split(
    name: String,
    transcripts: &[PathBuf],
    out: &Path,
    strictness: Strictness,
) -> Result<Split, DataError> {
    let base = fs::canonicalize(out).map_err(|reason| io(out, reason))?;
    let chapters: Vec<Vec<Result<Utterance, DataError>>> = transcripts
        .par_iter()
        .map(|path| read_chapter(path))
        .collect::<Result<_, _>>()?;

    let manifest = out.join(format!("{name}.jsonl"));
    let mut split = Split {
        name,
        manifest,
        utterances: 0,
        seconds: 0.0,
        skipped: 0,
    };
    let file = File::create(&split.manifest).map_err(|reason| io(&split.manifest, reason))?;
    let mut file = BufWriter::new(file);
    for utterance in chapters.into_iter().flatten() {
        let utterance = match utterance {
            Ok(utterance) => utterance,
            Err(error) if strictness == Strictness::Strict => return Err(error),
            Err(error) => {
                tracing::warn!("skipped: {error}");
                split.skipped += 1;
                continue;
            }
        };
        let audio = relative(&base, &utterance.audio);
        let speaker = Some(utterance.speaker.as_str());
        manifest::write_line(
            &mut file,
            &audio,
            utterance.seconds,
            &utterance.text,
            speaker,
        )
        .map_err(|reason| io(&split.manifest, reason))?;
        split.utterances += 1;
        split.seconds += utterance.seconds;
    }
    file.flush().map_err(|reason| io(&split.manifest, reason))?;
    Ok(split)
}

struct Utterance {
    /// Absolute.
    audio: PathBuf,
    seconds: f64,
    text: String,
    speaker: String,
}

/// Reads the transcripts of a chapter, `ID TEXT` a line, and the lengths of the audio beside them.
fn read_chapter(path: &Path) -> Result<Vec<Result<Utterance, DataError>>, DataError> {
    let file = File::open(path).map_err(|reason| io(path, reason))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let folder = fs::canonicalize(folder).map_err(|reason| io(folder, reason))?;
    let mut utterances = Vec::new();
    for (index, line) in BufReader::new(file.take(TRANSCRIPTS_LIMIT))
        .lines()
        .enumerate()
    {
        let line = line.map_err(|reason| io(path, reason))?;
        let utterance = read_utterance(&line, &folder).map_err(|fault| {
            let (path, line) = (path.to_path_buf(), index + 1);
            match fault {
                Fault::Line(reason) => DataError::Line { path, line, reason },
                Fault::Audio(reason) => DataError::Audio { path, line, reason },
            }
        });
        utterances.push(utterance);
    }
    Ok(utterances)
}

enum Fault {
    Line(LineFault),
    Audio(AudioFault),
}

fn read_utterance(line: &str, folder: &Path) -> Result<Utterance, Fault> {
    let form = Fault::Line(LineFault::Form {
        expected: "an utterance's id, a space and its text",
    });
    let Some((id, text)) = line.split_once(' ') else {
        return Err(form);
    };
    // SPEAKER-CHAPTER-NUMBER, which is a file's name and nothing else.
    let Some((speaker, _)) = id.split_once('-').filter(|_| !id.contains(['/', '\\'])) else {
        return Err(form);
    };
    let text = text::normalise(text).map_err(|reason| Fault::Line(reason.into()))?;
    let audio = folder.join(format!("{id}.flac"));
    let seconds = seconds_of(&audio).map_err(Fault::Audio)?;
    Ok(Utterance {
        audio,
        seconds,
        text,
        speaker: speaker.to_owned(),
    })
}

/// The length that the file's header tells; files without are decoded.
fn seconds_of(path: &Path) -> Result<f64, AudioFault> {
    let mut file = AudioFile::open(path)?;
    if let Some(seconds) = file.duration() {
        return Ok(seconds);
    }
    let (mut samples, mut packet) = (0, Vec::new());
    while file.read(&mut packet)? {
        samples += packet.len();
        packet.clear();
    }
    Ok(samples as f64 / f64::from(file.sample_rate()))
}

fn find_transcripts(
    folder: &Path,
    depth: usize,
    found: &mut Vec<PathBuf>,
) -> Result<(), DataError> {
    for entry in fs::read_dir(folder).map_err(|reason| io(folder, reason))? {
        let path = entry.map_err(|reason| io(folder, reason))?.path();
        if path.is_dir() {
            if depth > 0 {
                find_transcripts(&path, depth - 1, found)?;
            }
        } else if path.to_string_lossy().ends_with(TRANSCRIPTS) {
            found.push(path);
        }
    }
    Ok(())
}

/// The way from one absolute folder to a file, with `/` between.
fn relative(from: &Path, to: &Path) -> String {
    let (from, to): (Vec<_>, Vec<_>) = (from.components().collect(), to.components().collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n(Component::ParentDir, from.len() - shared);
    let down = to[shared..].iter().copied();
    let parts: Vec<_> = up
        .chain(down)
        .map(|part| part.as_os_str().to_string_lossy())
        .collect();
    parts.join("/")
}

fn io(path: &Path, reason: std::io::Error) -> DataError {
    DataError::Io {
        path: path.into(),
        reason,
    }
}
