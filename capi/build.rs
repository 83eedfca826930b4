//! Gives the shared library its name for the dynamic linker: one per incompatible version, which is
//! `0.MINOR` before 1.0. `install` lays it out by the same rule.

use std::env::var;

fn main() -> Result<(), std::env::VarError> {
    println!("cargo::rerun-if-changed=build.rs");
    let mut version = var("CARGO_PKG_VERSION_MAJOR")?;
    if version == "0" {
        version = format!("0.{}", var("CARGO_PKG_VERSION_MINOR")?);
    }
    match var("CARGO_CFG_TARGET_OS")?.as_str() {
        // Apps of Android carry their own copy: no version there.
        "linux" => println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libsori.so.{version}"),
        "macos" | "ios" => {
            println!(
                "cargo::rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libsori.{version}.dylib"
            );
        }
        _ => {}
    }
    Ok(())
}
