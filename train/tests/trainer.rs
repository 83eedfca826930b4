//! Training as a user meets it: a recipe and speech in, a run's folder out. The speech is made of
//! tones, one for each letter.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use safetensors::SafeTensors;
use sori_tests::chance::Chance;
use sori_train::config::{self, Recipe};
use sori_train::data::tarred::{self, Sharding};
use sori_train::data::{Corpus, Source, Strictness, Tokenizer, TokenizerKind};
use sori_train::model;
use sori_train::torch::has_bf16;
use sori_train::trainer::{Options, Outcome, Peers, Provenance, TrainError, teach, train};
use support::{TEXTS, write_speech};
use tch::Device;

/// A folder with speech, a tokenizer and a recipe. Torch's random numbers belong to the whole
/// process, so that one test trains at a time.
struct Workshop {
    folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Workshop {
    fn new() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        tch::set_num_threads(1);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        write_speech(path, &TEXTS);
        Self {
            folder,
            _alone: alone,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A recipe for a tiny model, with changes.
    fn recipe(&self, stages: &str, changes: &[&str]) -> Recipe {
        let text = format!(
            r#"
            name = "tiny"
            seed = 3
            [model]
            d_model = 16
            layers = 2
            heads = 2
            feed_forward = 24
            kernel = 3
            subsampling_channels = 4
            [data]
            tokenizer = {tokenizer:?}
            train = [{{ manifest = {speech:?} }}]
            workers = 1
            batching = {{ max_seconds = 6.0, longest = 3.0, buckets = 2 }}
            augmentation.noise.probability = 0.0
            augmentation.room.probability = 0.0
            spec_augment = {{ frequency_masks = 1, frequency_width = 4, time_masks = 1 }}
            [contexts]
            chunks_ms = [160, 320, "full"]
            left_ms = 320
            [optimiser]
            peak_learning_rate = 0.01
            warm_up_steps = 2
            [metrics]
            every_steps = 1
            {stages}
            "#,
            tokenizer = self.path("tokenizer"),
            speech = self.path("speech.jsonl"),
        );
        let path = self.path("recipe.toml");
        fs::write(&path, text).unwrap();
        let changes: Vec<_> = changes.iter().map(|&change| change.to_owned()).collect();
        config::read(&path, &changes).unwrap()
    }

    fn train(&self, recipe: &Recipe, run: &str) -> Result<Outcome, TrainError> {
        let run = self.path(run);
        train(recipe, options(&run, false, &AtomicBool::new(false)))
    }
}

static NO_PEERS: Peers = Peers::none();

fn options<'a>(run: &'a Path, resume: bool, stop: &'a AtomicBool) -> Options<'a> {
    Options {
        run,
        resume,
        device: Device::Cpu,
        stop,
        peers: &NO_PEERS,
    }
}

/// One figure of each line of a run's metrics that has it.
fn figures(run: &Path, name: &str) -> Vec<f64> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter_map(|line| line.get(name)?.as_f64()).collect()
}

fn finished(outcome: Outcome) -> PathBuf {
    match outcome {
        Outcome::Finished(model) => model,
        Outcome::Stopped(_) => panic!("the run was stopped"),
    }
}

const CTC: &str = "[[stage]]\nname = \"ctc\"\nsteps = 6\nloss = { ctc = 1.0 }";

const SAM_GUIDED: &str = r#"
[[stage]]
name = "sam"
steps = 6
loss = { sam = 1.0 }
[[stage]]
name = "guided"
steps = 6
loss = { ctc = 1.0, guided = 1.0 }
"#;

impl Workshop {
    /// Trains a teacher for a few steps, and gives its specification as a change of a recipe.
    fn teacher(&self) -> String {
        let recipe = self.recipe(CTC, &["seed=8", "contexts.chunks_ms=[\"full\"]"]);
        let model = finished(self.train(&recipe, "teacher").unwrap());
        format!("teacher.source=sori:{}", model.display())
    }
}

/// The tensors of a file whose names begin with `prefix`, by name, as bytes.
fn tensors(path: &Path, prefix: &str) -> Vec<(String, Vec<u8>)> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut found: Vec<_> = file
        .iter()
        .filter_map(|(name, view)| Some((name.strip_prefix(prefix)?.into(), view.data().to_vec())))
        .collect();
    found.sort();
    found
}

