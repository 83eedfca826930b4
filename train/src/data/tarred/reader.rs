//! Reads archives from end to end.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use tar::{Archive, PaxExtensions};

use super::buffer::Buffer;
use crate::data::audio::fault;
use crate::data::chance::Hearing;
use crate::data::corpus::Corpus;
use crate::data::error::{AudioFault, DataError};
use crate::data::manifest::Entry;

/// Most bytes of a member: half an hour of uncompressed stereo.
pub(super) const MEMBER_LIMIT: u64 = 512 << 20;

/// Most bytes of a member's name.
const NAME_LIMIT: u64 = 64 << 10;

/// Most bytes that wait in memory for each second of a window; 16 kHz in FLAC has 17,000, a compact disc
/// 176,400.
const BYTES_PER_SECOND: f64 = 200_000.0;

/// Besides, so that small windows hold a few members with much around what is used of them.
const LEAST_LIMIT: f64 = MEMBER_LIMIT as f64;

/// Bytes that are asked of the file system at once.
const READ_AHEAD: usize = 1 << 20;

/// What a member's name ends with if it is audio; others may lie beside it under the same name.
const AUDIO: [&str; 15] = [
    "aac", "aif", "aiff", "caf", "flac", "m4a", "mka", "mkv", "mp3", "mp4", "oga", "ogg", "opus",
    "wav", "webm",
];

/// The thread that fills a [`Buffer`].
pub(in crate::data) struct Reader {
    corpus: Corpus,
    buffer: Arc<Buffer>,
    /// Where the last window stopped in an archive, in bytes: by part and archive.
    stopped_at: HashMap<(usize, u32), u64>,
}

/// What is wanted of an archive: by the name of the member up to its first dot.
type Wanted = HashMap<String, Vec<(Hearing, Entry)>>;

/// Why an archive gives nothing more.
struct Broken {
    /// The last member that was seen.
    after: String,
    reason: io::Error,
}

/// Ends the waiting for members when the thread ends before all is read, however it does.
struct Ending {
    buffer: Arc<Buffer>,
    all_read: bool,
}

impl Drop for Ending {
    fn drop(&mut self) {
        if !self.all_read {
            self.buffer.stop();
        }
    }
}

impl Reader {
    pub(in crate::data) fn new(corpus: Corpus, buffer: Arc<Buffer>) -> Self {
        Self {
            corpus,
            buffer,
            stopped_at: HashMap::new(),
        }
    }

    /// Reads window after window, each the hearings of one process, until there are no more.
    pub(in crate::data) fn run(mut self, windows: &Receiver<Vec<Hearing>>) {
        let mut ending = Ending {
            buffer: self.buffer.clone(),
            all_read: false,
        };
        for hearings in windows {
            if self.read(&hearings).is_none() {
                return;
            }
        }
        ending.all_read = true;
    }

    /// `None` if nobody wants anything any more.
    fn read(&mut self, hearings: &[Hearing]) -> Option<()> {
        let shard = |hearing: &Hearing| {
            let shard = self.corpus.shard(hearing.utterance as usize)?;
            Some((shard, *hearing))
        };
        let tarred: Vec<_> = hearings.iter().filter_map(shard).collect();
        if tarred.is_empty() {
            return Some(());
        }
        let window = self.buffer.open(tarred.len())?;
        let mut seconds = 0.0;
        let mut archives = BTreeMap::<_, Wanted>::new();
        for (shard, hearing) in tarred {
            match self.corpus.entry(hearing.utterance as usize) {
                Ok(entry) => {
                    seconds += entry.duration;
                    let wanted = archives.entry(shard).or_default();
                    let same = wanted.entry(stem(&entry.audio).into()).or_default();
                    same.push((hearing, entry));
                }
                Err(error) => self.buffer.put(window, hearing, Err(error)),
            }
        }
        let limit = (seconds * BYTES_PER_SECOND).max(LEAST_LIMIT) as u64;
        let mut left = limit;
        for (shard, mut wanted) in archives {
            let corpus = self.corpus.clone();
            let shards = corpus.parts()[shard.0].shards.as_ref()?;
            let path = shards.tars.path(shard.1);
            // The window before may have stopped in the middle of this archive, and what is wanted is
            // behind that as a rule; if not, it is looked for from the beginning.
            let from = self.stopped_at.remove(&shard).unwrap_or(0);
            let mut ended = self.pass(window, path, from, &mut wanted, &mut left);
            if from > 0 && !wanted.is_empty() && ended.is_ok() {
                ended = self.pass(window, path, 0, &mut wanted, &mut left);
            }
            if self.buffer.is_stopped() {
                return None;
            }
            if let Ok(at) = ended {
                self.stopped_at.insert(shard, at);
            }
            for (hearing, entry) in wanted.into_values().flatten() {
                let reason = match &ended {
                    Ok(_) => AudioFault::NoMember {
                        path: path.into(),
                        member: entry.audio.clone(),
                    },
                    Err(Broken { after, reason }) => AudioFault::Tar {
                        path: path.into(),
                        after: after.clone(),
                        reason: reason.to_string(),
                    },
                };
                self.buffer.put(window, hearing, Err(fault(&entry, reason)));
            }
        }
        Some(())
    }

