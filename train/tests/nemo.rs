//! An imported NeMo model gives what NeMo gives, and a damaged file says what is wrong with it.
//!
//! `golden/nemo/make.py` made the model and NeMo's own results.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use sori_train::data::Tokenizer;
use sori_train::model::nemo::{self, NemoErrorKind, NemoModel};
use sori_train::model::{Pass, WeightError};
use support::{Golden, largest_difference};
use tch::{Device, Kind, Tensor};

fn golden(name: &str) -> PathBuf {
    support::golden("nemo", name)
}

fn imported() -> NemoModel {
    tch::set_num_threads(1);
    nemo::load(&golden("tiny.nemo"), Device::Cpu).unwrap()
}

fn expected() -> Golden {
    Golden::read(&golden("expected.safetensors"))
}

/// Each utterance's samples in [-1, 1].
fn audio(expected: &Golden) -> Vec<Vec<f32>> {
    let samples = expected.tensor("samples").to_kind(Kind::Float) / 32768.0;
    let utterance = |(i, n)| samples.get(i).narrow(0, 0, n).try_into().unwrap();
    (0..)
        .zip(expected.integers("sample_lengths"))
        .map(utterance)
        .collect()
}

/// NeMo's features as (B, frames, bands); NeMo has time last, and one frame more than is real.
fn features(expected: &Golden) -> (Tensor, Vec<i64>) {
    let features = expected.tensor("features").transpose(1, 2).contiguous();
    (features, expected.integers("feature_lengths"))
}

#[test]
fn the_model_is_read_whole() {
    let expected = expected();
    let nemo = imported();
    let parameters: usize = nemo
        .store
        .trainable_variables()
        .iter()
        .map(Tensor::numel)
        .sum();
    assert_eq!(parameters.to_string(), expected.header("parameters"));
    let tokens: Vec<String> = serde_json::from_str(&expected.header("tokens")).unwrap();
    assert_eq!(nemo.tokens, tokens);
    assert_eq!(nemo.model.config().blank(), tokens.len() as i64);
}

#[test]
fn log_probabilities_and_attention_are_nemos_own() {
    let expected = expected();
    let (features, lengths) = features(&expected);
    let pass = Pass {
        attention: true,
        ..Pass::default()
    };
    let output = imported().model.forward(&features, &lengths, pass);
    assert_eq!(output.lengths, expected.integers("lengths"));
    for (i, &length) in (0..).zip(&output.lengths) {
        let real = |x: &Tensor| x.get(i).narrow(-2, 0, length);
        let difference = largest_difference(
            &real(&output.log_probs),
            &real(&expected.tensor("log_probs")),
        );
        assert!(difference < 1e-4, "log-probs of {i}: {difference}");
    }
    // Maps are compared whole: NeMo too leaves rows and keys of padding at zero.
    let difference = largest_difference(&output.attention.unwrap(), &expected.tensor("attention"));
    assert!(difference < 1e-4, "attention: {difference}");
}

#[test]
fn features_are_those_of_nemos_preprocessor() {
    let expected = expected();
    let (features, lengths) = features(&expected);
    let front_end = imported().front_end;
    for (i, (samples, &length)) in (0..).zip(audio(&expected).iter().zip(&lengths)) {
        let found = Tensor::from_slice(&front_end.features(samples)).reshape([-1, 80]);
        let difference = largest_difference(&found, &features.get(i).narrow(0, 0, length));
        assert!(difference < 1e-3, "features of {i}: {difference}");
    }
}

#[test]
fn from_samples_to_log_probabilities_as_nemo() {
    let expected = expected();
    let nemo = imported();
    let lengths = expected.integers("lengths");
    for (i, (samples, &length)) in (0..).zip(audio(&expected).iter().zip(&lengths)) {
        let features = Tensor::from_slice(&nemo.front_end.features(samples)).reshape([1, -1, 80]);
        let frames = features.size()[1];
        let found = nemo
            .model
            .forward(&features, &[frames], Pass::default())
            .log_probs;
        let wanted = expected.tensor("log_probs").get(i).narrow(0, 0, length);
        let difference = largest_difference(&found.squeeze_dim(0), &wanted);
        assert!(difference < 1e-3, "log-probs of {i}: {difference}");
    }
}

