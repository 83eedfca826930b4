//! Changes to a package that is there already.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sori_train::whole_file;

/// Sets one field of `config.json`, whole or not at all; the others stay as they are.
///
/// # Errors
/// The file, and the system's reason.
pub(crate) fn set(package: &Path, field: &str, value: Value) -> Result<(), (PathBuf, io::Error)> {
    let path = package.join("config.json");
    let change = || {
        let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
        config[field] = value;
        replace(
            &path,
            (serde_json::to_string_pretty(&config)? + "\n").as_bytes(),
        )
    };
    change().map_err(|reason| (path.clone(), reason))
}

/// Puts a file in the place of another, which programs may have mapped: it is never written into.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    whole_file::write(path, |part| fs::write(part, bytes))
}
