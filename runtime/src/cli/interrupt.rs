//! Ctrl-C and other signals to end: what was heard until then is said before the process goes.

use std::io::{self, Cursor, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
#[cfg(unix)]
use nix::sys::signal::{SigHandler, Signal, signal};

/// How long a read waits for input, and so how soon a signal is answered.
const PATIENCE: Duration = Duration::from_millis(100);
const BLOCK: usize = 1 << 16;

/// A flag that the first Ctrl-C (or termination signal) raises; the second ends the process.
pub(super) fn stop_on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&stop);
    catch(move || {
        if raised.swap(true, Ordering::Relaxed) {
            std::process::exit(1);
        }
    })?;
    Ok(stop)
}

/// Has a handler called for Ctrl-C and other signals to end.
pub(super) fn catch(handler: impl FnMut() + Send + 'static) -> anyhow::Result<()> {
    #[cfg(unix)]
    let before = ignore_hang_up()?;
    ctrlc::set_handler(handler).context("cannot catch Ctrl-C")?;
    // `nohup` had it ignored, for the program is to outlast its terminal.
    #[cfg(unix)]
    if matches!(before, SigHandler::SigIgn) {
        ignore_hang_up()?;
    }
    Ok(())
}

/// Returns what a hang-up did before.
#[cfg(unix)]
fn ignore_hang_up() -> nix::Result<SigHandler> {
    // SAFETY: a signal that is ignored runs no code.
    #[expect(unsafe_code, reason = "other handlers could do anything")]
    unsafe {
        signal(Signal::SIGHUP, SigHandler::SigIgn)
    }
}

/// Standard input, which is also over when the flag is raised: whoever writes it may be silent for
/// ever, and a read cannot be called off.
pub(super) struct Stdin {
    /// In a mutex, which nobody else ever locks, because decoders want input that is `Sync`.
    blocks: Mutex<Receiver<io::Result<Vec<u8>>>>,
    block: Cursor<Vec<u8>>,
    stop: Arc<AtomicBool>,
}

impl Stdin {
    pub(super) fn open(stop: Arc<AtomicBool>) -> Self {
        let (sender, blocks) = sync_channel(4);
        std::thread::spawn(move || {
            loop {
                let mut block = vec![0; BLOCK];
                let read = io::stdin().read(&mut block).map(|count| {
                    block.truncate(count);
                    block
                });
                let last = read.as_ref().map_or(true, Vec::is_empty);
                if sender.send(read).is_err() || last {
                    return;
                }
            }
        });
        Self {
            blocks: Mutex::new(blocks),
            block: Cursor::default(),
            stop,
        }
    }
}

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let blocks = self
            .blocks
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        while self.block.position() as usize == self.block.get_ref().len() {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(0);
            }
            match blocks.recv_timeout(PATIENCE) {
                Ok(block) => {
                    self.block = Cursor::new(block?);
                    if self.block.get_ref().is_empty() {
                        return Ok(0);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
            }
        }
        self.block.read(buffer)
    }
}
