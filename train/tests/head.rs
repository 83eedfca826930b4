//! A CTC head on a Whisper encoder: trained by the command, it makes a teacher of posteriors.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use safetensors::SafeTensors;
use sori_train::model::whisper::{self, CtcHead, CtcHeadConfig, Hears, Whisper};
use sori_train::model::{CheckpointError, Pass, Teacher, TeacherError};
use support::{golden, largest_difference, random, write_speech};
use tch::{Device, Kind, nn};

/// Short enough for the golden encoder, which hears 1.2 s.
const TEXTS: [&str; 6] = ["fed", "a cab", "dab", "ebb", "bad", "face"];

fn encoder_file() -> PathBuf {
    golden("whisper", "encoder.safetensors")
}

fn encoder() -> Whisper {
    tch::set_num_threads(1);
    whisper::load(&encoder_file(), Device::Cpu).unwrap()
}

fn tiny(whisper: &Whisper) -> CtcHeadConfig {
    CtcHeadConfig {
        vocabulary: 7,
        encoder_width: whisper.width(),
        encoder_layers: whisper.layers() as i64,
        d_model: 16,
        layers: 1,
        heads: 2,
        feed_forward: 24,
        kernel: 5,
        ..CtcHeadConfig::default()
    }
}

#[test]
fn a_longer_batch_mate_changes_nothing() {
    let whisper = encoder();
    let features = random(1, &[2, 90, 8]).to_kind(Kind::Float);
    for (hears, length) in [Hears::Layers, Hears::Output]
        .into_iter()
        .flat_map(|hears| [61, 62, 63, 64].map(|length| (hears, length)))
    {
        let store = nn::VarStore::new(Device::Cpu);
        let config = CtcHeadConfig {
            hears,
            ..tiny(&whisper)
        };
        let head = CtcHead::new(&store, &config, &whisper).unwrap();
        let pass = Pass::default();
        let together = head.listen(&whisper, &features, &[length, 90], None, pass);
        let alone = features.narrow(0, 0, 1).narrow(1, 0, length);
        let alone = head.listen(&whisper, &alone, &[length], None, pass);
        let frames = (length + 3) / 4;
        assert_eq!(together.output.lengths, [frames, 23]);
        let cut = |x: &tch::Tensor| x.narrow(0, 0, 1).narrow(1, 0, frames);
        let found = cut(&together.output.log_probs);
        assert!(largest_difference(&found, &alone.output.log_probs) < 1e-4);
        assert!(largest_difference(&cut(&together.hidden), &alone.hidden) < 1e-4);
    }
}

#[test]
fn what_was_kept_of_the_encoder_is_heard_as_the_encoder() {
    let whisper = encoder();
    let features = random(4, &[2, 90, 8]).to_kind(Kind::Float);
    let (lengths, pass) = ([77, 90], Pass::default());
    for (hears, unfrozen_layers, is_enough) in [
        (Hears::Output, 0, true),
        (Hears::Output, 1, false),
        (Hears::Layers, 0, false),
    ] {
        let store = nn::VarStore::new(Device::Cpu);
        let config = CtcHeadConfig {
            hears,
            unfrozen_layers,
            ..tiny(&whisper)
        };
        let head = CtcHead::new(&store, &config, &whisper).unwrap();
        let kept = whisper.listen(&features, &lengths, None);
        let heard = head.hear(&kept.hidden, kept.lengths, pass);
        assert_eq!(heard.is_some(), is_enough, "{config:?}");
        if let Some(heard) = heard {
            let live = head.listen(&whisper, &features, &lengths, None, pass);
            assert_eq!(heard.lengths, live.output.lengths);
            assert_eq!(heard.log_probs, live.output.log_probs);
        }
    }
}

