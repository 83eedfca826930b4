//! What lives on the far side of a foreign interface, by number.
//!
//! A handle is never followed as a pointer: it is looked up. So one that was freed, never was, or is of
//! another kind is told from a good one, and what is in use by one thread stays alive when another frees
//! it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

/// Live handles of one kind and what they stand for.
#[derive(Debug)]
pub struct Registry<T> {
    entries: LazyLock<RwLock<HashMap<usize, Arc<T>>>>,
}

/// Shared by all registries, so that a handle of one is none of another. The step keeps numbers odd, as
/// no pointer to an object is.
static NEXT: AtomicUsize = AtomicUsize::new(1);

impl<T> Registry<T> {
    /// Without any.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "for statics, which need a const"
    )]
    pub const fn new() -> Self {
        Self {
            entries: LazyLock::new(RwLock::default),
        }
    }

    /// Takes `value` in and returns its handle, which is not 0.
    pub fn insert(&self, value: T) -> usize {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        loop {
            let handle = NEXT.fetch_add(2, Ordering::Relaxed);
            // Numbers come around after 2^31 handles where they have 32 bits.
            if let std::collections::hash_map::Entry::Vacant(place) = entries.entry(handle) {
                place.insert(Arc::new(value));
                return handle;
            }
        }
    }

    /// What a handle stands for, if it is live.
    #[must_use]
    pub fn get(&self, handle: usize) -> Option<Arc<T>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(&handle).cloned()
    }

    /// Ends a handle, if it is live. What it stood for goes when nobody uses it any more.
    pub fn remove(&self, handle: usize) -> Option<Arc<T>> {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.remove(&handle)
    }
}
