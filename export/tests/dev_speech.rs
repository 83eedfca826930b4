//! What a package learns from speech with transcripts, partly wrong on purpose: how sure it may be, and how much a
//! language model should count.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;
use sori::lm::{LanguageModel, LmOptions};
use sori::model::Package;
use sori::{Event, Recognizer};
use sori_tests::tone::{Sound, speak};

const TONE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/tone");

/// A folder with a copy of the tone model, an utterance and two manifests that list it over and over:
/// in one of four its transcript is another.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("package");
    fs::create_dir(&package).unwrap();
    for file in fs::read_dir(TONE).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), package.join(file.file_name())).unwrap();
    }
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let sounds = [0, 1, 2].map(|token| [Sound::Token(token, 200), Sound::Silence(200)]);
    let samples = speak(&[&[Sound::Silence(400)][..], &sounds.concat()].concat());
    let mut wav = hound::WavWriter::create(folder.path().join("talk.wav"), spec).unwrap();
    for sample in &samples {
        wav.write_sample((sample * 32_767.0) as i16).unwrap();
    }
    wav.finalize().unwrap();
    let duration = samples.len() as f64 / 16_000.0;
    let lines: Vec<_> = (0..40)
        .map(|index| {
            let text = if index % 4 == 0 { "four five six" } else { "one two three" };
            format!("{{\"audio_filepath\": \"talk.wav\", \"duration\": {duration}, \"text\": \"{text}\"}}")
        })
        .collect();
    for name in ["fit.jsonl", "check.jsonl"] {
        fs::write(folder.path().join(name), lines.join("\n")).unwrap();
    }
    folder
}

fn calibrate(folder: &Path) -> std::process::Output {
    Command::cargo_bin("sori-export")
        .unwrap()
        .current_dir(folder)
        .args([
            "calibrate",
            "package",
            "fit.jsonl",
            "--check",
            "check.jsonl",
        ])
        .output()
        .unwrap()
}

fn confidences(folder: &Path) -> Vec<f32> {
    let package: PathBuf = folder.join("package");
    let recognizer = Recognizer::open(package).unwrap();
    let mut stream = recognizer.stream().unwrap();
    let wav = hound::WavReader::open(folder.join("talk.wav")).unwrap();
    let samples: Vec<i16> = wav.into_samples().map(Result::unwrap).collect();
    let mut events: Vec<_> = stream.accept_i16(16_000, &samples).unwrap().collect();
    events.extend(stream.finish().unwrap());
    let mut confidences = Vec::new();
    for event in events {
        if let Event::Final(segment) = event {
            confidences.extend(segment.words.iter().map(|word| word.confidence));
            let sum: f32 = segment.words.iter().map(|word| word.confidence).sum();
            assert!((segment.confidence - sum / segment.words.len() as f32).abs() < 1e-6);
        }
    }
    confidences
}

#[test]
fn confidences_become_the_share_of_right_words() {
    let folder = folder();
    let before = confidences(folder.path());
    assert_eq!(before.len(), 3);
    assert!(
        before.iter().all(|&confidence| confidence > 0.9),
        "{before:?}"
    );
    let config = || -> Value {
        let path = folder.path().join("package/config.json");
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    let mut expected = config();

    let output = calibrate(folder.path());
    let said = String::from_utf8(output.stdout).unwrap();
    let mistake = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{mistake}");
    assert!(
        said.contains("on 120 words that it was not fitted to, 75.0 % of them right:"),
        "{said}"
    );
    for _ in 0..2 {
        let after = confidences(folder.path());
        assert!(
            after
                .iter()
                .all(|confidence| (confidence - 0.75).abs() < 0.03),
            "{after:?}"
        );
        // Once more changes nothing: the one curve comes on top of the other.
        assert!(calibrate(folder.path()).status.success());
    }
    let found = config();
    expected["confidence"] = found["confidence"].clone();
    assert_eq!(found, expected);
}

#[test]
fn speech_without_mistakes_teaches_nothing() {
    let folder = folder();
    let manifest = folder.path().join("fit.jsonl");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("four five six", "one two three")).unwrap();
    let config = fs::read(folder.path().join("package/config.json")).unwrap();
    let output = calibrate(folder.path());
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "sori-export: expected at least 20 words that were heard right and as many that were not, found \
         120 and 0\n"
    );
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        fs::read(folder.path().join("package/config.json")).unwrap(),
        config
    );
}

const ARPA: &str = "\\data\\\nngram 1=5\nngram 2=1\n\n\\1-grams:\n-1 <s> 0\n-1 </s>\n-0.5 one -0.3\n\
    -0.5 two\n-0.9 three\n\n\\2-grams:\n-0.1 one two\n\n\\end\\\n";

fn language_model(folder: &Path, file: &str, fit: &str) -> std::process::Output {
    let model = LanguageModel::from_arpa(ARPA.as_bytes(), "en.arpa").unwrap();
    fs::write(folder.join(file), model.bytes()).unwrap();
    Command::cargo_bin("sori-export")
        .unwrap()
        .current_dir(folder)
        .args([
            "language-model",
            "package",
            file,
            fit,
            "--check",
            "check.jsonl",
            "--limit",
            "8",
        ])
        .output()
        .unwrap()
}

#[test]
fn a_language_model_comes_into_the_package_with_its_numbers() {
    let folder = folder();
    let config = || -> Value {
        let path = folder.path().join("package/config.json");
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    let mut expected = config();
    let package = folder.path().join("package");
    let names = || -> Vec<_> {
        let mut names: Vec<_> = fs::read_dir(&package)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    let mut files = names();
    for file in ["en.lm", "en.lm", "other.lm"] {
        let output = language_model(folder.path(), file, "fit.jsonl");
        let said = String::from_utf8(output.stdout).unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{told}");
        // Two of eight transcripts are others. What pure tones say no language model changes, so the numbers stay.
        assert_eq!(
            said,
            "package: weight 0.500, word bonus 1.00, unknown words 10.00; 25.00 % of words wrong where it was fitted\n\
             on other speech: best tokens 25.00 %, beam 25.00 %, beam with the language model 25.00 %\n"
        );
        assert_eq!(told.lines().count(), 13, "{told}");
        assert_eq!(config()["language_model"]["file"], file);
    }
    // One model has taken the other's place, and nothing else is left.
    files.push("other.lm".into());
    files.sort();
    assert_eq!(names(), files);
    let found = config();
    assert_eq!(found["language_model"]["weight"], 0.5);
    assert_eq!(found["language_model"]["word_bonus"], 1.0);
    expected["language_model"] = found["language_model"].clone();
    assert_eq!(found, expected);

    let package = Package::open(&package).unwrap();
    let (model, options) = package.language_model().unwrap();
    assert_eq!(model.order(), 2);
    assert_eq!(options, LmOptions::default());
}

#[test]
fn speech_without_words_fits_no_language_model() {
    let folder = folder();
    fs::write(folder.path().join("empty.jsonl"), "").unwrap();
    let output = language_model(folder.path(), "en.lm", "empty.jsonl");
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "sori-export: empty.jsonl: expected speech with words, found none\n"
    );
    assert!(!folder.path().join("package/en.lm").exists());
}
