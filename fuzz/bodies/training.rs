//! What training reads: manifests, checkpoints, `.nemo` archives and what lies in them, tokenizers.

use std::io::{Cursor, Read, Write};
use std::path::Path;

use sori_train::data::Tokenizer;
use sori_train::data::manifest::{Contents, Reader};
use sori_train::model::{load, nemo};
use tch::Device;

/// A small archive that is whole.
const TINY: &[u8] = include_bytes!("../../train/tests/golden/nemo/tiny.nemo");

pub fn manifest(data: &[u8]) {
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
}

pub fn checkpoint(data: &[u8]) {
    drop(load(as_file(data).path(), Device::Cpu));
}

pub fn nemo(data: &[u8]) {
    drop(nemo::load(as_file(data).path(), Device::Cpu));
}

pub fn nemo_config(data: &[u8]) {
    nemo(&with_member("model_config.yaml", data));
}

pub fn nemo_index(data: &[u8]) {
    nemo(&with_index(data));
}

pub fn sentencepiece(data: &[u8]) {
    if let Ok(tokenizer) = Tokenizer::from_sentencepiece(data, Path::new("tokenizer.model"))
        && let Ok(tokens) = tokenizer.encode("three programs and one thing")
    {
        let known = 0..tokenizer.blank();
        assert!(tokens.iter().all(|token| known.contains(token)));
    }
}

pub fn as_file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// The small archive with a PyTorch checkpoint of nothing but an index.
pub fn with_index(pickle: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("archive/data.pkl", stored).unwrap();
    zip.write_all(pickle).unwrap();
    with_member("model_weights.ckpt", &zip.finish().unwrap().into_inner())
}

/// The small archive with another file in place of the one whose name ends so.
fn with_member(member: &str, content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(TINY).entries().unwrap() {
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
