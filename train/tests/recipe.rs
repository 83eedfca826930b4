//! Recipes say what they mean, and mistakes in them are named before anything runs.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

use sori_train::config::{Decay, Network, Precision, Recipe, RecipeError, read};
use sori_train::loss::HeadMatching;
use sori_train::model::Context;

const SMALL: &str = r#"
[data]
tokenizer = "tokenizer"
train = [{ manifest = "speech.jsonl" }]

[[stage]]
name = "ctc"
steps = 10
loss = { ctc = 1.0 }
"#;

fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.toml");
    fs::write(&path, text).unwrap();
    (folder, path)
}

/// Reads the small recipe with changes.
fn read_with(overrides: &[&str]) -> Result<Recipe, RecipeError> {
    let (_folder, path) = written(SMALL);
    let overrides: Vec<_> = overrides.iter().map(|&text| text.to_owned()).collect();
    read(&path, &overrides)
}

/// The message about a recipe that is refused.
fn refused(overrides: &[&str]) -> String {
    read_with(overrides).unwrap_err().to_string()
}

#[test]
fn every_shipped_recipe_can_be_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/base");
    let teacher = ["teacher.source=nemo:teacher.nemo".to_owned()];
    let mut found = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if name == "common" {
            continue;
        }
        let recipe = read(&path, &teacher).unwrap();
        assert_eq!(recipe.name, name);
        recipe.model.network(128).unwrap();
        let steps: u64 = recipe.stages.iter().map(|stage| stage.steps).sum();
        let expected = if name == "teacher" { 120_000 } else { 80_000 };
        assert_eq!(
            steps, expected,
            "{name}: methods are compared at the same number of steps"
        );
        if !["none", "teacher"].contains(&name.as_str()) {
            let error = read(&path, &[]).unwrap_err().to_string();
            assert!(error.contains("teacher.source must be given"), "{error}");
        }
        found.push(name);
    }
    found.sort();
    let expected = [
        "feature",
        "guided",
        "none",
        "sam-guided",
        "sam-only+ctc",
        "softmax",
        "teacher",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_comparison_changes_what_it_compares_and_nothing_else() {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes");
    let read = |name: &str| {
        let path = recipes.join(name).with_extension("toml");
        read(&path, &["teacher.source=sori:teacher".into()]).unwrap()
    };
    // The table: the methods of `base`, each with its share of the steps.
    let none = read("table1/none");
    for method in [
        "none",
        "softmax",
        "feature",
        "guided",
        "sam-guided",
        "sam-only+ctc",
    ] {
        let (small, mut large) = (
            read(&format!("table1/{method}")),
            read(&format!("base/{method}")),
        );
        let steps = |recipe: &Recipe| recipe.stages.iter().map(|stage| stage.steps).sum::<u64>();
        assert_eq!(steps(&small), steps(&none), "{method}");
        for (large, small) in large.stages.iter_mut().zip(&small.stages) {
            large.steps = small.steps;
        }
        assert_eq!(small.stages, large.stages, "{method}");
        let alike = Recipe {
            name: small.name.clone(),
            stages: small.stages.clone(),
            ..none.clone()
        };
        assert_eq!(small, alike, "{method}");
    }
    // Recorded and synthetic speech: another `data.train`.
    let both = read("en-5m/ablation/both");
    for name in ["real", "synthetic"] {
        let one = read(&format!("en-5m/ablation/{name}"));
        let mut alike = both.clone();
        alike.name.clone_from(&one.name);
        assert_ne!(one.data.train, alike.data.train);
        alike.data.train.clone_from(&one.data.train);
        assert_eq!(one, alike);
    }
}

#[test]
fn the_recipe_for_960_hours_is_the_proposed_one_over_archives() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes");
    let recipe = read(&folder.join("librispeech-960/student.toml"), &[]).unwrap();
    let teacher = ["teacher.source=nemo:teacher.nemo".to_owned()];
    let proposed = read(&folder.join("base/sam-guided.toml"), &teacher).unwrap();
    assert_eq!(recipe.stages, proposed.stages);
    assert_eq!(recipe.data.batching, proposed.data.batching);
    let [source] = &recipe.data.train[..] else {
        panic!("{:?}", recipe.data.train)
    };
    assert!(
        source
            .tars
            .as_ref()
            .unwrap()
            .ends_with("/audio_{0..251}.tar")
    );
    // Runs that were begun before there were archives can still be resumed: no key is new to them.
    assert!(!proposed.to_toml().contains("tars") && !proposed.to_toml().contains("buffer_hours"));
}

