//! What can be wrong with training data.

use std::io;
use std::path::PathBuf;

use sori::audio::AudioError;
use sori::model::PackageError;

use super::text::UnknownCharacter;

/// Why data cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file cannot be read or written. Check the path, the permissions and the free space.
    #[error("{path}: {reason}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// A line of a manifest, or of a corpus's transcripts, is not what it should be. Correct it, or
    /// leave it out.
    #[error("{path}:{line}: {reason}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with it.
        reason: LineFault,
    },
    /// The audio that a line speaks of cannot be used. Replace the audio or leave the line out.
    #[error("{path}:{line}: {reason}")]
    Audio {
        /// The manifest or the transcripts.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with its audio.
        reason: AudioFault,
    },
    /// A manifest was changed while it was in use. Leave manifests as they are until training has ended,
    /// then start again.
    #[error(
        "{path}:{line}: the line is not what it was; leave manifests as they are while they are in use"
    )]
    Changed {
        /// The manifest.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
    },
    /// The archives of a source cannot be found. Correct the pattern, or bring the archives.
    #[error("tars = {pattern:?}: {reason}")]
    Tars {
        /// The pattern.
        pattern: String,
        /// What is wrong with it, or with what it means.
        reason: String,
    },
    /// The members of archives are so large that they would take more memory than speech should. Lower
    /// `buffer_hours`, or write the archives anew from audio that is compressed and cut to its utterances.
    #[error(
        "{path}: no room in memory for member {member:?}: the audio has more than 200 kB for each second of speech; lower buffer_hours, or shard compressed audio"
    )]
    FullBuffer {
        /// The archive.
        path: PathBuf,
        /// The first member that there was no room for.
        member: String,
    },
    /// There is a sharded data set already. Write to another folder, or ask for it to be replaced.
    #[error("{path} is there already; choose another folder, or replace it with --force")]
    Exists {
        /// The first of its files.
        path: PathBuf,
    },
    /// A setting is out of bounds. The message gives the bounds.
    #[error("{field} must be {expected}, found {found}")]
    Config {
        /// The setting, dotted.
        field: &'static str,
        /// What would have been accepted.
        expected: String,
        /// What was found.
        found: String,
    },
    /// There is nothing to train on. The message tells what was found and where it went.
    #[error("{what} holds no utterance that can be used: {reason}")]
    Nothing {
        /// The corpus, a folder or an epoch.
        what: String,
        /// How many were left out, and why.
        reason: String,
    },
    /// The folder of a tokenizer does not hold one, or its files do not belong together. Train the
    /// tokenizer again, or copy both of its files.
    #[error("{path}: {reason}")]
    TokenizerFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A `tokens.txt` is not one.
    #[error(transparent)]
    Tokens(#[from] PackageError),
    /// The text does not hold as many different pieces as were asked for. Give more text, or ask for
    /// fewer pieces.
    #[error(
        "the text gives only {found} pieces, expected {expected}; give more text or ask for fewer"
    )]
    TooFewPieces {
        /// Pieces asked for.
        expected: usize,
        /// Pieces there are.
        found: usize,
    },
    /// The tokenizer's pieces cannot spell a text: it was made for another alphabet. Take the
    /// tokenizer that belongs to the data.
    #[error("the tokenizer cannot spell {text:?}")]
    Unspellable {
        /// The text or word.
        text: String,
    },
    /// The crate `tokenizers` failed while training. The text is unusual: look for extreme words.
    #[error("no tokenizer could be trained: {reason}")]
    Training {
        /// The crate's reason.
        reason: String,
    },
    /// The saved position in the data belongs to other data or settings, so that the same batches
    /// cannot follow. Restore them, or start the epoch anew with a fresh position.
    #[error(
        "the saved position belongs to other data or batch settings (fingerprint {expected:016x}, \
         these have {found:016x}); restore them or start from a fresh position"
    )]
    OtherData {
        /// Fingerprint in the position.
        expected: u64,
        /// Fingerprint of the data and settings here.
        found: u64,
    },
}

/// What is wrong with a line of a manifest or of transcripts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LineFault {
    /// Longer than any sensible line: not a manifest, or a broken one.
    #[error("longer than {limit} bytes: not a line of a manifest")]
    TooLong {
        /// The most bytes that are read.
        limit: usize,
    },
    /// Not JSON, or without the keys that are needed.
    #[error("{0}")]
    Json(serde_json::Error),
    /// Not of the form that the file's lines should have.
    #[error("expected {expected}")]
    Form {
        /// The form.
        expected: &'static str,
    },
    /// A time that cannot be.
    #[error("\"{key}\" must be {expected}, found {found}")]
    Seconds {
        /// `duration` or `offset`.
        key: &'static str,
        /// What would have been accepted, in seconds.
        expected: &'static str,
        /// What was found, in seconds.
        found: f64,
    },
    /// Speech without a transcript.
    #[error("\"text\" is missing; expected the transcript")]
    NoText,
    /// A line of a source with archives that does not say which of them it is about.
    #[error("\"shard_id\" is missing; expected the number of the archive")]
    NoShard,
    /// A line about an archive that the source does not have.
    #[error("\"shard_id\" is {shard}, which none of the {archives} archives has in its name")]
    UnknownShard {
        /// The number.
        shard: u32,
        /// How many archives there are.
        archives: usize,
    },
    /// A transcript that cannot be spelled.
    #[error("\"text\": {0}")]
    Text(#[from] UnknownCharacter),
}

/// What is wrong with the audio of a line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AudioFault {
    /// It cannot be opened or decoded.
    #[error(transparent)]
    Unreadable(#[from] AudioError),
    /// Parts of it cannot be decoded.
    #[error("{path}: {packets} packets cannot be decoded; copy or record it again")]
    Damaged {
        /// The audio file.
        path: PathBuf,
        /// How many packets.
        packets: u64,
    },
    /// Its archive cannot be read as far as to it. Copy the archive again.
    #[error("{path}: broken after member {after:?}: {reason}")]
    Tar {
        /// The archive.
        path: PathBuf,
        /// The last member that was seen; empty if there was none.
        after: String,
        /// What is wrong there.
        reason: String,
    },
    /// Its archive does not have it. The archive belongs to another manifest, or is incomplete.
    #[error("{path} holds no member {member:?}")]
    NoMember {
        /// The archive.
        path: PathBuf,
        /// The name in the manifest.
        member: String,
    },
    /// It is larger than a member of an archive may be. Cut it to its utterances.
    #[error("{path}: member {member:?} has {found} bytes, expected at most {limit}")]
    LargeMember {
        /// The archive.
        path: PathBuf,
        /// The member.
        member: String,
        /// Its size in bytes.
        found: u64,
        /// The most bytes.
        limit: u64,
    },
    /// It ends before the line says. Copy it again or correct the line.
    #[error("{path}: expected sound up to {expected:.2} s, it ends at {found:.2} s")]
    Short {
        /// The audio file.
        path: PathBuf,
        /// Where the line's part of it should end, in seconds.
        expected: f64,
        /// Where the sound ends, in seconds.
        found: f64,
    },
}

/// What to do about a bad line or broken audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strictness {
    /// Warn, skip and count it.
    #[default]
    Lenient,
    /// Fail.
    Strict,
}

/// Fails unless a setting holds.
pub(super) fn require(
    field: &'static str,
    expected: impl Into<String>,
    found: impl std::fmt::Debug,
    holds: bool,
) -> Result<(), DataError> {
    if holds {
        return Ok(());
    }
    Err(DataError::Config {
        field,
        expected: expected.into(),
        found: format!("{found:?}"),
    })
}
