//! Finds a fitting ONNX Runtime library before `ort` would look for one by itself, because `ort`
//! panics where it finds none or an old one.

use std::env;
use std::path::{Path, PathBuf};

use super::EngineError;

/// Opens the first usable library of: `ORT_DYLIB_PATH` (a file, or a directory that holds it), the
/// directory of the executable, the system's loader path. A value in `ORT_DYLIB_PATH` is an order:
/// when it does not fit, nothing else is tried.
pub(super) fn open() -> Result<(ort::environment::EnvironmentBuilder, PathBuf), EngineError> {
    let mut tried = Vec::new();
    for candidate in candidates() {
        // `ort` looks beside the executable first for a relative path; an absolute one, or a bare
        // name for the loader, is taken as it is.
        match ort::init_from(&candidate) {
            Ok(builder) => return Ok((builder, candidate)),
            Err(error) => tried.push(describe(&candidate, &error)),
        }
    }
    if tried.is_empty() {
        tried.push("none beside the executable".to_owned());
    }
    Err(EngineError::NoLibrary {
        tried: tried.join("; "),
        minimum: ort::MINOR_VERSION,
    })
}

fn describe(candidate: &Path, error: &ort::LoadDynamicError) -> String {
    match error {
        ort::LoadDynamicError::BadVersion { version_str, .. } => {
            format!("{}: version {version_str} is too old", candidate.display())
        }
        ort::LoadDynamicError::MissingApi { .. } => {
            format!("{}: not ONNX Runtime", candidate.display())
        }
        _ if candidate.is_file() => format!("{}: cannot be loaded", candidate.display()),
        _ => format!("{}: not found", candidate.display()),
    }
}

fn candidates() -> Vec<PathBuf> {
    if let Some(path) = env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        return if path.is_dir() {
            in_directory(&path)
        } else {
            vec![path]
        };
    }
    let beside = env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(in_directory))
        .unwrap_or_default();
    let names = LOADER_NAMES.iter().map(PathBuf::from);
    beside.into_iter().chain(names).collect()
}

/// Names that the system's loader is asked for, unversioned first.
const LOADER_NAMES: &[&str] = if cfg!(windows) {
    &["onnxruntime.dll"]
} else if cfg!(target_vendor = "apple") {
    &["libonnxruntime.dylib"]
} else {
    &["libonnxruntime.so", "libonnxruntime.so.1"]
};

/// The library files of a directory, whatever version their names carry; newest name first.
fn in_directory(directory: &Path) -> Vec<PathBuf> {
    let stem = LOADER_NAMES[0].split('.').next().unwrap_or_default();
    let mut found: Vec<PathBuf> = directory
        .read_dir()
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| {
                    let rest = name.strip_prefix(stem).unwrap_or_default();
                    [".so", ".dylib", ".dll", "."]
                        .iter()
                        .any(|ending| rest.starts_with(ending))
                })
        })
        .collect();
    found.sort();
    found.reverse();
    found
}
