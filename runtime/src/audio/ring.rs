//! Sound on its way from the sound system's thread to a reader, without locks, memory or waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ringbuf::traits::{Consumer, Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};

/// The writer's end.
pub(super) struct Filling {
    samples: HeapProd<f32>,
    lost: Arc<AtomicU64>,
}

/// The reader's end.
pub(super) struct Draining {
    samples: HeapCons<f32>,
    lost: Arc<AtomicU64>,
    /// Samples that were lost before the next that is taken.
    lost_before_next: u64,
}

/// A ring for so many samples. What finds no room is lost, and counted.
pub(super) fn ring(samples: usize) -> (Filling, Draining) {
    let (writer, reader) = HeapRb::new(samples).split();
    let lost = Arc::new(AtomicU64::new(0));
    let filling = Filling {
        samples: writer,
        lost: Arc::clone(&lost),
    };
    let draining = Draining {
        samples: reader,
        lost,
        lost_before_next: 0,
    };
    (filling, draining)
}

impl Filling {
    pub(super) fn push(&mut self, samples: impl ExactSizeIterator<Item = f32>) {
        let count = samples.len();
        let written = self.samples.push_iter(samples);
        self.lost
            .fetch_add((count - written) as u64, Ordering::Release);
    }
}

impl Draining {
    /// Appends all there is to `out`. Gives the number of samples.
    pub(super) fn take(&mut self, out: &mut Vec<f32>) -> usize {
        // First of all: the ring was full when these were lost, so all that it holds came before them.
        self.lost_before_next = self.lost.load(Ordering::Acquire);
        let (older, newer) = self.samples.as_slices();
        let count = older.len() + newer.len();
        out.extend_from_slice(older);
        out.extend_from_slice(newer);
        self.samples.skip(count);
        count
    }

    /// Samples that were lost between the first that was taken and the next that will be.
    pub(super) fn lost(&self) -> u64 {
        self.lost_before_next
    }

    /// Samples that were lost until now.
    pub(super) fn lost_in_all(&self) -> u64 {
        self.lost.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_told_with_the_sound_before_it() {
        let (mut filling, mut draining) = ring(4);
        let mut out = Vec::new();
        filling.push([1.0, 2.0, 3.0].into_iter());
        assert_eq!((draining.take(&mut out), draining.lost()), (3, 0));
        filling.push([4.0, 5.0, 6.0].into_iter());
        filling.push([7.0, 8.0, 9.0].into_iter());
        // The reader has not come to the gap yet.
        assert_eq!((draining.lost(), draining.lost_in_all()), (0, 2));
        assert_eq!((draining.take(&mut out), draining.lost()), (4, 2));
        filling.push([10.0].into_iter());
        assert_eq!((draining.take(&mut out), draining.lost()), (1, 2));
        assert_eq!(out, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 10.0]);
    }
}
