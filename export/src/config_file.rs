//! Changes to the `config.json` of a package that is there already.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Sets one field, whole or not at all; the others stay as they are.
///
/// # Errors
/// The file, and the system's reason.
pub(crate) fn set(package: &Path, field: &str, value: Value) -> Result<(), (PathBuf, io::Error)> {
    let path = package.join("config.json");
    let change = || {
        let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
        config[field] = value;
        let beside = package.join("config.json.new");
        fs::write(&beside, serde_json::to_string_pretty(&config)? + "\n")?;
        fs::rename(&beside, &path)
    };
    change().map_err(|reason| (path.clone(), reason))
}
