//! Ctrl-C and other signals to end: what was heard until then is said before the process goes.

use std::io::{self, Cursor, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;

/// How long a read waits for input, and so how soon a signal is answered.
const PATIENCE: Duration = Duration::from_millis(100);
const BLOCK: usize = 1 << 16;

/// A flag that the first Ctrl-C (or termination signal) raises; the second ends the process.
pub(super) fn stop_on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if raised.swap(true, Ordering::Relaxed) {
            std::process::exit(1);
        }
    })
    .context("cannot catch Ctrl-C")?;
    Ok(stop)
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