#[test]
fn odd_audio_gives_finite_features() {
    let front_end = imported().front_end;
    assert!(front_end.features(&[]).is_empty());
    assert!(front_end.features(&[0.5; 159]).is_empty());
    for samples in [vec![0.5; 160], vec![0.0; 4000], vec![1.0; 321]] {
        let features = front_end.features(&samples);
        assert_eq!(features.len(), samples.len() / 160 * 80);
        assert!(features.iter().all(|value| value.is_finite()));
    }
}

#[test]
fn a_student_can_have_the_teachers_tokens() {
    let path = golden("tiny.nemo");
    let bytes = nemo::tokenizer(&path).unwrap();
    let tokenizer = Tokenizer::from_sentencepiece(&bytes, &path).unwrap();
    assert_eq!(tokenizer.pieces(), imported().tokens);
    let tokens = tokenizer.encode("the cat ran to the dog").unwrap();
    assert_eq!(tokenizer.decode(&tokens), "the cat ran to the dog");

    let folder = tempfile::tempdir().unwrap();
    let taken = assert_cmd::Command::cargo_bin("sori-train")
        .unwrap()
        .args(["tokenizer", "--nemo"])
        .arg(&path)
        .arg("-o")
        .arg(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8(taken.stdout).unwrap();
    assert!(said.starts_with("24 pieces of "), "{said}");
    let loaded = Tokenizer::load(folder.path()).unwrap();
    assert_eq!(loaded.pieces(), tokenizer.pieces());

    let mut members = members();
    members.retain(|(name, _)| !name.ends_with("tokenizer.model"));
    let without = folder.path().join("without.nemo");
    std::fs::write(&without, archive(&members)).unwrap();
    let error = nemo::tokenizer(&without).unwrap_err().to_string();
    assert!(
        error.ends_with("holds no tokenizer.model: not a .nemo file, or of another kind of model"),
        "{error}"
    );
}

/// The files inside the golden archive.
fn members() -> Vec<(String, Vec<u8>)> {
    let bytes = std::fs::read(golden("tiny.nemo")).unwrap();
    tar::Archive::new(&bytes[..])
        .entries()
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.header().entry_type().is_file())
        .map(|mut entry| {
            let name = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (name, content)
        })
        .collect()
}

fn archive(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, name, &content[..])
            .unwrap();
    }
    builder.into_inner().unwrap()
}

fn load_bytes(bytes: &[u8]) -> Result<NemoModel, NemoErrorKind> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    nemo::load(file.path(), Device::Cpu).map_err(|error| {
        assert_eq!(error.path, file.path());
        error.kind
    })
}

/// Loads the golden archive after a change of the file whose name ends so.
fn load_changed(
    member: &str,
    change: impl FnOnce(Vec<u8>) -> Vec<u8>,
) -> Result<NemoModel, NemoErrorKind> {
    let mut members = members();
    let (_, content) = members
        .iter_mut()
        .find(|(name, _)| name.ends_with(member))
        .unwrap();
    *content = change(std::mem::take(content));
    load_bytes(&archive(&members))
}

fn load_with_config(from: &str, to: &str) -> NemoErrorKind {
    load_changed("model_config.yaml", |yaml| {
        let yaml = String::from_utf8(yaml).unwrap();
        assert!(yaml.contains(from));
        yaml.replacen(from, to, 1).into_bytes()
    })
    .unwrap_err()
}

#[test]
fn older_archives_are_compressed() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&archive(&members())).unwrap();
    assert!(load_bytes(&gzip.finish().unwrap()).is_ok());
}

