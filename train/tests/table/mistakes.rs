//! What cannot be trained or heard is refused at once.

use std::fs;

use predicates::str::contains;
use sori_train::data::{Tokenizer, TokenizerKind};

use crate::Workshop;

#[test]
fn mistakes_are_found_before_anything_is_trained() {
    let workshop = Workshop::new();
    let refused = |words: &str| {
        let words = format!("table {words} -o results --device cpu");
        let assert = workshop.run(&words).failure();
        assert!(!workshop.path("results").exists(), "{words}");
        assert
    };
    refused("none.toml").stderr(contains(
        "none.toml names no evaluation.manifests: give test sets with --manifest",
    ));
    refused("none.toml -m missing.jsonl").stderr(contains("missing.jsonl"));
    fs::write(workshop.path("empty.jsonl"), "").unwrap();
    refused("none.toml -m empty.jsonl").stderr(contains("empty.jsonl holds no utterance"));
    fs::create_dir(workshop.path("other")).unwrap();
    fs::copy(
        workshop.path("speech.jsonl"),
        workshop.path("other/speech.jsonl"),
    )
    .unwrap();
    refused("none.toml -m speech.jsonl other/speech.jsonl").stderr(contains(
        "speech.jsonl and other/speech.jsonl would both be called \"speech\"",
    ));
    refused("none.toml none.toml -m speech.jsonl")
        .stderr(contains("none.toml and none.toml are both called \"none\""));
    refused("none.toml -m speech.jsonl --seeds 1,2,1")
        .stderr(contains("--seeds: 1 is there twice"));
    refused("none.toml guided.toml -m speech.jsonl")
        .stderr(contains("teacher.source must be given"));
    refused(
        "none.toml -m speech.jsonl --set 'model={ preset = \"head\", encoder = \"encoder.safetensors\" }' \
         --set 'contexts.chunks_ms=[\"full\"]'",
    )
    .stderr(contains("none.toml trains a head for a teacher"));
    refused("none.toml gone.toml -m speech.jsonl").stderr(contains("gone.toml"));
    refused("none.toml -m speech.jsonl --left-ms 50").stderr(contains("left context"));
    refused(
        "none.toml -m speech.jsonl --set model.preset=teacher --set 'contexts.chunks_ms=[\"full\"]' \
         --chunk-ms 160",
    )
    .stderr(contains("none.toml cannot be evaluated: a model that is not causal"));

    // The second recipe does not go with the teacher: the first is not begun.
    let other = Tokenizer::train(["face fade"], TokenizerKind::Bpe, 31).unwrap();
    other.save(&workshop.path("other tokens")).unwrap();
    workshop
        .run(
            "train none.toml -o teacher --device cpu --set stage.ctc.steps=1 \
             --set 'data.tokenizer=other tokens'",
        )
        .success();
    refused("none.toml guided.toml -m speech.jsonl --teacher sori:teacher/final.safetensors")
        .stderr(contains(
            "guided.toml cannot be trained: the teacher has 32 outputs",
        ));

    // Where no loss needs its tokens, such a teacher is no hindrance; there are no spikes to compare.
    workshop
        .run(
            "table none.toml -m few/manifest.jsonl --teacher sori:teacher/final.safetensors \
             --seeds 1 --set stage.ctc.steps=1 --chunk-ms full -o results --device cpu",
        )
        .success()
        .stderr(contains("the teacher has no spikes over the same tokens"));
    assert_eq!(workshop.table("results").cells[0].same_frame, None);
}
