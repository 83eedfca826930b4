//! What is learnt, by which loss, and what is measured meanwhile.

use std::fs;

use safetensors::SafeTensors;
use sori_train::model;
use sori_train::torch::has_bf16;
use sori_train::trainer::{Provenance, TrainError};
use tch::Device;

use crate::{CTC, SAM_GUIDED, Workshop, checkpoint, figures, finished, tensors};

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
        ("consistency", "mean"),
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
            assert!(*a != 0.0, "{loss}");
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
