//! Runs that are broken off, go on, or begin with what another one left.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use sori_tests::chance::Chance;
use sori_train::config::Recipe;
use sori_train::data::tarred::{self, Sharding};
use sori_train::data::{Corpus, Source, Strictness};
use sori_train::model;
use sori_train::trainer::{Outcome, TrainError, train};
use tch::Device;

use crate::{CTC, SAM_GUIDED, Workshop, checkpoint, figures, finished, options, tensors};

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

/// The command in its fourth step or later of two thousand.
fn learning(workshop: &Workshop, run: &Path) -> Child {
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
        .arg(run)
        .arg(workshop.path("recipe.toml"))
        .env("OMP_NUM_THREADS", "1");
    let mut running = command.stderr(Stdio::piped()).spawn().unwrap();
    while !run.join("metrics.jsonl").exists() || figures(run, "train/loss").len() < 3 {
        if running.try_wait().unwrap().is_some() {
            panic!("it ended by itself: {:?}", running.wait_with_output());
        }
        thread::sleep(Duration::from_millis(20));
    }
    running
}

/// Sends it signals, one right after the other; what it said when it has ended.
fn interrupted(running: Child, signals: &[&str]) -> String {
    let id = running.id();
    let kills: String = signals
        .iter()
        .map(|signal| format!("kill -{signal} {id};"))
        .collect();
    let kill = Command::new("sh").args(["-c", &kills]).status();
    assert!(kill.unwrap().success());
    let ended = running.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130));
    String::from_utf8(ended.stderr).unwrap()
}

#[test]
fn an_interrupted_command_saves_and_goes_on() {
    let workshop = Workshop::new();
    workshop.recipe(CTC, &[]);
    let run = workshop.path("run");
    let said = interrupted(learning(&workshop, &run), &["INT"]);
    assert!(said.contains("stopped, state saved in"), "{said}");
    let done = figures(&run, "train/loss").len();
    assert!((3..2000).contains(&done));

    assert!(checkpoint(&run, done as u64).exists());
}

#[test]
fn a_command_that_is_interrupted_twice_ends_without_a_fault() {
    let workshop = Workshop::new();
    workshop.recipe(CTC, &[]);
    for attempt in 0..8 {
        let run = workshop.path(&format!("run{attempt}"));
        let said = interrupted(learning(&workshop, &run), &["INT", "TERM"]);
        assert!(said.contains("once more to end at once"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
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
