//! Calls in any order do no harm: the corpus of `fuzz/corpus/c_abi` and damage to it by chance.
//!
//! `HOSTILE_SECONDS=600 cargo test --workspace --test hostile` goes on for ten minutes.

#![allow(missing_docs, unreachable_pub)]

use std::time::Duration;

use sori_tests::hostile::{Bounds, replay};
use sori_tests::memory::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[path = "../../fuzz/bodies/c_abi.rs"]
mod c_abi;
#[path = "../../fuzz/bodies/input.rs"]
mod input;

/// tract, whose memory is counted.
const ENGINE: u32 = sori_capi::SoriEngine::Tract as u32;

#[test]
fn calls_in_any_order() {
    // Two models may be loaded.
    let bounds = Bounds {
        memory: 128 << 20,
        time: Duration::from_secs(20),
    };
    replay("c_abi", 400, bounds, c_abi::run);
}
