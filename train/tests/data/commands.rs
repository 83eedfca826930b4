use std::fs;
use std::path::Path;

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use sori_train::data::{Corpus, Source, Strictness, Tokenizer, audio};

use crate::sound::{Folder, RATE, text, tone, write_wav};

pub(crate) fn sori_train(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("sori-train").unwrap();
    command.args(arguments);
    command
}

fn chapter(root: &Path, split: &str, id: &str, lines: &[(&str, f32)]) {
    let (speaker, chapter) = id.split_once('-').unwrap();
    let folder = root.join(split).join(speaker).join(chapter);
    fs::create_dir_all(&folder).unwrap();
    let mut transcripts = String::new();
    for (index, (text, seconds)) in lines.iter().enumerate() {
        let name = format!("{id}-{index:04}");
        transcripts += &format!("{name} {text}\n");
        // The name promises FLAC; readers look inside.
        let path = folder.join(format!("{name}.flac"));
        write_wav(&path, &tone(300.0, *seconds, RATE), RATE, 1);
    }
    fs::write(folder.join(format!("{id}.trans.txt")), transcripts).unwrap();
}

#[test]
fn prepare_writes_a_manifest_for_each_split_of_librispeech() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("LibriSpeech");
    chapter(
        &root,
        "dev-clean",
        "84-100",
        &[("HE'D GONE", 1.0), ("AND  BACK", 0.5)],
    );
    chapter(&root, "dev-clean", "9-7", &[("ONE", 0.75)]);
    chapter(&root, "test-other", "1-2", &[("TWO", 1.5)]);
    let out = folder.path().join("manifests");
    sori_train(&["prepare", "librispeech"])
        .arg(folder.path())
        .arg("-o")
        .arg(&out)
        .assert()
        .success()
        .stdout(
            contains("dev-clean")
                .and(contains("3 utterances"))
                .and(contains("test-other")),
        );
    let read =
        |name: &str| Corpus::read(&[Source::once(out.join(name))], Strictness::Strict).unwrap();
    let dev = read("dev-clean.jsonl");
    let entries = dev.entries().unwrap();
    let lines: Vec<_> = entries
        .iter()
        .map(|entry| (entry.audio.as_str(), entry.duration, entry.text.as_str()))
        .collect();
    let path = "../LibriSpeech/dev-clean";
    assert_eq!(
        lines,
        [
            (
                &*format!("{path}/84/100/84-100-0000.flac"),
                1.0,
                "he'd gone"
            ),
            (&*format!("{path}/84/100/84-100-0001.flac"), 0.5, "and back"),
            (&*format!("{path}/9/7/9-7-0000.flac"), 0.75, "one"),
        ]
    );
    assert_eq!(dev.entry(0).unwrap().speaker.as_deref(), Some("84"));
    assert_eq!(audio::read(&dev.entry(2).unwrap()).unwrap().len(), 12_000);
    assert_eq!(read("test-other.jsonl").len(), 1);
}

#[test]
fn prepare_names_what_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("train");
    chapter(
        &root,
        "dev-clean",
        "84-100",
        &[("ONE", 1.0), ("TWO 2", 0.5), ("THREE", 0.5), ("FOUR", 1.0)],
    );
    fs::remove_file(root.join("dev-clean/84/100/84-100-0002.flac")).unwrap();
    let prepare = |strict: &[&str]| {
        let mut command = sori_train(&["prepare", "librispeech"]);
        command
            .arg(&root)
            .arg("-o")
            .arg(folder.path().join("out"))
            .args(strict);
        command.assert()
    };
    prepare(&[])
        .success()
        .stdout(contains("2 utterances").and(contains("(2 skipped)")))
        .stderr(
            contains("84-100.trans.txt:2: \"text\": '2'")
                .and(contains("84-100.trans.txt:3: "))
                .and(contains("84-100-0002.flac: no such file")),
        );
    prepare(&["--strict"])
        .failure()
        .stderr(contains("84-100.trans.txt:2: "));
    sori_train(&["prepare", "librispeech"])
        .arg(folder.path().join("out"))
        .args(["-o", "x"])
        .assert()
        .failure()
        .stderr(contains("there is no *.trans.txt below it"));
}

#[test]
fn tokenizer_writes_its_files() {
    let mut folder = Folder::new();
    for line in text() {
        folder.line("a.wav", 1.0, &line);
    }
    folder.line("a.wav", 1.0, "in 1984");
    let manifest = folder.manifest();
    for kind in ["unigram", "bpe"] {
        let out = folder.path(kind);
        let train = |more: &[&str]| {
            let mut command = sori_train(&["tokenizer", "--pieces", "128", "--kind", kind]);
            command.arg(&manifest).arg("-o").arg(&out).args(more);
            command.assert()
        };
        train(&["--strict"])
            .failure()
            .stderr(contains("manifest.jsonl:"));
        train(&[])
            .success()
            .stdout(contains("128 pieces from").and(contains("1 lines skipped")));
        assert_eq!(Tokenizer::load(&out).unwrap().blank(), 128);
    }
    sori_train(&["tokenizer", "--pieces", "5000"])
        .arg(&manifest)
        .arg("-o")
        .arg(folder.path("x"))
        .assert()
        .failure()
        .stderr(contains("give more text or ask for fewer"));
}
