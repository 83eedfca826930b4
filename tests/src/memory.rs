//! Counts what is held in memory, by a thread or by the whole process, so that a test can bound it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, Ordering};

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

static PROCESS_HELD: AtomicIsize = AtomicIsize::new(0);
static PROCESS_MOST: AtomicIsize = AtomicIsize::new(0);

/// The system's allocator, with counts for each thread and for the process.
///
/// ```
/// use sori_tests::memory::{Counting, allocations, most, most_of_process};
///
/// #[global_allocator]
/// static ALLOCATOR: Counting = Counting;
///
/// let before = allocations();
/// let (_, bytes) = most(|| vec![0_u8; 1000]);
/// assert!((1000..2000).contains(&bytes));
/// assert_eq!(allocations(), before + 1);
/// let elsewhere = || std::thread::spawn(|| vec![0_u8; 1_000_000]).join();
/// assert!((1_000_000..1_100_000).contains(&most_of_process(elsewhere).1));
/// ```
#[derive(Debug)]
pub struct Counting;

/// Memory freed by another thread than the one that took it makes a count negative, hence the sign.
fn count(bytes: isize) {
    let held = HELD.get() + bytes;
    HELD.set(held);
    MOST.set(MOST.get().max(held));
    let held = PROCESS_HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PROCESS_MOST.fetch_max(held, Ordering::Relaxed);
}

fn taken(size: usize) {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
    count(size as isize);
}

fn freed(size: usize) {
    count(-(size as isize));
}

// SAFETY: everything is passed on to the system's allocator; the counters are constant-initialised
// thread locals of a type without a destructor, which allocate nothing themselves.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // Counted although the system may give it out page by page: it may all be used.
        taken(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both are there while what is in them is moved.
        taken(size);
        freed(layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        freed(layout.size());
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

/// As [`most`], for all threads together: whatever they do meanwhile is counted.
pub fn most_of_process<T>(body: impl FnOnce() -> T) -> (T, usize) {
    let before = PROCESS_HELD.load(Ordering::Relaxed);
    PROCESS_MOST.store(before, Ordering::Relaxed);
    let result = body();
    let most = PROCESS_MOST.load(Ordering::Relaxed) - before;
    (result, usize::try_from(most).unwrap_or(0))
}

/// How often this thread has asked for memory so far.
#[must_use]
pub fn allocations() -> usize {
    ALLOCATIONS.get()
}

/// Bytes that this thread holds.
#[must_use]
pub fn held() -> isize {
    HELD.get()
}

/// Bytes that the process has in memory, of which the system knows more than the allocator. `None` where it does not tell.
#[must_use]
pub fn resident() -> Option<f64> {
    resident_of("self")
}

/// The same of another process.
#[must_use]
pub fn resident_of(process: &str) -> Option<f64> {
    let pages = std::fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    let pages: f64 = pages.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096.0)
}
