//! The queue of batched streams, in every order in which its threads can come and go.
//!
//! loom plays them through: a wake-up that is lost, a stream that gets another's result and a run that is led twice at a
//! time all show, however seldom they would happen.

#![cfg(any(feature = "ort", feature = "tract"))]
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, Ordering};

use loom::sync::Arc;
use loom::sync::atomic::AtomicUsize;
use loom::thread;

use self::queue::Queue;

#[path = "../src/engine/batched/queue.rs"]
mod queue;
mod sync {
    pub(super) use loom::sync::{Condvar, Mutex, MutexGuard};
}

struct Seat {
    stream: u64,
    /// Comes back tenfold.
    value: u64,
}

struct Run {
    room: usize,
    aboard: Vec<Seat>,
    /// Led just now: std's, so that loom switches threads once within a run and no oftener.
    busy: AtomicBool,
    /// Seats, in all runs.
    computed: Arc<AtomicUsize>,
}

impl queue::Run for Run {
    type Seat = Seat;

    fn stream(seat: &Seat) -> u64 {
        seat.stream
    }

    fn worth(&self, waiting: usize) -> usize {
        waiting.min(self.room)
    }

    fn aboard(&mut self) -> &mut Vec<Seat> {
        &mut self.aboard
    }

    fn lead(&mut self) {
        assert!(!self.aboard.is_empty());
        assert!(!self.busy.swap(true, Ordering::SeqCst));
        for seat in &mut self.aboard {
            seat.value *= 10;
        }
        let count = self.aboard.len();
        self.computed.fetch_add(count, Ordering::Relaxed);
        self.busy.store(false, Ordering::SeqCst);
    }
}

/// Every order of a thread for each of these streams, of so many steps, at `runs` runs with room for `room`: those orders with at
/// most `preemptions` switches that no lock asked for.
fn in_every_order<const STREAMS: usize>(
    steps: [u64; STREAMS],
    runs: usize,
    room: usize,
    preemptions: impl Into<Option<usize>>,
) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = preemptions.into();
    model.check(move || {
        let computed = Arc::new(AtomicUsize::new(0));
        let idle = (0..runs).map(|_| Run {
            room,
            aboard: Vec::new(),
            busy: AtomicBool::new(false),
            computed: Arc::clone(&computed),
        });
        let queue = Arc::new(Queue::new(idle.collect()));
        let walk = |stream: usize| {
            let queue = Arc::clone(&queue);
            move || {
                for step in 0..steps[stream] {
                    let stream = stream as u64;
                    let value = stream * 100 + step;
                    let seat = queue.pass(Seat { stream, value });
                    assert_eq!((seat.stream, seat.value), (stream, value * 10));
                }
            }
        };
        let others: Vec<_> = (1..STREAMS).map(|s| thread::spawn(walk(s))).collect();
        walk(0)();
        others.into_iter().for_each(|other| other.join().unwrap());
        let passed = computed.load(Ordering::Relaxed);
        assert_eq!(passed as u64, steps.iter().sum());
        let board = queue.lock();
        assert_eq!((board.waiting.len(), board.idle.len()), (0, runs));
    });
}

#[test]
fn two_streams_at_one_run() {
    in_every_order([2, 2], 1, 1, None);
    in_every_order([2, 2], 1, 2, None);
}

#[test]
fn three_streams_at_one_run() {
    in_every_order([1, 1, 1], 1, 1, None);
    in_every_order([1, 1, 1], 1, 2, None);
    in_every_order([1, 1, 1], 1, 3, None);
}

/// One comes again before those wake who were told that the run is free, and leads them.
#[test]
fn four_streams_at_one_run() {
    in_every_order([2, 1, 1, 1], 1, 1, 2);
    in_every_order([2, 1, 1, 1], 1, 2, 2);
}

/// One wakes whose seat another leads already, while the other run is free.
#[test]
fn four_streams_at_two_runs() {
    in_every_order([1, 1, 1, 1], 2, 2, 3);
}
