//! The command for ARM, under emulation: the words of this machine, and a size for small boards.
//!
//! Needs what `scripts/setup all` installs; emulation shows that it is right, never how fast it is.

#![cfg(all(feature = "cli", target_os = "linux", target_arch = "x86_64"))]
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/tone");
/// Exit status of a script that lacks a tool.
const MISSING: i32 = 3;

#[test]
#[ignore = "cold, it compiles tract for ARM for a quarter of an hour: make test-arm64"]
fn on_64_bit_arm_the_words_are_the_same() {
    the_words_are_the_same("arm64", "qemu-aarch64", "/usr/aarch64-linux-gnu");
}

#[test]
#[ignore = "cold, it compiles tract for ARM for a quarter of an hour: make test-armv7"]
fn on_32_bit_arm_the_words_are_the_same() {
    the_words_are_the_same("armv7", "qemu-arm", "/usr/arm-linux-gnueabihf");
}

fn the_words_are_the_same(board: &str, emulator: &str, libraries: &str) {
    let built = Command::new(format!("{ROOT}/scripts/arm"))
        .arg(board)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&built.stderr);
    // CI must not pass over it.
    if built.status.code() == Some(MISSING) && std::env::var_os("CI").is_none() {
        eprintln!("skipped: {}", told.trim());
        return;
    }
    assert!(built.status.success(), "{told}");
    let path = String::from_utf8(built.stdout).unwrap();
    let program = Path::new(ROOT).join(path.trim());
    let size = program.metadata().unwrap().len() as f64 / 1e6;

    let arguments = [
        "transcribe",
        "--engine",
        "tract",
        "--format",
        "json",
        "--model",
        MODEL,
        &format!("{MODEL}/sample.wav"),
    ];
    let here = Command::new(env!("CARGO_BIN_EXE_sori"))
        .args(arguments)
        .output()
        .unwrap();
    // With the loader's own C library: beside that of another version, which Debian's `libc6:arm64` may be, a program
    // hangs when it starts a thread.
    let there = Command::new("timeout")
        .args(["--kill-after", "5", "120"])
        .args(["/usr/bin/time", "-f", "%M", emulator])
        .args(["-E", &format!("LD_LIBRARY_PATH={libraries}/lib")])
        .args(["-L", libraries])
        .arg(&program)
        .args(arguments)
        .output()
        .unwrap();
    let (said, told) = (
        String::from_utf8_lossy(&there.stdout),
        String::from_utf8_lossy(&there.stderr),
    );
    assert!(there.status.success(), "{told}");
    let words = |json: &str| -> Vec<(String, f64, f64)> {
        let document: serde_json::Value = serde_json::from_str(json).unwrap();
        let segments = document["segments"].as_array().unwrap().clone();
        segments
            .iter()
            .flat_map(|segment| segment["words"].as_array().unwrap())
            .map(|word| {
                let seconds = |name: &str| word[name].as_f64().unwrap();
                let text = word["word"].as_str().unwrap().to_owned();
                (text, seconds("start"), seconds("end"))
            })
            .collect()
    };
    let expected = words(&String::from_utf8_lossy(&here.stdout));
    assert_eq!(expected.len(), 5);
    assert_eq!(words(&said), expected);
    let peak = told.lines().last().unwrap().parse::<f64>().unwrap() / 1024.0;
    println!("{board}: {size:.1} MB on disk, {peak:.0} MB of memory with the emulator's own");
}
