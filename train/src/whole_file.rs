//! Files that appear whole, once all of them is on the disk, or not at all.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Lets `fill` write a file under another name, then gives it its own. The folder is made if need be.
pub(crate) fn write(path: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    let part = path.with_added_extension("part");
    fill(&part)?;
    File::open(&part)?.sync_all()?;
    fs::rename(&part, path)?;
    // The new name is on the disk when the folder is.
    File::open(folder)?.sync_all()
}
