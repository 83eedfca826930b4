//! Ctrl-C: once to save and stop, twice to stop at once.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;

/// The shell's status of a program that was interrupted.
pub(super) const STATUS: u8 = 130;

/// Whether to save and stop.
pub(super) static STOP: AtomicBool = AtomicBool::new(false);

/// From now on an interrupt sets [`STOP`], and a second one ends the program.
pub(super) fn listen() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(STATUS.into());
        }
        eprintln!("sori-train: finishing this step and saving; once more to end at once");
    })
    .context("cannot listen for interrupts")
}

/// From now on an interrupt does nothing here: it is for the processes that this one waits for.
pub(super) fn listen_quietly() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {}).context("cannot listen for interrupts")
}

/// Whether there was an interrupt.
pub(super) fn stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}
