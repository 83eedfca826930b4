//! The queue at the runs: who waits, who leads, who is done.
//!
//! `sync` is std's here and a model checker's in `tests/queue.rs`, which has this file played through in every order.

use std::collections::VecDeque;
use std::sync::PoisonError;

use super::sync::{Condvar, Mutex, MutexGuard};

/// Computes several seats at once, led by one thread at a time.
pub(super) trait Run {
    /// A stream's input on the way there, its result on the way back.
    type Seat;

    /// Whose seat it is: no two at a time are of the same stream.
    fn stream(seat: &Self::Seat) -> u64;

    /// How many of `waiting` seats, one at least, to take at once.
    fn worth(&self, waiting: usize) -> usize;

    /// Empty when the run is idle.
    fn aboard(&mut self) -> &mut Vec<Self::Seat>;

    /// Computes all who are aboard. Must not panic: the others' threads would wait for ever.
    fn lead(&mut self);
}

pub(super) struct Queue<R: Run> {
    board: Mutex<Board<R>>,
    /// A run has ended: some have their results, and another may begin.
    changed: Condvar,
}

pub(super) struct Board<R: Run> {
    pub(super) waiting: VecDeque<R::Seat>,
    /// To be fetched by the threads that brought them.
    done: Vec<R::Seat>,
    pub(super) idle: Vec<R>,
}

impl<R: Run> Queue<R> {
    pub(super) fn new(idle: Vec<R>) -> Self {
        Self {
            board: Mutex::new(Board {
                waiting: VecDeque::new(),
                done: Vec::new(),
                idle,
            }),
            changed: Condvar::new(),
        }
    }

    /// Returns when the seat has its result: it was computed by this thread or by another.
    pub(super) fn pass(&self, seat: R::Seat) -> R::Seat {
        let stream = R::stream(&seat);
        let of_stream = |seat: &R::Seat| R::stream(seat) == stream;
        let mut board = self.lock();
        board.waiting.push_back(seat);
        loop {
            if let Some(place) = board.done.iter().position(of_stream) {
                return board.done.swap_remove(place);
            }
            // Every seat that waits has its thread here, so each run that ends finds somebody for the next.
            let waits = board.waiting.iter().any(of_stream);
            let Some(mut run) = waits.then(|| board.idle.pop()).flatten() else {
                let woken = self.changed.wait(board);
                board = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let count = run.worth(board.waiting.len());
            run.aboard().extend(board.waiting.drain(..count));
            drop(board);
            run.lead();
            board = self.lock();
            board.done.append(run.aboard());
            board.idle.push(run);
            self.changed.notify_all();
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Board<R>> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
