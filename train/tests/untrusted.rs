//! Manifests, checkpoints and `.nemo` files made to harm are refused or do no harm: the corpora of the fuzz targets
//! and damage to them by chance. `HOSTILE_SECONDS=600 cargo test --workspace --test untrusted` goes on for ten minutes
//! each.
//!
//! What libtorch allocates is not counted; files are refused before it is asked for memory.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

use sori_tests::hostile::{Bounds, replay};
use sori_tests::memory::Counting;
use sori_train::model::nemo;
use tch::Device;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[path = "../../fuzz/bodies/training.rs"]
mod training;

#[test]
fn manifests() {
    replay("manifest", 20_000, Bounds::default(), training::manifest);
}

#[test]
fn checkpoints() {
    tch::set_num_threads(1);
    replay("checkpoint", 1500, Bounds::default(), training::checkpoint);
}

#[test]
fn nemo_archives() {
    tch::set_num_threads(1);
    replay("nemo", 200, Bounds::default(), training::nemo);
}

#[test]
fn nemo_configurations() {
    tch::set_num_threads(1);
    replay("nemo_config", 300, Bounds::default(), training::nemo_config);
}

#[test]
fn nemo_indices() {
    tch::set_num_threads(1);
    replay("nemo_index", 1000, Bounds::default(), training::nemo_index);
}

#[test]
fn sentencepiece_models() {
    replay(
        "sentencepiece",
        3000,
        Bounds::default(),
        training::sentencepiece,
    );
}

/// One long shape, shared by many tensors; one long name, in many tables: memory that grew with the
/// square of the file.
#[test]
fn an_index_is_not_multiplied() {
    let int = |value: u8| [b'K', value];
    // A storage as 0, a tuple of a hundred thousand ones as 1.
    let mut pickle =
        b"\x80\x02(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQq\0"
            .to_vec();
    pickle.push(b'(');
    for _ in 0..100_000 {
        pickle.extend(int(1));
    }
    pickle.extend(b"tq\x01}(");
    for number in 0..20_000_u32 {
        let name = number.to_string();
        pickle.extend([b'X', name.len() as u8, 0, 0, 0]);
        pickle.extend(name.as_bytes());
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n(h\0K\0h\x01h\x01tR");
    }
    pickle.extend(b"u.");
    let archive = training::as_file(&training::with_index(&pickle));
    let (result, bytes) =
        sori_tests::memory::most(|| nemo::load(archive.path(), Device::Cpu).map(drop));
    let error = result.unwrap_err().to_string();
    assert!(error.contains("more than 8 dimensions"), "{error}");
    assert!(bytes < 64 << 20, "{bytes} bytes for {}", pickle.len());
}
