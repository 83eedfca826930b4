//! Members that were read and are not used yet.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::data::chance::Hearing;
use crate::data::error::DataError;

/// Windows at once: one is used while the next is read.
const WINDOWS: usize = 2;

/// A member's bytes, or why they cannot be had.
pub(in crate::data) type Found = Result<Arc<[u8]>, DataError>;

/// Between the thread that reads archives and those that make batches.
///
/// What is read comes in windows, which are all of one process's batches within which a source's speech is
/// mixed. A window is begun once the last but one is used up.
#[derive(Default)]
pub(in crate::data) struct Buffer {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    found: HashMap<Hearing, (u64, Found)>,
    /// Numbers of windows, and the hearings of them that are not taken yet.
    open: VecDeque<(u64, usize)>,
    windows: u64,
    stopped: bool,
}

impl Buffer {
    /// Begins a window of so many hearings, once there is room for it. `None` if nobody wants it any
    /// more.
    pub(super) fn open(&self, hearings: usize) -> Option<u64> {
        let full = |state: &mut State| !state.stopped && state.open.len() >= WINDOWS;
        let state = self.changed.wait_while(self.lock(), full);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        if state.stopped {
            return None;
        }
        state.windows += 1;
        let window = state.windows;
        state.open.push_back((window, hearings));
        Some(window)
    }

    pub(super) fn put(&self, window: u64, hearing: Hearing, found: Found) {
        self.lock().found.insert(hearing, (window, found));
        self.changed.notify_all();
    }

    /// Waits for what is heard, which can be taken once. `None` if it will not come any more.
    pub(in crate::data) fn take(&self, hearing: Hearing) -> Option<Found> {
        let missing = |state: &mut State| !state.stopped && !state.found.contains_key(&hearing);
        let state = self.changed.wait_while(self.lock(), missing);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        let (window, found) = state.found.remove(&hearing)?;
        for (number, left) in &mut state.open {
            if *number == window {
                *left -= 1;
            }
        }
        state.open.retain(|&(_, left)| left > 0);
        self.changed.notify_all();
        Some(found)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Ends all waiting.
    pub(in crate::data) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
