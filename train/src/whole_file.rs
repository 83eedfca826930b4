//! Files that appear whole, once all of them is on the disk, or not at all.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Lets `fill` write a file under another name, then gives it its own. The folder is made if need be.
/// What there was under that name before stays if anything fails.
pub(crate) fn write(path: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    let part = path.with_added_extension("part");
    let written = fill(&part)
        .and_then(|()| File::open(&part)?.sync_all())
        .and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        // On a full disk its room is needed. That it cannot be removed is not what went wrong first.
        let _ = fs::remove_file(&part);
    }
    written?;
    // The new name is on the disk when the folder is.
    File::open(folder)?.sync_all()
}
