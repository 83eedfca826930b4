//! Counts what a thread holds in memory, so that a test can bound it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, with a count for each thread.
///
/// ```
/// use sori_tests::memory::{Counting, most};
///
/// #[global_allocator]
/// static ALLOCATOR: Counting = Counting;
///
/// let (_, bytes) = most(|| vec![0_u8; 1000]);
/// assert!((1000..2000).contains(&bytes));
/// ```
#[derive(Debug)]
pub struct Counting;

/// Memory freed by another thread than the one that took it makes a count negative, hence the sign.
fn count(bytes: isize) {
    let held = HELD.get() + bytes;
    HELD.set(held);
    MOST.set(MOST.get().max(held));
}

// SAFETY: everything is passed on to the system's allocator; the counters are constant-initialised
// thread locals of a type without a destructor, which allocate nothing themselves.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // Counted although the system may give it out page by page: it may all be used.
        count(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs `body` and tells how many bytes this thread held at most beyond what it held before. Needs
/// [`Counting`] as the program's allocator: otherwise it is always 0.
pub fn most<T>(body: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    MOST.set(before);
    let result = body();
    (result, usize::try_from(MOST.get() - before).unwrap_or(0))
}

/// Bytes that this thread holds.
#[must_use]
pub fn held() -> isize {
    HELD.get()
}