#[test]
fn unfrozen_layers_begin_as_the_encoders_and_alone_get_gradients_of_it() {
    let whisper = encoder();
    let features = random(2, &[1, 80, 8]).to_kind(Kind::Float);
    let listen = |unfrozen_layers| {
        let store = nn::VarStore::new(Device::Cpu);
        let config = CtcHeadConfig {
            unfrozen_layers,
            ..tiny(&whisper)
        };
        let head = CtcHead::new(&store, &config, &whisper).unwrap();
        let heard = head.listen(&whisper, &features, &[80], Some(1), Pass::default());
        heard.output.log_probs.sum(Kind::Float).backward();
        (store, heard)
    };
    let (frozen, of_frozen) = listen(0);
    let (tuned, of_tuned) = listen(1);
    assert!(largest_difference(&of_frozen.hidden, &of_tuned.hidden) < 1e-6);
    assert!(largest_difference(&of_frozen.attention.unwrap(), &of_tuned.attention.unwrap()) < 1e-6);
    assert!(
        frozen
            .variables()
            .keys()
            .all(|name| !name.starts_with("tuned"))
    );
    let learns = |store: &nn::VarStore, name: &str| store.variables()[name].grad().defined();
    assert!(learns(&frozen, "mix") && learns(&frozen, "projection.weight"));
    assert!(
        learns(&tuned, "tuned.1.fc1.weight") && learns(&tuned, "tuned.1.self_attn.k_proj.weight")
    );
    assert!(
        whisper
            .store
            .variables()
            .values()
            .all(|tensor| !tensor.grad().defined())
    );
}

#[test]
fn numbers_of_another_encoder_are_refused() {
    let whisper = encoder();
    for (config, field) in [
        (
            CtcHeadConfig {
                encoder_width: 64,
                ..tiny(&whisper)
            },
            "encoder_width",
        ),
        (
            CtcHeadConfig {
                encoder_layers: 6,
                ..tiny(&whisper)
            },
            "encoder_layers",
        ),
        (
            CtcHeadConfig {
                unfrozen_layers: 3,
                ..tiny(&whisper)
            },
            "unfrozen_layers",
        ),
        (
            CtcHeadConfig {
                kernel: 4,
                ..tiny(&whisper)
            },
            "kernel",
        ),
    ] {
        let store = nn::VarStore::new(Device::Cpu);
        let error = CtcHead::new(&store, &config, &whisper).unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    }
}

/// A folder with speech, a tokenizer and recipes.
struct Workshop(tempfile::TempDir);

impl Workshop {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        write_speech(path, &TEXTS);
        let shared = r#"
            ema_decay = 0.9
            [data]
            tokenizer = "tokenizer"
            train = [{ manifest = "speech.jsonl" }]
            workers = 1
            batching = { max_seconds = 6.0, longest = 1.0, buckets = 1 }
            augmentation.speed.factors = []
            augmentation.quiet.probability = 0.0
            augmentation.noise.probability = 0.0
            augmentation.room.probability = 0.0
            augmentation.telephone.probability = 0.0
            augmentation.gain.probability = 0.0
            spec_augment = { frequency_masks = 1, frequency_width = 1, time_masks = 1 }
            [optimiser]
            peak_learning_rate = 0.02
            warm_up_steps = 5
            [metrics]
            every_steps = 1
            [evaluation]
            manifests = ["speech.jsonl"]
            [model]
            d_model = 24
            layers = 1
            heads = 2
            feed_forward = 32
            kernel = 5
        "#;
        let head = r#"
            extends = "shared.toml"
            [model]
            dropout = 0.0
            [contexts]
            chunks_ms = ["full"]
            [[stage]]
            name = "ctc"
            steps = 150
            loss = { ctc = 1.0 }
        "#;
        let student = r#"
            extends = "shared.toml"
            [model]
            subsampling_channels = 4
            [[stage]]
            name = "guided"
            steps = 2
            loss = { ctc = 1.0, guided = 1.0, sam = 0.1 }
        "#;
        for (name, text) in [("shared", shared), ("head", head), ("student", student)] {
            fs::write(path.join(format!("{name}.toml")), text).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_sori-train"))
            .args(arguments)
            .current_dir(self.0.path())
            .env("OMP_NUM_THREADS", "1")
            .output()
            .unwrap()
    }

    fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

/// The word error rate in a report of `evaluate --json`.
fn word_error_rate(report: &str) -> f64 {
    let report: serde_json::Value = serde_json::from_str(report).unwrap();
    report["results"][0]["wer"].as_f64().unwrap()
}

#[test]
fn a_trained_head_makes_a_teacher() {
    let workshop = Workshop::new();
    let encoder = encoder_file();
    let encoder = encoder.to_str().unwrap();
    let trained = workshop.succeeds(&["head", "head.toml", "--encoder", encoder, "-o", "run"]);
    assert_eq!(trained.trim(), "run/final.safetensors");

    // It has learnt to write, and is measured as a teacher.
    let teacher = format!("whisper:{encoder}+run/final.safetensors");
    let report = workshop.succeeds(&["evaluate", &teacher, "-m", "speech.jsonl", "--json"]);
    assert!(word_error_rate(&report) < 0.5, "{report}");

    // What it says is what its parts say.
    let whisper = self::encoder();
    let file = workshop.path("run/final.safetensors");
    let (_store, head) = whisper::load_head(&file, &whisper, Device::Cpu).unwrap();
    let source = format!("whisper:{encoder}+{}", file.display());
    let teacher_here = Teacher::open(&source.parse().unwrap(), Some(0), Device::Cpu).unwrap();
    let features = random(3, &[1, 100, 8]).to_kind(Kind::Float);
    let heard = teacher_here.listen(&features, &[100], true).unwrap();
    let parts = head.listen(&whisper, &features, &[100], Some(0), Pass::default());
    assert_eq!(heard.lengths, [25]);
    assert_eq!(heard.log_probs.unwrap(), parts.output.log_probs);
    assert_eq!(heard.attention.unwrap(), parts.attention.unwrap());

    // A student learns from it; without the head there is nothing to be guided by.
    workshop.succeeds(&[
        "train",
        "student.toml",
        "--teacher",
        &teacher,
        "-o",
        "student",
    ]);
    let bare = format!("whisper:{encoder}");
    let refused = workshop.fails(&["train", "student.toml", "--teacher", &bare, "-o", "other"]);
    assert!(refused.contains("no CTC posteriors"), "{refused}");
}

#[test]
fn an_encoder_whose_words_are_kept_is_asked_once() {
    let workshop = Workshop::new();
    let encoder = encoder_file();
    let encoder = encoder.to_str().unwrap();
    let with_encoder = format!("model.encoder={encoder}");
    let kept = [
        "--set",
        "model.preset=head",
        "--set",
        &with_encoder,
        "--set",
        "model.hears=output",
        "--set",
        "model.cache=kept",
    ];
    let run = |words: &[&str]| workshop.succeeds(&[words, &kept[..]].concat());
    let taught = run(&["teach", "head.toml"]);
    assert!(taught.contains("6 of them"), "{taught}");
    let agreeing = ["--set", "stage.ctc.loss.consistency=0.2"];
    let words = [&["head", "head.toml", "-o", "run"], &kept[..], &agreeing].concat();
    let refused = workshop.fails(&words);
    assert!(
        refused.contains("loss.consistency must be 0, as a head"),
        "{refused}"
    );
    run(&["head", "head.toml", "-o", "run"]);
    let taught = run(&["teach", "head.toml"]);
    assert!(taught.contains("; 0 of them"), "{taught}");

    let teacher = format!("whisper:{encoder}+run/final.safetensors");
    let report = workshop.succeeds(&["evaluate", &teacher, "-m", "speech.jsonl", "--json"]);
    assert!(word_error_rate(&report) < 0.5, "{report}");

    // A student's teacher needs what was kept, and says about it what it says about the sound. Its first
    // losses are the same to half precision.
    let losses = |folder: &str, cache: Option<&str>| {
        let teacher = format!("--teacher={teacher}");
        let mut words = vec!["train", "student.toml", "-o", folder, &teacher];
        let loss = "stage.guided.loss={ ctc = 0.0, guided = 0.5, softmax = 1.0, feature = 0.5 }";
        words.extend(["--set", loss]);
        let cache = cache.map(|cache| format!("teacher.cache={cache}"));
        words.extend(cache.iter().flat_map(|cache| ["--set", cache]));
        workshop.succeeds(&words);
        let lines = fs::read_to_string(workshop.path(folder).join("metrics.jsonl")).unwrap();
        let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        ["train/guided", "train/softmax", "train/feature"].map(|loss| first[loss].as_f64().unwrap())
    };
    let live = losses("live", None);
    let stores = || fs::read_dir(workshop.path("kept")).unwrap().count();
    assert_eq!(stores(), 1);
    for (folder, cache) in [("said", "kept"), ("again", "kept"), ("afresh", "other")] {
        for (found, expected) in losses(folder, Some(cache)).into_iter().zip(live) {
            let difference = (found - expected).abs() / expected;
            assert!(difference < 2e-3, "{folder}: {found}, not {expected}");
        }
    }
    assert_eq!(stores(), 2);

    // A student that compares no hidden vectors: what it hears for the first and the second time is the same.
    let posteriors = |folder: &str| {
        let (teacher, out) = (format!("--teacher={teacher}"), format!("-o={folder}"));
        let loss = "stage.guided.loss={ ctc = 0.0, softmax = 1.0 }";
        let cache = "teacher.cache=posteriors";
        workshop.succeeds(&[
            "train",
            "student.toml",
            &out,
            &teacher,
            "--set",
            loss,
            "--set",
            cache,
            "--set=seed=7",
        ]);
        let lines = fs::read_to_string(workshop.path(folder).join("metrics.jsonl")).unwrap();
        let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        first["train/softmax"].as_f64().unwrap()
    };
    assert_eq!(posteriors("first"), posteriors("second"));
}

#[test]
fn layers_that_are_trained_along_move_at_a_low_rate() {
    let workshop = Workshop::new();
    let encoder = encoder_file();
    let encoder = encoder.to_str().unwrap();
    workshop.succeeds(&[
        "head",
        "head.toml",
        "--encoder",
        encoder,
        "--unfreeze",
        "1",
        "-o",
        "run",
        "--set",
        "stage.ctc.steps=3",
        "--set",
        "optimiser.encoder_share=0.01",
        "--set",
        "ema_decay=0",
        "--set",
        "optimiser.weight_decay=0",
    ]);
    let bytes = fs::read(workshop.path("run/final.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let values = |view: safetensors::tensor::TensorView<'_>| {
        tch::Tensor::from_data_size(
            view.data(),
            &view.shape().iter().map(|&n| n as i64).collect::<Vec<_>>(),
            Kind::Float,
        )
    };
    let tuned = values(file.tensor("tuned.1.fc1.weight").unwrap());
    let original = &self::encoder().store.variables()["layers.1.fc1.weight"];
    let moved = largest_difference(&tuned, original);
    // Adam's steps are at most about the learning rate: 0.02 * 0.01, three times.
    assert!(moved > 1e-6 && moved < 7e-4, "{moved}");
    assert!(file.tensor("tuned.0.fc1.weight").is_err());
}

#[test]
fn mistakes_are_told_before_training() {
    let workshop = Workshop::new();
    let encoder = encoder_file();
    let encoder = encoder.to_str().unwrap();
    let head = |more: &[&str]| {
        let mut arguments = vec!["head", "head.toml", "-o", "run"];
        arguments.extend(more);
        workshop.fails(&arguments)
    };
    for (more, expected) in [
        (
            &[][..],
            "encoder: expected the file of a Whisper encoder, found none",
        ),
        (&["--encoder", "none.safetensors"], "none.safetensors"),
        (&["--encoder", "speech.jsonl"], "no valid safetensors file"),
        (
            &["--encoder", encoder, "--unfreeze", "3"],
            "unfrozen_layers",
        ),
        (
            &["--encoder", encoder, "--set", "model.cache=kept"],
            "the head needs more of the encoder than what is kept",
        ),
        (
            &["--encoder", encoder, "--set", "model.encoder_width=3"],
            "leave it out",
        ),
        (
            &["--encoder", encoder, "--set", "stage.ctc.loss.sam=1.0"],
            "a head learns from transcripts alone",
        ),
        (
            &["--encoder", encoder, "--set", "data.batching.longest=1.3"],
            "the encoder hears at most 1.2 s",
        ),
    ] {
        let told = head(more);
        assert!(told.contains(expected), "{more:?}: {told}");
        assert!(!workshop.path("run").exists());
    }
}

#[test]
fn a_head_file_need_not_be_trusted() {
    let whisper = encoder();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("head.safetensors");
    let refused = |path: &Path| whisper::load_head(path, &whisper, Device::Cpu).unwrap_err();

    fs::write(&path, b"junk").unwrap();
    assert!(matches!(refused(&path), CheckpointError::Format { .. }));
    // An encoder is no head.
    assert!(matches!(
        refused(&encoder_file()),
        CheckpointError::NoConfig { .. }
    ));

    let config = CtcHeadConfig {
        d_model: 8192,
        feed_forward: 1 << 16,
        layers: 256,
        ..tiny(&whisper)
    };
    let header = serde_json::to_string(&config).unwrap();
    let header = [("ctc_head".to_owned(), header)].into();
    let none: [(&str, safetensors::tensor::TensorView<'_>); 0] = [];
    safetensors::serialize_to_file(none, Some(header), &path).unwrap();
    assert!(matches!(refused(&path), CheckpointError::TooSmall { .. }));

    let source = format!("whisper:{}+{}", encoder_file().display(), path.display());
    let error = Teacher::open(&source.parse().unwrap(), None, Device::Cpu).unwrap_err();
    assert!(matches!(error, TeacherError::Checkpoint(_)), "{error}");
}
