//! Manifests, checkpoints and `.nemo` files made to harm are refused or do no harm: the corpora in `fuzz`
//! and damage to them by chance. These link libtorch, so that libFuzzer's instrumented build of them is
//! impractical; `HOSTILE_SECONDS=600 cargo test --workspace --test untrusted` goes on for ten minutes each.
//!
//! What libtorch allocates is not counted; files are refused before it is asked for memory.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::io::{Cursor, Read, Write};
use std::path::Path;

use sori_tests::hostile::{Bounds, replay};
use sori_tests::memory::Counting;
use sori_train::data::Tokenizer;
use sori_train::data::manifest::{Contents, Reader};
use sori_train::model::{load, nemo};
use tch::Device;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn manifests() {
    replay("manifest", 20_000, Bounds::default(), |data| {
        for contents in [Contents::Speech, Contents::Noise] {
            let lines = data.split(|&byte| byte == b'\n').count();
            let mut count = 0;
            for entry in Reader::new(data, Path::new("folder/manifest"), contents) {
                count += 1;
                if let Ok(entry) = entry {
                    assert!(entry.duration > 0.0 && entry.offset >= 0.0);
                    assert!((1..=lines).contains(&entry.line));
                }
            }
            assert!(count <= lines);
        }
    });
}

fn as_file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

#[test]
fn checkpoints() {
    tch::set_num_threads(1);
    replay("checkpoint", 1500, Bounds::default(), |data| {
        drop(load(as_file(data).path(), Device::Cpu));
    });
}

#[test]
fn nemo_archives() {
    tch::set_num_threads(1);
    replay("nemo", 200, Bounds::default(), |data| {
        drop(nemo::load(as_file(data).path(), Device::Cpu));
    });
}

/// The golden archive with another file in place of the one whose name ends so.
fn with_member(member: &str, content: &[u8]) -> Vec<u8> {
    let golden = std::fs::read(support::golden("nemo", "tiny.nemo")).unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(&golden[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        if name.ends_with(member) {
            bytes = content.to_vec();
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A PyTorch checkpoint of nothing but an index.
fn with_index(pickle: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("archive/data.pkl", stored).unwrap();
    zip.write_all(pickle).unwrap();
    with_member("model_weights.ckpt", &zip.finish().unwrap().into_inner())
}

#[test]
fn nemo_configurations() {
    tch::set_num_threads(1);
    replay("nemo_config", 300, Bounds::default(), |data| {
        let archive = with_member("model_config.yaml", data);
        drop(nemo::load(as_file(&archive).path(), Device::Cpu));
    });
}

#[test]
fn nemo_indices() {
    tch::set_num_threads(1);
    replay("nemo_index", 1000, Bounds::default(), |data| {
        drop(nemo::load(as_file(&with_index(data)).path(), Device::Cpu));
    });
}

#[test]
fn sentencepiece_models() {
    replay("sentencepiece", 3000, Bounds::default(), |data| {
        if let Ok(tokenizer) = Tokenizer::from_sentencepiece(data, Path::new("tokenizer.model"))
            && let Ok(tokens) = tokenizer.encode("three programs and one thing")
        {
            assert!(
                tokens
                    .iter()
                    .all(|token| (0..tokenizer.blank()).contains(token))
            );
        }
    });
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
    let archive = as_file(&with_index(&pickle));
    let (result, bytes) =
        sori_tests::memory::most(|| nemo::load(archive.path(), Device::Cpu).map(drop));
    let error = result.unwrap_err().to_string();
    assert!(error.contains("more than 8 dimensions"), "{error}");
    assert!(bytes < 64 << 20, "{bytes} bytes for {}", pickle.len());
}