fn checkpoint(run: &Path, step: u64) -> PathBuf {
    run.join(format!("checkpoints/step-{step:08}.safetensors"))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn a_model_learns_and_says_where_it_comes_from() {
    let workshop = Workshop::new();
    let recipe = workshop.recipe(
        CTC,
        &[
            "stage.ctc.steps=200",
            "data.batching.max_seconds=30",
            "data.batching.buckets=1",
            "model.d_model=32",
            "model.dropout=0.0",
            "model.dropout_attention=0.0",
            "data.augmentation.speed.factors=[]",
            "data.augmentation.quiet.probability=0",
            "data.spec_augment.frequency_masks=0",
            "data.spec_augment.time_masks=0",
            "optimiser.warm_up_steps=20",
        ],
    );
    let trained = finished(workshop.train(&recipe, "run").unwrap());
    let losses = figures(&workshop.path("run"), "train/ctc");
    assert_eq!(losses.len(), 200);
    // A model that knows nothing but how often a letter comes stays above 10.
    eprintln!("{:?}", losses.iter().step_by(10).collect::<Vec<_>>());
    assert!(mean(&losses[190..]) < 3.0, "{:?}", &losses[190..]);

    let (_store, model) = model::load(&trained, Device::Cpu).unwrap();
    assert_eq!(model.config().vocabulary, 28);
    let bytes = fs::read(&trained).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let json = &header.metadata().as_ref().unwrap()["provenance"];
    let provenance: Provenance = serde_json::from_str(json).unwrap();
    assert_eq!(
        (
            provenance.recipe.as_str(),
            provenance.seed,
            provenance.steps
        ),
        ("tiny", 3, 200)
    );
    assert_eq!(provenance.chunks_ms, recipe.contexts.chunks_ms);
    assert_eq!(provenance.tokens.len(), 28);
    assert!(provenance.hours > 0.0);
    let resolved = fs::read_to_string(workshop.path("run/recipe.resolved.toml")).unwrap();
    assert_eq!(provenance.recipe_toml, resolved);
}

#[test]
fn a_checkpoint_is_a_model_that_training_can_begin_with() {
    let workshop = Workshop::new();
    let stage = "[[stage]]\nname = 'ctc'\nsteps = 12\nloss = { ctc = 1.0 }";
    let recipe = workshop.recipe(stage, &["checkpoints.every_steps=6"]);
    let trained = finished(workshop.train(&recipe, "first").unwrap());
    let loaded = |path: &Path| {
        let (store, _) = model::load(path, Device::Cpu).unwrap();
        store.variables()
    };
    // The last checkpoint holds what the run ends with, its running average.
    let newest = checkpoint(&workshop.path("first"), 12);
    let (of_newest, of_trained) = (loaded(&newest), loaded(&trained));
    assert!(
        of_trained
            .iter()
            .all(|(name, tensor)| of_newest[name] == *tensor)
    );
    let earlier = loaded(&checkpoint(&workshop.path("first"), 6));
    assert!(
        of_trained
            .iter()
            .any(|(name, tensor)| earlier[name] != *tensor)
    );

    // A learning rate of almost nothing leaves the weights as they were.
    let rate = "optimiser.peak_learning_rate=1e-12";
    for init in [&newest, &trained] {
        let init = format!("model.init={}", init.display());
        let recipe = workshop.recipe(stage, &[rate, &init, "stage.ctc.steps=1", "ema_decay=0"]);
        let again = finished(workshop.train(&recipe, "again").unwrap());
        for (name, tensor) in loaded(&again) {
            let difference = f64::try_from((&tensor - &of_trained[&name]).abs().max()).unwrap();
            assert!(difference < 1e-6, "{name}: {difference}");
        }
        fs::remove_dir_all(workshop.path("again")).unwrap();
    }

    let init = format!("model.init={}", trained.display());
    let wider = workshop.recipe(stage, &[&init, "model.d_model=24"]);
    let error = workshop.train(&wider, "wider").unwrap_err().to_string();
    assert!(error.contains("expected shape"), "{error}");
}

#[test]
fn a_resumed_run_is_an_unbroken_one() {
    let workshop = Workshop::new();
    let teacher = workshop.teacher();
    let changes = [
        teacher.as_str(),
        "optimiser.accumulate_batches=2",
        "checkpoints.every_steps=1",
        "checkpoints.keep=20",
        "checkpoints.average_last=2",
    ];
    let recipe = workshop.recipe(SAM_GUIDED, &changes);
    let trained = finished(workshop.train(&recipe, "whole").unwrap());
    let whole = workshop.path("whole");
    let losses = figures(&whole, "train/loss");
    assert_eq!(losses.len(), 12);
    // In the first stage, at its end, and in the second.
    for step in [3, 6, 8] {
        let run = workshop.path(&format!("cut off at {step}"));
        fs::create_dir_all(run.join("checkpoints")).unwrap();
        for step in 1..=step {
            fs::copy(checkpoint(&whole, step), checkpoint(&run, step)).unwrap();
        }
        for file in ["metrics.jsonl", "recipe.resolved.toml"] {
            fs::copy(whole.join(file), run.join(file)).unwrap();
        }
        let again = train(&recipe, options(&run, true, &AtomicBool::new(false))).unwrap();
        let resumed = figures(&run, "train/loss");
        assert_eq!(resumed.len(), 12);
        for (expected, found) in losses.iter().zip(&resumed) {
            assert!((expected - found).abs() < 1e-6, "{losses:?} {resumed:?}");
        }
        assert!(tensors(&finished(again), "") == tensors(&trained, ""));
    }

    let run = workshop.path("stopped");
    let stopped = train(&recipe, options(&run, false, &AtomicBool::new(true))).unwrap();
    assert_eq!(stopped, Outcome::Stopped(checkpoint(&run, 0)));
    let again = train(&recipe, options(&run, true, &AtomicBool::new(false))).unwrap();
    assert!(tensors(&finished(again), "") == tensors(&trained, ""));
}

type Damage = fn(&mut Vec<u8>);

#[test]
fn a_damaged_checkpoint_gives_way_to_the_one_before() {
    let workshop = Workshop::new();
    let recipe = workshop.recipe(CTC, &["checkpoints.every_steps=1", "checkpoints.keep=20"]);
    let trained = finished(workshop.train(&recipe, "whole").unwrap());
    let whole = workshop.path("whole");
    let resume = |run: &Path| train(&recipe, options(run, true, &AtomicBool::new(false)));
    let damages: [Damage; 3] = [
        // The machine went down while it was written, on a file system that lets that show.
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| bytes.clear(),
        |bytes| bytes[..64].fill(b'x'),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let run = workshop.path(&format!("damaged {number}"));
        fs::create_dir_all(run.join("checkpoints")).unwrap();
        for step in 1..=4 {
            fs::copy(checkpoint(&whole, step), checkpoint(&run, step)).unwrap();
        }
        let newest = checkpoint(&run, 4);
        let mut bytes = fs::read(&newest).unwrap();
        damage(&mut bytes);
        fs::write(&newest, &bytes).unwrap();
        let again = finished(resume(&run).unwrap());
        assert!(tensors(&again, "") == tensors(&trained, ""), "{number}");
    }
    let run = workshop.path("hopeless");
    fs::create_dir_all(run.join("checkpoints")).unwrap();
    fs::write(checkpoint(&run, 1), b"x").unwrap();
    let error = resume(&run).unwrap_err();
    assert!(matches!(error, TrainError::Checkpoint { .. }), "{error}");
}

/// A limit on the size of files stands for a disk without room: no write past it succeeds.
#[test]
#[cfg(unix)]
fn a_full_disk_leaves_the_checkpoint_before() {
    let workshop = Workshop::new();
    let changes = ["checkpoints.every_steps=1", "checkpoints.keep=20"];
    let recipe = workshop.recipe(CTC, &changes);
    let trained = finished(workshop.train(&recipe, "whole").unwrap());
    let (whole, run) = (workshop.path("whole"), workshop.path("full"));
    fs::create_dir_all(run.join("checkpoints")).unwrap();
    fs::copy(checkpoint(&whole, 3), checkpoint(&run, 3)).unwrap();
    let kibibytes = fs::metadata(checkpoint(&whole, 3)).unwrap().len() / 1024 - 1;
    let limited = format!("ulimit -f {kibibytes}; trap '' XFSZ; exec \"$@\"");
    let output = Command::new("bash")
        .args(["-c", &limited, "bash", env!("CARGO_BIN_EXE_sori-train")])
        .args(["train", "--device", "cpu", "--resume"])
        .args(changes.iter().flat_map(|change| ["--set", change]))
        .arg("--output")
        .arg(&run)
        .arg(workshop.path("recipe.toml"))
        .env("OMP_NUM_THREADS", "1")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{said}");
    assert!(
        said.contains("step-00000004") && said.contains("File too large"),
        "{said}"
    );
    let left: Vec<_> = fs::read_dir(run.join("checkpoints"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    assert_eq!(left, [checkpoint(&run, 3)]);
    let again = train(&recipe, options(&run, true, &AtomicBool::new(false))).unwrap();
    assert!(tensors(&finished(again), "") == tensors(&trained, ""));
}

#[test]
fn a_run_over_archives_resumes_as_an_unbroken_one() {
    let workshop = Workshop::new();
    let speech = workshop.path("speech.jsonl");
    let corpus = Corpus::read(&[Source::once(speech)], Strictness::Strict).unwrap();
    // Two or three texts in an archive, some of them mixed.
    let sharding = Sharding {
        most_bytes: 120_000,
        seed: 1,
        replace: false,
    };
    let mut each = |_| ControlFlow::Continue(());
    let out = workshop.path("tarred");
    let written = tarred::write(&corpus, &out, &sharding, Strictness::Strict, &mut each);
    let written = written.unwrap().unwrap();
    assert!(written.archives >= 3, "{written:?}");
    let train_on = format!(
        "data.train=[{{ manifest = {:?}, tars = {:?}, buffer_hours = 0.0015 }}]",
        written.manifest, written.tars
    );
    let changes = [
        train_on.as_str(),
        "checkpoints.every_steps=1",
        "checkpoints.keep=20",
        "data.batching.max_utterances=2",
    ];
    let recipe = workshop.recipe(CTC, &changes);
    let trained = finished(workshop.train(&recipe, "whole").unwrap());
    let whole = workshop.path("whole");
    let run = workshop.path("cut off");
    fs::create_dir_all(run.join("checkpoints")).unwrap();
    fs::copy(checkpoint(&whole, 3), checkpoint(&run, 3)).unwrap();
    for file in ["metrics.jsonl", "recipe.resolved.toml"] {
        fs::copy(whole.join(file), run.join(file)).unwrap();
    }
    let again = train(&recipe, options(&run, true, &AtomicBool::new(false))).unwrap();
    let heard = figures(&run, "data/epoch");
    assert_eq!((heard[2], heard.len()), (0.0, 6), "{heard:?}");
    assert_eq!(figures(&whole, "train/loss"), figures(&run, "train/loss"));
    assert!(tensors(&finished(again), "") == tensors(&trained, ""));
}

#[test]
fn the_sam_stage_leaves_what_it_does_not_reach() {
    let workshop = Workshop::new();
    let teacher = workshop.teacher();
    let changes = [
        teacher.as_str(),
        "checkpoints.every_steps=1",
        "checkpoints.keep=20",
    ];
    let recipe = workshop.recipe(SAM_GUIDED, &changes);
    workshop.train(&recipe, "run").unwrap();
    let run = workshop.path("run");
    let idle = |name: &str| {
        let of_last_layer = [
            "self_attn.linear_v",
            "self_attn.linear_out",
            "norm_conv",
            "conv.",
            "norm_feed_forward2",
            "feed_forward2",
            "norm_out",
        ];
        let rest = name.strip_prefix("encoder.layers.1.");
        name.starts_with("decoder.")
            || rest.is_some_and(|rest| of_last_layer.iter().any(|part| rest.starts_with(part)))
    };
    for kind in ["model/", "average/"] {
        let changed = |from: u64, to: u64| {
            let (before, after) = (
                tensors(&checkpoint(&run, from), kind),
                tensors(&checkpoint(&run, to), kind),
            );
            let pairs = before.into_iter().zip(after);
            pairs
                .map(|(before, after)| (before.0, before.1 != after.1))
                .collect::<Vec<_>>()
        };
        for (name, changed) in changed(1, 6) {
            assert_eq!(changed, !idle(&name), "{kind}{name}");
        }
        for (name, changed) in changed(6, 12) {
            assert!(changed, "{kind}{name}");
        }
    }
}

#[test]
fn every_method_trains() {
    let workshop = Workshop::new();
    let teacher = workshop.teacher();
    for (loss, heads) in [
        ("softmax", "mean"),
        ("feature", "mean"),
        ("guided", "mean"),
        ("sam", "grouped"),
    ] {
        let recipe = workshop.recipe(
            CTC,
            &[
                &teacher,
                &format!("stage.ctc.loss={{ ctc = 1, {loss} = 1 }}"),
                &format!("stage.ctc.heads={heads}"),
            ],
        );
        workshop.train(&recipe, loss).unwrap();
        let of_loss = figures(&workshop.path(loss), &format!("train/{loss}"));
        assert_eq!(of_loss.len(), 6);
        let sums = figures(&workshop.path(loss), "train/ctc");
        for ((total, a), b) in figures(&workshop.path(loss), "train/loss")
            .iter()
            .zip(&of_loss)
            .zip(&sums)
        {
            assert!(
                (total - a - b).abs() < 1e-3 * total.abs(),
                "{loss}: {total} of {a} and {b}"
            );
        }
    }
    for name in [
        "hidden_deviation",
        "hidden_cosine",
        "spikes_within_one_frame",
    ] {
        let found = figures(&workshop.path("sam"), &format!("diagnostics/{name}"));
        assert!(!found.is_empty(), "{name}");
    }
}

#[test]
fn held_out_speech_is_measured_for_every_chunk_size() {
    let workshop = Workshop::new();
    let manifest = format!("evaluation.manifests=[{:?}]", workshop.path("speech.jsonl"));
    let recipe = workshop.recipe(CTC, &[&manifest, "evaluation.every_steps=4"]);
    workshop.train(&recipe, "run").unwrap();
    for chunk in ["160ms", "320ms", "full"] {
        let rates = figures(&workshop.path("run"), &format!("held_out/wer/{chunk}"));
        assert!(rates.len() == 2 && rates.iter().all(|rate| *rate > 0.0));
        let losses = figures(&workshop.path("run"), &format!("held_out/ctc/{chunk}"));
        // At steps 4 and 6, the last.
        assert_eq!(losses.len(), 2);
        assert!(losses[1].is_finite());
    }
    let events = workshop.path("run/tensorboard");
    let file = fs::read_dir(events)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let records = records(&fs::read(file).unwrap());
    // The version, a record for each step, and the two measurements.
    assert_eq!(records.len(), 1 + 6 + 2);
    let holds = |record: &[u8], text: &[u8]| record.windows(text.len()).any(|at| at == text);
    assert!(holds(&records[0], b"brain.Event:2"));
    assert!(holds(&records[1], b"train/ctc"));
    assert!(holds(&records[5], b"held_out/ctc/160ms"));
}

/// Takes a file of records apart.
fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_at(8);
        let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
        let (record, rest) = rest[4..].split_at(length);
        found.push(record.to_vec());
        bytes = &rest[4..];
    }
    found
}

#[test]
fn bf16_trains_on_the_cpu() {
    let workshop = Workshop::new();
    let presets: [&[&str]; 2] = [
        &["model.preset=student"],
        &["model.preset=teacher", "contexts.chunks_ms=[\"full\"]"],
    ];
    for (index, preset) in presets.iter().enumerate() {
        let losses = ["fp32", "bf16"].map(|precision| {
            let run = format!("{precision} {index}");
            let precision = format!("precision={precision}");
            let changes: Vec<_> = preset.iter().copied().chain([precision.as_str()]).collect();
            workshop
                .train(&workshop.recipe(CTC, &changes), &run)
                .unwrap();
            figures(&workshop.path(&run), "train/ctc")
        });
        assert!(losses[1].iter().all(|loss| loss.is_finite()));
        let [full, half] = losses.map(|losses| losses[0]);
        let difference = (full - half).abs() / full;
        assert!(difference < 0.02, "{full} and {half}");
        if has_bf16(Device::Cpu) {
            assert!(
                difference > 1e-7,
                "autocast changes nothing: {full} and {half}"
            );
        } else {
            assert_eq!(full, half, "emulated bf16 takes tens of times longer");
        }
    }
}

#[test]
fn training_that_diverges_is_stopped() {
    let workshop = Workshop::new();
    let changes = [
        "optimiser.peak_learning_rate=1e30",
        "optimiser.skip_limit=3",
        "stage.ctc.steps=50",
    ];
    let recipe = workshop.recipe(CTC, &changes);
    let error = workshop.train(&recipe, "run").unwrap_err();
    assert!(
        matches!(error, TrainError::Diverged { count: 3, .. }),
        "{error}"
    );
}

#[test]
fn teachers_are_asked_for_what_they_have() {
    let workshop = Workshop::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let whisper = format!(
        "teacher.source=whisper:{}",
        golden.join("whisper/encoder.safetensors").display()
    );
    let nemo = format!(
        "teacher.source=nemo:{}",
        golden.join("nemo/tiny.nemo").display()
    );
    let refused = |teacher: &str, changes: &[&str]| {
        let changes: Vec<_> = [teacher].iter().chain(changes).copied().collect();
        workshop
            .train(&workshop.recipe(CTC, &changes), "refused")
            .unwrap_err()
    };
    let guided = "stage.ctc.loss={ guided = 1 }";
    let error = refused(&whisper, &[guided]);
    assert_eq!(
        error.to_string(),
        "the teacher has no CTC posteriors, which loss \"guided\" of stage \"ctc\" needs"
    );
    let error = refused(&nemo, &[guided]);
    assert!(
        matches!(error, TrainError::Outputs { student: 29, .. }),
        "{error}"
    );
    let error = refused(&whisper, &["stage.ctc.loss={ sam = 1 }"]);
    assert!(matches!(error, TrainError::TooLong { .. }), "{error}");

    // Each hears the speech through its own front-end.
    let short = "data.batching.longest=0.9";
    let prompt = "data.augmentation.quiet.probability=0";
    for (index, teacher) in [whisper, nemo].iter().enumerate() {
        let changes = [
            teacher,
            "stage.ctc.loss={ ctc = 1, sam = 1 }",
            short,
            prompt,
        ];
        let run = format!("run {index}");
        workshop
            .train(&workshop.recipe(CTC, &changes), &run)
            .unwrap();
        assert_eq!(figures(&workshop.path(&run), "train/sam").len(), 6);
    }
}

#[test]
fn teacher_and_student_mean_the_same_tokens() {
    let workshop = Workshop::new();
    let tokenizer = |name: &str, texts: &[&str]| {
        let tokenizer = Tokenizer::train(texts.iter().copied(), TokenizerKind::Bpe, 31).unwrap();
        tokenizer.save(&workshop.path(name)).unwrap();
        format!("data.tokenizer={:?}", workshop.path(name))
    };
    let (one, other) = (
        tokenizer("one", &["bad dab cab"]),
        tokenizer("other", &["face fade"]),
    );
    let recipe = workshop.recipe(CTC, &["seed=8", &one]);
    let model = finished(workshop.train(&recipe, "teacher").unwrap());
    let teacher = format!("teacher.source=sori:{}", model.display());
    let guided = [&teacher, "stage.ctc.loss={ ctc = 1, guided = 1 }"];
    workshop
        .train(&workshop.recipe(CTC, &[guided[0], guided[1], &one]), "same")
        .unwrap();
    let recipe = workshop.recipe(CTC, &[guided[0], guided[1], &other]);
    let error = workshop.train(&recipe, "other run").unwrap_err();
    assert!(
        matches!(error, TrainError::Tokens { id: 28, .. }),
        "{error}"
    );
}

#[test]
fn runs_are_not_overwritten_nor_mixed() {
    let workshop = Workshop::new();
    let recipe = workshop.recipe(CTC, &[]);
    workshop.train(&recipe, "run").unwrap();
    let run = workshop.path("run");
    let again =
        |recipe: &Recipe, resume| train(recipe, options(&run, resume, &AtomicBool::new(false)));
    assert!(matches!(
        again(&recipe, false),
        Err(TrainError::Exists { .. })
    ));
    let other = workshop.recipe(CTC, &["optimiser.clip_norm=4"]);
    match again(&other, true) {
        Err(TrainError::OtherRecipe { key, .. }) => assert_eq!(key, "optimiser.clip_norm"),
        other => panic!("{other:?}"),
    }
    // What does not decide the result may change; a run that is done stays so.
    let before = tensors(&run.join("final.safetensors"), "");
    let patient = workshop.recipe(CTC, &["checkpoints.every_steps=7"]);
    finished(again(&patient, true).unwrap());
    assert!(before == tensors(&run.join("final.safetensors"), ""));

    let newest = checkpoint(&run, 6);
    let whole = fs::read(&newest).unwrap();
    fs::write(&newest, &whole[..whole.len() / 2]).unwrap();
    match again(&recipe, true) {
        Err(TrainError::Checkpoint { path, .. }) => assert_eq!(path, newest),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_interrupted_command_saves_and_goes_on() {
    let workshop = Workshop::new();
    workshop.recipe(CTC, &[]);
    let run = workshop.path("run");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sori-train"));
    command
        .args([
            "train",
            "--device",
            "cpu",
            "--set",
            "stage.ctc.steps=2000",
            "--output",
        ])
        .arg(&run)
        .arg(workshop.path("recipe.toml"))
        .env("OMP_NUM_THREADS", "1");
    let mut running = command.stderr(Stdio::piped()).spawn().unwrap();
    while !run.join("metrics.jsonl").exists() || figures(&run, "train/loss").len() < 3 {
        if running.try_wait().unwrap().is_some() {
            panic!("it ended by itself: {:?}", running.wait_with_output());
        }
        thread::sleep(Duration::from_millis(20));
    }
    let kill = Command::new("kill")
        .args(["-INT", &running.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    let ended = running.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130));
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(said.contains("stopped, state saved in"), "{said}");
    let done = figures(&run, "train/loss").len();
    assert!((3..2000).contains(&done));

    assert!(checkpoint(&run, done as u64).exists());
}

#[test]
fn a_run_that_is_killed_twenty_times_ends_as_an_unbroken_one() {
    const STEPS: usize = 300;
    const KILLS: u32 = 20;
    let workshop = Workshop::new();
    let steps = format!("stage.ctc.steps={STEPS}");
    let changes = ["checkpoints.every_steps=2", "checkpoints.keep=3", &steps];
    let recipe = workshop.recipe(CTC, &changes);
    let trained = finished(workshop.train(&recipe, "whole").unwrap());
    let loss = figures(&workshop.path("whole"), "train/loss");

    let run = workshop.path("killed");
    let lines = || {
        let text = fs::read(run.join("metrics.jsonl")).unwrap_or_default();
        text.into_iter().filter(|&byte| byte == b'\n').count()
    };
    let mut chance = Chance::new(5);
    let mut sets = vec!["--device", "cpu", "--resume"];
    sets.extend(changes.iter().flat_map(|change| ["--set", *change]));
    for kill in 0..KILLS {
        let mut running = Command::new(env!("CARGO_BIN_EXE_sori-train"))
            .arg("train")
            .args(&sets)
            .arg("--output")
            .arg(&run)
            .arg(workshop.path("recipe.toml"))
            .env("OMP_NUM_THREADS", "1")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Some steps later, anywhere in a step; or before the first, while it begins.
        let enough = lines() + chance.within(0..14);
        let hasty = kill % 5 == 4;
        let begun = Instant::now();
        while !hasty && lines() < enough.min(STEPS - 5) {
            assert!(running.try_wait().unwrap().is_none(), "it ended by itself");
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "no step was taken"
            );
            thread::sleep(Duration::from_millis(1));
        }
        let moment = if hasty { 0..700 } else { 0..40 };
        thread::sleep(Duration::from_millis(chance.within(moment) as u64));
        running.kill().unwrap();
        running.wait().unwrap();
        for file in fs::read_dir(run.join("checkpoints")).into_iter().flatten() {
            let path = file.unwrap().path();
            if path
                .extension()
                .is_some_and(|ending| ending == "safetensors")
            {
                assert!(!tensors(&path, "").is_empty(), "{path:?} is not whole");
            }
        }
    }
    assert!((20..STEPS).contains(&lines()), "{} steps", lines());
    let again = train(&recipe, options(&run, true, &AtomicBool::new(false))).unwrap();
    assert!(tensors(&finished(again), "") == tensors(&trained, ""));
    assert_eq!(figures(&run, "train/loss"), loss);
}

/// Stages that compare everything that a teacher gives.
const EVERYTHING: &str = r#"
[[stage]]
name = "early"
steps = 8
loss = { sam = 1.0, feature = 0.1 }
[[stage]]
name = "late"
steps = 8
loss = { ctc = 1.0, guided = 1.0, softmax = 0.1 }
"#;

/// Speeds change, and nothing else.
const SPEED_ONLY: [&str; 3] = [
    "data.augmentation.quiet.probability=0",
    "data.augmentation.gain.probability=0",
    "data.augmentation.telephone.probability=0",
];

#[test]
fn a_cached_teacher_teaches_what_the_teacher_does() {
    let shop = Workshop::new();
    let teacher = shop.teacher();
    let cache = format!("teacher.cache={}", shop.path("cache").display());
    let live: Vec<&str> = [&teacher[..]].into_iter().chain(SPEED_ONLY).collect();
    let cached = [&live[..], &[&cache]].concat();
    for (changes, run) in [(&live, "live"), (&cached, "filling"), (&cached, "filled")] {
        let recipe = shop.recipe(EVERYTHING, changes);
        shop.train(&recipe, run).unwrap();
    }
    for loss in [
        "train/sam",
        "train/feature",
        "train/guided",
        "train/softmax",
        "train/ctc",
    ] {
        let [live, filling, filled] =
            ["live", "filling", "filled"].map(|run| figures(&shop.path(run), loss));
        assert_eq!(live.len(), 8, "{loss}");
        assert_eq!(filling, filled, "{loss}");
        for (live, filled) in live.iter().zip(&filled) {
            let scale = live.abs().max(1.0);
            assert!(
                (live - filled).abs() < 1e-3 * scale,
                "{loss}: {live} {filled}"
            );
        }
    }
    let agreement = |run| figures(&shop.path(run), "diagnostics/spikes_on_teachers_frame");
    assert!(!agreement("live").is_empty());
    assert_eq!(agreement("live"), agreement("filled"));
}

#[test]
fn teaching_goes_through_all_speech_once() {
    let shop = Workshop::new();
    let teacher = shop.teacher();
    let cache = format!("teacher.cache={}", shop.path("cache").display());
    let recipe = shop.recipe(SAM_GUIDED, &[&teacher, &cache]);
    let stop = AtomicBool::new(false);
    let first = teach(&recipe, Device::Cpu, &stop, &NO_PEERS).unwrap();
    assert!(first.hours > 0.0 && !first.stopped);
    assert_eq!(first.heard, first.hours);
    let again = teach(&recipe, Device::Cpu, &stop, &NO_PEERS).unwrap();
    assert_eq!((again.hours, again.heard), (first.hours, 0.0));
    // Eight texts at three speeds.
    assert_eq!((first.utterances, first.asked, again.asked), (24, 24, 0));
    // What one recipe had kept another finds; what it wants besides is asked.
    let other = shop.recipe(SAM_GUIDED, &[&teacher, &cache, "seed=9", "model.layers=1"]);
    assert_eq!(
        teach(&other, Device::Cpu, &stop, &NO_PEERS).unwrap().heard,
        0.0
    );
    let more = shop.recipe(EVERYTHING, &[&teacher, &cache]);
    assert_eq!(
        teach(&more, Device::Cpu, &stop, &NO_PEERS).unwrap().heard,
        first.hours
    );

    // Training, with quiet and noise around the speech, asks nothing: the teacher's file is not even
    // looked into for it, as all that is heard is known.
    let outcome = shop.train(&recipe, "run").unwrap();
    finished(outcome);
    assert_eq!(
        teach(&recipe, Device::Cpu, &stop, &NO_PEERS).unwrap().heard,
        0.0
    );

    let stopped = teach(&recipe, Device::Cpu, &AtomicBool::new(true), &NO_PEERS).unwrap();
    assert!(stopped.stopped);
    let error = teach(
        &shop.recipe(SAM_GUIDED, &[&teacher]),
        Device::Cpu,
        &stop,
        &NO_PEERS,
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the recipe has no teacher whose words are kept: give teacher.source and teacher.cache"
    );
}

#[test]
fn what_was_said_at_one_speed_serves_for_all() {
    let shop = Workshop::new();
    let teacher = shop.teacher();
    let cache = format!("teacher.cache={}", shop.path("cache").display());
    let live: Vec<&str> = [&teacher[..]].into_iter().chain(SPEED_ONLY).collect();
    let cached = [&live[..], &[&cache]].concat();
    let stretched = [&cached[..], &["teacher.stretch=true"]].concat();
    let ask = |changes: &[&str]| {
        let recipe = shop.recipe(EVERYTHING, changes);
        let stop = AtomicBool::new(false);
        teach(&recipe, Device::Cpu, &stop, &NO_PEERS).unwrap().asked
    };
    assert_eq!(ask(&stretched), 8);
    shop.train(&shop.recipe(EVERYTHING, &stretched), "stretched")
        .unwrap();
    // Nothing was asked meanwhile: two of three speeds are still unheard.
    assert_eq!(ask(&stretched), 0);
    assert_eq!(ask(&cached), 16);
    assert_eq!(figures(&shop.path("stretched"), "train/softmax").len(), 8);

    // Where the speed stays, so does what was said.
    let own_speed = ["data.augmentation.speed.factors=[1.0]"];
    for (changes, run) in [(&cached, "as it was"), (&stretched, "unstretched")] {
        let changes = [&changes[..], &own_speed].concat();
        shop.train(&shop.recipe(EVERYTHING, &changes), run).unwrap();
    }
    for loss in [
        "train/sam",
        "train/feature",
        "train/guided",
        "train/softmax",
    ] {
        let [was, is] = ["as it was", "unstretched"].map(|run| figures(&shop.path(run), loss));
        assert!(!was.is_empty());
        assert_eq!(was, is, "{loss}");
    }

    let changes = [&live[..], &["teacher.stretch=true"]].concat();
    let changes: Vec<_> = changes.iter().map(ToString::to_string).collect();
    let error = config::read(&shop.path("recipe.toml"), &changes).unwrap_err();
    assert_eq!(
        error.to_string().split_once(": ").unwrap().1,
        "teacher.stretch must be false, or a teacher.cache to stretch from, found true"
    );
}

#[test]
fn a_cache_keeps_no_single_heads() {
    let shop = Workshop::new();
    let teacher = shop.teacher();
    let grouped = SAM_GUIDED.replace("loss = { sam", "heads = \"grouped\"\nloss = { sam");
    shop.recipe(&grouped, &[&teacher]);
    let change = "teacher.cache=somewhere".to_owned();
    let error = config::read(&shop.path("recipe.toml"), &[teacher, change]).unwrap_err();
    assert_eq!(
        error.to_string().split_once(": ").unwrap().1,
        "teacher.cache must be none, as stage \"sam\" compares head by head and the cache keeps means, \
         found somewhere"
    );
}
