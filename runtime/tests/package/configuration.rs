//! `config.json` alone.

use std::fs;

use serde_json::Value;

use crate::{complaint, config};

#[test]
fn configurations_that_are_no_json() {
    let write = |text: &'static str| {
        complaint(|directory| fs::write(directory.join("config.json"), text).unwrap())
    };
    assert_eq!(
        write(""),
        "config.json: line 1, column 0: EOF while parsing a value"
    );
    assert_eq!(
        write("{\"format\": 1,\n oops"),
        "config.json: line 2, column 2: key must be a string"
    );
    assert_eq!(
        write("[]"),
        "config.json: line 1, column 2: invalid length 0, expected struct Version with 1 element"
    );
    assert!(write("\u{0}\u{1}").starts_with("config.json: line 1, column 1: "));
    let deep: &'static str = Box::leak("[".repeat(1 << 19).into_boxed_str());
    assert!(write(deep).starts_with("config.json: "));
}

#[test]
fn other_format_versions() {
    assert_eq!(
        config(|config| {
            config["format"] = 2.into();
            config["geometry"] = "whatever comes next".into();
        }),
        "config.json: format: package format 2, this version of sori reads format 1; update sori or export the model again"
    );
    assert!(
        config(|config| config["format"] = "1".into())
            .starts_with("config.json: format: invalid type: string")
    );
    assert!(
        config(|config| drop(config.as_object_mut().unwrap().remove("format")))
            .contains("missing field `format`")
    );
}

#[test]
fn fields_that_cannot_be_used() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 21] = [
        (
            |c| c["geometry"]["window_size"] = "32".into(),
            "geometry.window_size: invalid type: string \"32\", expected usize",
        ),
        (
            |c| c["geometry"]["window_size"] = 0.into(),
            "geometry.window_size: expected 1 to 6000 frames, found 0",
        ),
        (
            |c| c["geometry"]["chunk_shift"] = 64.into(),
            "geometry.chunk_shift: expected 1 to window_size (32) frames, found 64",
        ),
        (
            |c| c["geometry"]["subsampling_factor"] = 0.into(),
            "geometry.subsampling_factor: expected a divisor of chunk_shift (32), found 0",
        ),
        (
            |c| c["geometry"]["subsampling_factor"] = 5.into(),
            "geometry.subsampling_factor: expected a divisor of chunk_shift (32), found 5",
        ),
        (
            |c| c["geometry"]["cache_last_time"][0] = 0.into(),
            "geometry.cache_last_time: expected three sizes of at least 1",
        ),
        (
            |c| c["geometry"]["cache_last_time"][0] = u64::MAX.into(),
            "geometry.cache_last_time: expected three sizes of at least 1",
        ),
        (
            |c| c["features"]["kind"] = "whisper".into(),
            "features.kind: expected slaney-log-mel, found \"whisper\"",
        ),
        (
            |c| c["features"]["sample_rate"] = 8000.into(),
            "features.sample_rate: expected 16000, found 8000",
        ),
        (
            |c| c["streaming"]["chunk_ms"] = 160.into(),
            "streaming.chunk_ms: expected 320 (chunk_shift x frame_shift_ms), found 160",
        ),
        (
            |c| c["tokens"]["blank_id"] = 0.into(),
            "tokens.blank_id: expected the last id, 8, found 0",
        ),
        (
            |c| c["tokens"]["blank_id"] = u64::MAX.into(),
            "tokens.blank_id: expected the last id, 8, found 18446744073709551615",
        ),
        (
            // Three gigabytes of log-probabilities at once.
            |c| {
                c["geometry"]["window_size"] = 6000.into();
                c["geometry"]["chunk_shift"] = 6000.into();
                c["geometry"]["subsampling_factor"] = 1.into();
                c["streaming"]["chunk_ms"] = 60_000.into();
                c["tokens"]["count"] = 131_072.into();
            },
            "tokens.count: expected at most 67108864 log-probabilities of a step",
        ),
        (
            |c| c["tokens"]["count"] = u64::MAX.into(),
            "tokens.count: expected 2 to 131072",
        ),
        (
            |c| c["tokens"]["file"] = "../tokens.txt".into(),
            "tokens.file: expected a file name without folders, found \"../tokens.txt\"",
        ),
        (
            |c| c["graphs"] = serde_json::json!({}),
            "graphs: expected \"fp32\", \"int8\" or both, found neither",
        ),
        (
            |c| {
                drop(
                    c["geometry"]
                        .as_object_mut()
                        .unwrap()
                        .remove("cache_last_time"),
                );
            },
            "geometry: missing field `cache_last_time`",
        ),
        (
            |c| c["language_model"] = serde_json::json!({"weight": 1}),
            "language_model: missing field `file`",
        ),
        (
            |c| c["language_model"] = serde_json::json!({"file": "/etc/passwd"}),
            "language_model.file: expected a file name without folders, found \"/etc/passwd\"",
        ),
        (
            |c| c["language_model"] = serde_json::json!({"file": "a.lm", "weight": -1}),
            "language_model.weight: expected 0 to 10, found -1",
        ),
        (
            |c| c["language_model"] = serde_json::json!({"file": "a.lm", "unknown_penalty": 1e9}),
            "language_model.unknown_penalty: expected 0 to 100, found 1000000000",
        ),
    ];
    for (change, expected) in cases {
        let found = config(change);
        assert!(
            found.starts_with(&format!("config.json: {expected}")),
            "expected {expected}\n   found {found}"
        );
    }
}
