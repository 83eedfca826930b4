//! Files in memory without a copy of them.

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;

/// Maps a file. One that somebody changes meanwhile shows the change; one that somebody shortens ends the
/// program where the missing part is read.
///
/// # Errors
/// The system's; [`io::ErrorKind::InvalidInput`] for what is no regular file, such as a pipe, which cannot be
/// mapped.
pub(crate) fn map(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    // The system's message for a pipe would say nothing.
    if !file.metadata()?.is_file() {
        let reason = "not a regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    // SAFETY: the map is read-only. Whoever changes the file below it breaks the contract above; all that
    // read from maps check what they read, at each reading, so that wrong contents give wrong results only.
    #[expect(unsafe_code, reason = "a file can be mapped in no other way")]
    unsafe {
        Mmap::map(&file)
    }
}
