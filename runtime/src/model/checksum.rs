use std::fmt::Write as _;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::PackageError;

/// The SHA-256 of a file's bytes, in 64 small hexadecimal digits, as `sha256sum` prints it.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        // Writing into a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

/// Compares the bytes of a file with what `config.json` says of it, if it says anything.
pub(super) fn check(
    bytes: &[u8],
    expected: Option<&String>,
    path: &Path,
) -> Result<(), PackageError> {
    let Some(expected) = expected else {
        return Ok(());
    };
    let found = sha256(bytes);
    if found.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(PackageError::Checksum {
        path: path.to_owned(),
        expected: expected.clone(),
        found,
    })
}
