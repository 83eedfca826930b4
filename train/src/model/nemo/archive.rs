//! Files inside a `.nemo` archive: tar, in older ones compressed with gzip.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::error::NemoErrorKind;

const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Weights hardly compress. An archive that grows more than so many times is made to harm.
const GROWTH: u64 = 100;

/// Reads the file `member` of the archive at `path`, at most `limit` bytes of it. NeMo puts a number before the names of
/// some files, and `_`: that may stand there, too.
pub(super) fn read(
    path: &Path,
    member: &'static str,
    limit: u64,
) -> Result<Vec<u8>, NemoErrorKind> {
    let archive = |reason| NemoErrorKind::Archive { reason };
    let file = File::open(path).map_err(archive)?;
    let most = file
        .metadata()
        .map_err(archive)?
        .len()
        .saturating_mul(GROWTH);
    let mut file = BufReader::new(file);
    let mut magic = [0; 2];
    file.read_exact(&mut magic).map_err(archive)?;
    file.rewind().map_err(archive)?;
    let content: Box<dyn Read> = if magic == GZIP {
        Box::new(MultiGzDecoder::new(file).take(most))
    } else {
        Box::new(file)
    };

    let mut tar = tar::Archive::new(content);
    for entry in tar.entries().map_err(archive)? {
        let entry = entry.map_err(archive)?;
        // Members are called "./name"; a path's file name is that without the dot.
        let found = entry.path().map_err(archive)?;
        let name = found.strip_prefix(".").unwrap_or(&found).to_string_lossy();
        let numbered = name.split_once('_').map(|(_, name)| name);
        if name != member && numbered != Some(member) {
            continue;
        }
        let mut bytes = Vec::new();
        entry
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(archive)?;
        if bytes.len() as u64 > limit {
            return Err(NemoErrorKind::TooLarge { member, limit });
        }
        return Ok(bytes);
    }
    Err(NemoErrorKind::Missing { member })
}
