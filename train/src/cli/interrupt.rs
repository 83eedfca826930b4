//! Ctrl-C and other signals to end: once to save and stop, twice to stop at once.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::{SigHandler, Signal, signal};
use sori_train::torch;

/// The shell's status of a program that was interrupted.
pub(super) const STATUS: u8 = 130;

/// In a process of a job signals that come so soon after the first are the same once more: a terminal sends Ctrl-C to
/// all of them, and the one that started them passes it on.
const ECHO: Duration = Duration::from_millis(400);

/// Whether to save and stop.
pub(super) static STOP: AtomicBool = AtomicBool::new(false);

/// From now on a signal to end sets [`STOP`], and a second one ends the program.
pub(super) fn listen() -> anyhow::Result<()> {
    listen_and_say("finishing this step and saving")
}

/// As [`listen`], with other words about what happens then.
pub(super) fn listen_and_say(what: &'static str) -> anyhow::Result<()> {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let echo = match std::env::var_os("WORLD_SIZE") {
        Some(_) => ECHO,
        None => Duration::ZERO,
    };
    catch(move || {
        let first = FIRST.get_or_init(Instant::now);
        if !STOP.swap(true, Ordering::Relaxed) {
            eprintln!("sori-train: {what}; once more to end at once");
        } else if first.elapsed() >= echo {
            torch::end(STATUS);
        }
    })
}

/// From now on a signal to end does nothing here but set [`STOP`]: it is for the processes that this one
/// waits for.
pub(super) fn listen_for_others() -> anyhow::Result<()> {
    catch(|| STOP.store(true, Ordering::Relaxed))
}

/// Has a handler called for every signal to end; not for a hang-up where `nohup` had it ignored, as it is to outlast
/// its terminal.
fn catch(handler: impl FnMut() + Send + 'static) -> anyhow::Result<()> {
    let ignore = || {
        // SAFETY: a signal that is ignored runs no code.
        #[expect(unsafe_code, reason = "other handlers could do anything")]
        unsafe {
            signal(Signal::SIGHUP, SigHandler::SigIgn)
        }
    };
    let before = ignore()?;
    ctrlc::set_handler(handler).context("cannot listen for signals to end")?;
    if matches!(before, SigHandler::SigIgn) {
        ignore()?;
    }
    Ok(())
}

/// Whether there was a signal to end.
pub(super) fn stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Whether there was a signal to end since this was last asked.
pub(super) fn take() -> bool {
    STOP.swap(false, Ordering::Relaxed)
}
