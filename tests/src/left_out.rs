//! Tests that are left out say so. What a passing test prints with `println!` or `eprintln!` is captured: nobody
//! would know.

use std::fmt::Display;
use std::io::Write as _;

/// Tells why a test is left out, for want of something that can be installed.
///
/// # Panics
/// Where `CI` is set: there nothing may lack.
pub fn skipped(reason: impl Display) {
    assert!(
        std::env::var_os("CI").is_none(),
        "left out, which CI must not pass over: {reason}"
    );
    not_for_this_machine(reason);
}

/// Tells why a test is left out on this machine, for what its processor or its system cannot do.
pub fn not_for_this_machine(reason: impl Display) {
    // Where this cannot be written to, nobody reads it.
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
}
