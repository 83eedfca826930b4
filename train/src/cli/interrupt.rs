//! Ctrl-C: once to save and stop, twice to stop at once.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use sori_train::torch;

/// The shell's status of a program that was interrupted.
pub(super) const STATUS: u8 = 130;

/// Whether to save and stop.
pub(super) static STOP: AtomicBool = AtomicBool::new(false);

/// From now on an interrupt sets [`STOP`], and a second one ends the program.
pub(super) fn listen() -> anyhow::Result<()> {
    listen_and_say("finishing this step and saving")
}

/// As [`listen`], with other words about what happens then.
pub(super) fn listen_and_say(what: &'static str) -> anyhow::Result<()> {
    ctrlc::set_handler(move || {
        if STOP.swap(true, Ordering::Relaxed) {
            torch::end(STATUS);
        }
        eprintln!("sori-train: {what}; once more to end at once");
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
