//! The commands around: figures, completions, manual pages.

use std::fs;

use serde_json::Value;

use crate::{TONE, sori, stdout, talk};

#[test]
fn bench_prints_its_figures() {
    let (directory, _) = talk();
    for engine in ["ort", "tract"] {
        let arguments = [
            "bench", "--model", TONE, "--engine", engine, "--json", "--repeat", "2", "talk.wav",
        ];
        let output = sori(&arguments)
            .current_dir(directory.path())
            .output()
            .unwrap();
        let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(figures["engine"].as_str().unwrap().starts_with(engine));
        assert!((figures["audio_seconds"].as_f64().unwrap() - 3.32).abs() < 1e-3);
        for field in ["load_ms", "cpu_real_time_factor", "wall_real_time_factor"] {
            assert!(figures[field].as_f64().unwrap() > 0.0, "{field}: {figures}");
        }
        let percentiles = &figures["chunk_wall_ms"];
        assert!(
            percentiles["p50"].as_f64() <= percentiles["p99"].as_f64(),
            "{figures}"
        );
        assert!(figures["peak_memory_mb"].is_number() || !cfg!(target_os = "linux"));
        assert_eq!(figures["streams"], 1);
    }
    let text = stdout(
        &sori(&["bench", "--model", TONE, "--streams", "3", "talk.wav"])
            .current_dir(directory.path())
            .output()
            .unwrap(),
    );
    assert!(
        text.contains("s per second of audio")
            && text.contains("p99")
            && text.contains("3 at once"),
        "{text}"
    );
}

#[test]
fn completions_and_manual_pages() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = sori(&["completions", shell]).output().unwrap();
        assert!(stdout(&output).contains("transcribe"), "{shell}");
    }
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man");
    assert!(
        sori(&["man", pages.to_str().unwrap()])
            .status()
            .unwrap()
            .success()
    );
    for page in ["sori.1", "sori-transcribe.1", "sori-lm-build.1"] {
        let text = fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
    }
    assert!(
        fs::read_to_string(pages.join("sori.1"))
            .unwrap()
            .contains("Exit status")
    );
}
