//! Files that appear whole, once all of them is on the disk, or not at all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Lets `fill` write a file under another name, then gives it its own. The folder is made if need be.
/// What there was under that name before stays if anything fails, and nothing else is left then.
///
/// # Errors
/// What `fill` gives, or the system's reason why the file cannot have its name.
pub fn write(path: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    fs::create_dir_all(folder(path))?;
    let part = part(path);
    let written = fill(&part).and_then(|()| settle(&part, path));
    if written.is_err() {
        // On a full disk its room is needed. That it cannot be removed is not what went wrong first.
        let _ = fs::remove_file(&part);
    }
    written
}

/// The name of a file until all of it is written.
pub(crate) fn part(path: &Path) -> PathBuf {
    path.with_added_extension("part")
}

/// Gives a file that is written to the end its own name, once it is on the disk.
pub(crate) fn settle(part: &Path, path: &Path) -> io::Result<()> {
    File::open(part)?.sync_all()?;
    fs::rename(part, path)?;
    // The new name is on the disk when the folder is.
    File::open(folder(path))?.sync_all()
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}