    /// Reads an archive from some byte on until nothing more is wanted of it; returns where that was.
    fn pass(
        &self,
        window: u64,
        path: &Path,
        from: u64,
        wanted: &mut Wanted,
        left: &mut u64,
    ) -> Result<u64, Broken> {
        let mut after = String::new();
        let mut read = || -> io::Result<u64> {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(from))?;
            let mut archive = Archive::new(BufReader::with_capacity(READ_AHEAD, file));
            let mut long_name = None;
            // Raw, since the crate would read a long name of any length into memory.
            for member in archive.entries()?.raw(true) {
                let mut member = member?;
                let kind = member.header().entry_type();
                if kind.is_gnu_longname() || kind.is_pax_local_extensions() {
                    let mut bytes = Vec::new();
                    if member.size() > NAME_LIMIT {
                        return Err(io::Error::other("a member's name has no end"));
                    }
                    member.read_to_end(&mut bytes)?;
                    match kind.is_gnu_longname() {
                        true => long_name = Some(bytes),
                        false => long_name = path_of(&bytes).or(long_name),
                    }
                    continue;
                }
                if kind.is_gnu_longlink() || kind.is_pax_global_extensions() {
                    continue;
                }
                let name = long_name.take().unwrap_or(member.path_bytes().into());
                let name = String::from_utf8_lossy(&name);
                let name = name.trim_end_matches('\0');
                after = name.chars().take(200).collect();
                if !is_audio(name) || !kind.is_file() {
                    continue;
                }
                if !wanted.contains_key(stem(name)) {
                    continue;
                }
                // What is wanted stays so until it is read: an archive may end here.
                let found = take(&mut member, left)?;
                let hearings = wanted.remove(stem(name)).unwrap_or_default();
                self.put(window, path, name, &found, hearings);
                if wanted.is_empty() || self.buffer.is_stopped() {
                    let end = member.raw_file_position() + member.size().next_multiple_of(512);
                    return Ok(from + end);
                }
            }
            Ok(0)
        };
        read().map_err(|reason| Broken { after, reason })
    }

    /// Hands a member to all hearings of it.
    fn put(
        &self,
        window: u64,
        path: &Path,
        member: &str,
        found: &Taken,
        hearings: Vec<(Hearing, Entry)>,
    ) {
        for (hearing, entry) in hearings {
            let (path, member) = (path.into(), member.into());
            let found = match found {
                Taken::Bytes(bytes) => Ok(bytes.clone()),
                Taken::TooLarge(found) => Err(fault(
                    &entry,
                    AudioFault::LargeMember {
                        path,
                        member,
                        found: *found,
                        limit: MEMBER_LIMIT,
                    },
                )),
                Taken::NoRoom => Err(DataError::FullBuffer { path, member }),
            };
            self.buffer.put(window, hearing, found);
        }
    }
}

/// A member that was come upon.
enum Taken {
    Bytes(Arc<[u8]>),
    /// It has so many bytes.
    TooLarge(u64),
    NoRoom,
}

/// Reads a member, if there is room for it.
fn take(member: &mut tar::Entry<'_, impl Read>, left: &mut u64) -> io::Result<Taken> {
    let size = member.size();
    if size > MEMBER_LIMIT {
        return Ok(Taken::TooLarge(size));
    }
    if size > *left {
        return Ok(Taken::NoRoom);
    }
    *left -= size;
    // The size is not believed before the bytes are there.
    let mut bytes = Vec::with_capacity(size.min(READ_AHEAD as u64) as usize);
    member.read_to_end(&mut bytes)?;
    if bytes.len() as u64 != size {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the archive ends in the middle of this member",
        ));
    }
    Ok(Taken::Bytes(bytes.into()))
}

/// A member's name up to its first dot. NeMo's manifests have `-sub1` and so on behind the names of
/// further lines about the same member.
fn stem(name: &str) -> &str {
    let name = name.trim_start_matches("./");
    let folder = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = name[folder..].find('.').unwrap_or(name.len() - folder);
    let stem = &name[..folder + dot];
    match stem.rsplit_once("-sub") {
        Some((member, number)) if number.parse::<u32>().is_ok() => member,
        _ => stem,
    }
}

pub(super) fn is_audio(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    extension.is_some_and(|found| AUDIO.iter().any(|known| found.eq_ignore_ascii_case(known)))
}

/// The name in an extended header.
fn path_of(extensions: &[u8]) -> Option<Vec<u8>> {
    let path = |extension: io::Result<tar::PaxExtension<'_>>| {
        let extension = extension.ok()?;
        (extension.key_bytes() == b"path").then(|| extension.value_bytes().to_vec())
    };
    PaxExtensions::new(extensions).find_map(path)
}
