//! A teacher whose words are kept.

use std::sync::atomic::AtomicBool;

use sori_train::config;
use sori_train::trainer::teach;
use tch::Device;

use crate::{NO_PEERS, SAM_GUIDED, Workshop, figures, finished};

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