#[test]
fn the_proposed_recipe_is_two_stages() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/base/sam-guided.toml");
    let recipe = read(&path, &["teacher.source=sori:t".into()]).unwrap();
    let [sam, guided] = &recipe.stages[..] else {
        panic!("{:?}", recipe.stages)
    };
    let weights =
        |stage: &sori_train::config::Stage| stage.loss.by_name().map(|(_, weight)| weight);
    // CTC, consistency, guided, SAM, softmax, feature.
    assert_eq!(weights(sam), [0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    assert_eq!(weights(guided), [1.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
    assert_eq!(sam.heads, HeadMatching::Mean);
    assert_eq!(recipe.precision, Precision::Bf16);
    let frames = [4, 8, 16].map(|chunk| Context::Chunked { chunk, left: 64 });
    assert_eq!(recipe.contexts.contexts()[..3], frames);
    assert_eq!(recipe.contexts.contexts()[3], Context::Full);
}

#[test]
fn a_recipe_extends_another() {
    let (folder, base) = written(SMALL);
    let over = folder.path().join("over.toml");
    let text = r#"
        extends = "small.toml"
        seed = 5
        [data.batching]
        longest = 12.0
        [optimiser]
        decay = "inverse_sqrt"
        [[stage]]
        name = "longer"
        steps = 20
        loss = { ctc = 0.5 }
    "#;
    fs::write(&over, text).unwrap();
    let recipe = read(&over, &[]).unwrap();
    assert_eq!((recipe.name.as_str(), recipe.seed), ("over", 5));
    assert_eq!(recipe.data.tokenizer, Path::new("tokenizer"));
    assert_eq!(recipe.data.batching.longest, 12.0);
    assert_eq!(recipe.optimiser.decay, Decay::InverseSqrt);
    assert_eq!(recipe.stages.len(), 1);
    assert_eq!(recipe.stages[0].name, "longer");

    fs::write(&base, "extends = \"over.toml\"").unwrap();
    assert!(matches!(read(&over, &[]), Err(RecipeError::Circle { .. })));
}

#[test]
fn values_can_be_set_from_outside() {
    let recipe = read_with(&[
        "optimiser.peak_learning_rate=2e-3",
        "optimiser.betas=[0.9, 0.98]",
        "optimiser.betas.1=0.95",
        "contexts.chunks_ms=[80, \"full\"]",
        "stage.ctc.steps=7",
        "stage.0.loss.ctc=2",
        "name=other",
        "model.layers=3",
        "data.augmentation.speed.factors=[]",
        "teacher.source=whisper:base.safetensors",
        "teacher.layer=4",
    ])
    .unwrap();
    assert_eq!(recipe.optimiser.peak_learning_rate, 2e-3);
    assert_eq!(recipe.optimiser.betas, [0.9, 0.95]);
    assert_eq!(
        recipe.contexts.contexts()[0],
        Context::Chunked { chunk: 2, left: 64 }
    );
    assert_eq!(
        (recipe.stages[0].steps, recipe.stages[0].loss.ctc),
        (7, 2.0)
    );
    assert_eq!(recipe.name, "other");
    let Network::Conformer(model) = recipe.model.network(50).unwrap() else {
        panic!("the student is a Conformer")
    };
    assert_eq!((model.layers, model.vocabulary), (3, 50));
    assert!(recipe.data.augmentation.speed.factors.is_empty());
    assert_eq!(recipe.teacher.unwrap().layer, Some(4));
}

#[test]
fn a_resolved_recipe_is_the_same_recipe() {
    let recipe = read_with(&["model.preset=teacher", "contexts.chunks_ms=[\"full\"]"]).unwrap();
    let (_folder, path) = written(&recipe.to_toml());
    assert_eq!(read(&path, &[]).unwrap(), recipe);
}

#[test]
fn unknown_keys_are_named_with_their_path() {
    for (change, expected) in [
        ("optimiser.peak_lr=1.0", ["optimiser", "peak_lr"]),
        (
            "data.augmentation.noise.loud=1",
            ["data.augmentation.noise", "loud"],
        ),
        ("stage.0.loss.kd=1.0", ["stage[0].loss", "kd"]),
        ("model.d_modle=16", ["model", "d_modle"]),
        ("sede=1", ["", "sede"]),
    ] {
        let message = refused(&[change]);
        assert!(message.contains(expected[0]), "{message}");
        assert!(
            message.contains(&format!("unknown field `{}`", expected[1])),
            "{message}"
        );
    }
}

#[test]
fn wrong_values_are_explained() {
    for (change, expected) in [
        (
            "seed=fast",
            "seed: invalid type: string \"fast\", expected u64",
        ),
        (
            "precision=fp16",
            "precision: unknown variant `fp16`, expected `fp32` or `bf16`",
        ),
        (
            "contexts.chunks_ms=[100]",
            "contexts.chunks_ms must be a multiple of 40 ms above 0, found 100",
        ),
        (
            "contexts.left_ms=0",
            "contexts.left_ms must be a multiple of 40 ms from 40 on, found 0",
        ),
        (
            "stage.ctc.guide_delay=2",
            "guide_delay must be 0 without guided CTC",
        ),
        (
            "contexts.chunks_ms=[]",
            "contexts.chunks_ms must be at least one chunk size, found 0",
        ),
        (
            "contexts.chunks_ms=[\"half\"]",
            "expected milliseconds or \"full\", found \"half\"",
        ),
        (
            "optimiser.clip_norm=0",
            "optimiser.clip_norm must be above 0, found 0",
        ),
        (
            "optimiser.warm_up_steps=-1",
            "optimiser.warm_up_steps: invalid value: integer `-1`",
        ),
        (
            "checkpoints.average_last=9",
            "checkpoints.average_last must be from 1 to 3",
        ),
        (
            "stage.0.loss={}",
            "stage.0.loss must be at least one weight above 0",
        ),
        (
            "stage.0.loss={ consistency = 0.2 }",
            "stage.0.loss must be at least one weight above 0 beside consistency, found none",
        ),
        (
            "stage.0.loss.sam=1",
            "teacher.source must be given, as stage \"ctc\"",
        ),
        (
            "stage.0.loss.ctc=-1",
            "stage.0.loss.ctc must be at least 0, found -1",
        ),
        (
            "teacher.source=kaldi:x",
            "teacher.source must be sori:FILE, nemo:FILE",
        ),
        (
            "model.heads=7",
            "d_model must be even and a multiple of 7 heads, found 160",
        ),
        (
            "model.vocabulary=7",
            "vocabulary: leave it out, it is the tokenizer's",
        ),
        (
            "model.preset=large",
            "preset: expected \"student\", \"teacher\" or \"head\", found \"large\"",
        ),
        (
            "model.preset=teacher",
            "contexts.chunks_ms must be [\"full\"] for a model that is not causal",
        ),
        (
            "data.batching.longest=300",
            "batching.max_seconds must be from",
        ),
        (
            "ema_decay=1",
            "ema_decay must be at least 0 and below 1, found 1",
        ),
        ("stage=[]", "stage must be at least one stage, found 0"),
        ("name=a/b", "name must be a name without slashes"),
    ] {
        let message = refused(&[change]);
        assert!(message.contains(expected), "{change}: {message}");
    }
    let (_folder, path) = written("[data]\ntokenizer = 1");
    let message = read(&path, &[]).unwrap_err().to_string();
    assert!(
        message.contains("small.toml: data.tokenizer: "),
        "{message}"
    );
    let (_folder, path) = written("seed = ");
    assert!(matches!(read(&path, &[]), Err(RecipeError::Toml { .. })));
    let missing = read(Path::new("missing.toml"), &[]);
    assert!(matches!(missing, Err(RecipeError::Io { .. })));
}

#[test]
fn settings_without_a_place_are_refused() {
    for (change, expected) in [
        ("seed", "--set seed: expected a key, \"=\" and a value"),
        ("=1", "a part of the key is empty"),
        (
            "stage.sam.steps=1",
            "none of the 1 elements of stage is \"sam\"",
        ),
        ("stage.0.name.x=1", "there is nothing below it"),
    ] {
        let message = refused(&[change]);
        assert!(message.contains(expected), "{change}: {message}");
    }
}

#[test]
fn every_recipe_that_is_here_can_be_read() {
    fn recipes(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                recipes(&path, found);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                // The others are what these extend.
                let whole = fs::read_to_string(&path).unwrap().contains("[[stage]]");
                found.extend(whole.then_some(path));
            }
        }
    }
    let mut found = Vec::new();
    for folder in ["../recipes", "../bench"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        recipes(&folder, &mut found);
    }
    assert!(found.len() > 20, "{found:?}");
    for path in found {
        // Some name their teacher, the others are given one.
        let given = "teacher.source=sori:teacher.safetensors".to_owned();
        let recipe = read(&path, &[]).or_else(|_| read(&path, &[given]));
        assert!(recipe.is_ok(), "{}: {recipe:?}", path.display());
    }
}