#[test]
fn models_of_another_kind_name_the_field() {
    for (from, to, field) in [
        (
            "subsampling: striding",
            "subsampling: dw_striding",
            "encoder.subsampling",
        ),
        (
            "subsampling_factor: 4",
            "subsampling_factor: 8",
            "encoder.subsampling_factor",
        ),
        ("- -1\n  - -1", "- 128\n  - 0", "encoder.att_context_size"),
        (
            "conv_norm_type: batch_norm",
            "conv_norm_type: group_norm",
            "encoder.conv_norm_type",
        ),
        (
            "normalize: per_feature",
            "normalize: NA",
            "preprocessor.normalize",
        ),
        (
            "window_stride: 0.01",
            "window_stride: 0.02",
            "preprocessor.window_stride",
        ),
    ] {
        let error = load_with_config(from, to);
        let NemoErrorKind::Unsupported { field: named, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(named, field);
    }
    let not_ctc = load_with_config("vocabulary:", "words:");
    assert!(matches!(not_ctc, NemoErrorKind::Yaml { .. }), "{not_ctc}");
    let impossible = load_with_config("n_heads: 4", "n_heads: 5");
    assert!(
        matches!(impossible, NemoErrorKind::Config(_)),
        "{impossible}"
    );
    let boastful = load_with_config("d_model: 24", "d_model: 4096");
    assert!(
        matches!(boastful, NemoErrorKind::Checkpoint { .. }),
        "{boastful}"
    );
    let other_size = load_with_config("ff_expansion_factor: 4", "ff_expansion_factor: 3");
    let NemoErrorKind::Weights(WeightError::Shape {
        expected, found, ..
    }) = other_size
    else {
        panic!("{other_size}")
    };
    assert_eq!((expected[0], found[0]), (72, 96));
}

#[test]
fn archives_that_lack_a_part_say_so() {
    for lacking in ["model_config.yaml", "model_weights.ckpt"] {
        let mut members = members();
        members.retain(|(name, _)| !name.ends_with(lacking));
        let error = load_bytes(&archive(&members)).unwrap_err();
        assert!(matches!(error, NemoErrorKind::Missing { member } if member == lacking));
    }
    assert!(matches!(
        load_bytes(b"").unwrap_err(),
        NemoErrorKind::Archive { .. }
    ));
    let nowhere = nemo::load(Path::new("nowhere.nemo"), Device::Cpu).unwrap_err();
    assert!(
        nowhere
            .to_string()
            .starts_with("nowhere.nemo: cannot be read"),
        "{nowhere}"
    );
}

/// Loads the golden archive with another index in its checkpoint.
fn load_with_pickle(change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Result<NemoModel, NemoErrorKind> {
    load_changed("model_weights.ckpt", |checkpoint| {
        let mut old = zip::ZipArchive::new(Cursor::new(checkpoint)).unwrap();
        let mut new = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let stored = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored);
        let mut change = Some(change);
        for i in 0..old.len() {
            let mut file = old.by_index(i).unwrap();
            let name = file.name().unwrap().into_owned();
            let mut content = Vec::new();
            file.read_to_end(&mut content).unwrap();
            if name.ends_with("data.pkl") {
                content = change.take().unwrap()(content);
            }
            new.start_file(name, stored).unwrap();
            new.write_all(&content).unwrap();
        }
        new.finish().unwrap().into_inner()
    })
}

#[test]
fn pickled_programs_do_not_run() {
    for (pickle, reason) in [
        // os.system("true")
        (
            &b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."[..],
            "call of os.system",
        ),
        // A text of 4 GB that is not there.
        (b"\x80\x02X\xff\xff\xff\xff.", "ends too early"),
        (b"\x80\x02R.", "missing"),
        (b"\x80\x02(u.", "without a table"),
        (b"\x80\x02h\x07.", "memorised"),
        (b"\x80\x02K\x01.", "no table"),
        (b"\x80\x02\xff.", "0xff"),
        (b"\x80\x02\x8a\x09123456789.", "64 bits"),
        (b"\x80\x02", "ends too early"),
    ] {
        let error = load_with_pickle(|_| pickle.to_vec()).unwrap_err();
        let NemoErrorKind::Checkpoint { reason: found } = &error else {
            panic!("{error}")
        };
        assert!(found.contains(reason), "{found}");
    }
    let nested = load_with_pickle(|_| [b"\x80\x02K\x01".to_vec(), vec![0x85; 100_000]].concat())
        .unwrap_err();
    assert!(nested.to_string().contains("nested"), "{nested}");
    // Tuples of eight times the tuple before it: small if shared, 8^8 values if copied.
    let mut bomb = b"\x80\x02K\x01\x85q\x00".to_vec();
    for _ in 0..7 {
        bomb.extend(b"(h\x00h\x00h\x00h\x00h\x00h\x00h\x00h\x00tq\x00");
    }
    let bomb = load_with_pickle(|_| [bomb, b".".to_vec()].concat()).unwrap_err();
    assert!(bomb.to_string().contains("no table"), "{bomb}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200, failure_persistence: None, ..ProptestConfig::default()
    })]

    /// Any damage of the index is an error or does no harm; none panics or runs away.
    #[test]
    fn a_damaged_index_never_panics(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        drop(load_with_pickle(|mut pickle| {
            for (at, value) in &damage {
                let at = at.index(pickle.len());
                pickle[at] = *value;
            }
            pickle
        }));
    }
}
