//! What surrounds the engine takes no more instructions than it did: log-mel features, greedy and beam
//! decoding on fixed input, counted by valgrind's callgrind, which no other load of the machine can disturb.
//!
//! Needs valgrind (`scripts/setup all`) and a processor with AVX2, as the FFT chooses its code by that. If a
//! change is meant to cost more, put the new figure, which the failure names, into `FIGURES`.

#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;

use sori::decode::{Beam, BeamOptions, Fusion, Greedy, Phrases};
use sori::features::LogMel;
use sori::lm::{LanguageModel, LmOptions};
use sori::model::Package;
use sori_tests::tone::BLANK;

/// Instructions of each workload below, in the test profile, Rust 1.95.
const FIGURES: [(&str, u64); 3] = [
    ("log_mel_of_ten_seconds", 40_250_000),
    ("greedy_over_ten_seconds", 55_110),
    ("beam_over_ten_seconds", 6_579_000),
];

/// By how much a count may differ, upwards or downwards: another compiler is worth a few percent.
const TOLERANCE: f64 = 0.1;

const SECONDS: usize = 10;
const FRAMES: usize = 25 * SECONDS;

#[test]
fn instructions_stay_within_a_tenth() {
    if !is_x86_feature_detected!("avx2") {
        sori_tests::not_for_this_machine("the figures are of a processor with AVX2");
        return;
    }
    let wrong: Vec<String> = FIGURES
        .into_iter()
        .filter_map(|(workload, expected)| {
            let found = instructions_of(workload);
            println!("{workload}: {found} instructions");
            let change = found as f64 / expected as f64 - 1.0;
            (change.abs() > TOLERANCE).then(|| {
                format!(
                    "{workload}: {found} instructions, {expected} are written down: {:+.1} %",
                    100.0 * change
                )
            })
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Runs a workload of this very program under callgrind, which counts in the workload's function only.
fn instructions_of(workload: &str) -> u64 {
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--collect-atstart=no",
        ])
        .arg(format!("--toggle-collect=*counted::{workload}*"))
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", workload])
        .output()
        .expect("valgrind runs; scripts/setup all installs it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let collected = said
        .lines()
        .find_map(|line| line.split_once("Collected : "))
        .and_then(|(_, count)| count.trim().parse().ok())
        .filter(|&count| count > 0);
    collected.unwrap_or_else(|| panic!("callgrind counted nothing in {workload}:\n{said}"))
}

/// Numbers in -1..1 that look like chance and are always the same.
fn noise(count: usize) -> Vec<f32> {
    let mut state = 1_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state as i32 as f32 / 2_147_483_648.0
    };
    (0..count).map(next).collect()
}

/// Log-posteriors of many words, not all of them sure.
fn posteriors() -> Vec<f32> {
    let mut rows: Vec<f32> = noise(FRAMES * (BLANK + 1))
        .into_iter()
        .map(|value| 4.0 * value - 6.0)
        .collect();
    for (frame, row) in rows.chunks_mut(BLANK + 1).enumerate() {
        // Two blanks, then a token in two frames.
        let best = if frame % 4 < 2 {
            BLANK
        } else {
            frame / 4 * 7 % BLANK
        };
        row[best] = -0.3;
    }
    rows
}

/// The functions that are counted: apart from the tests, whose names are theirs.
mod counted {
    use super::*;

    #[inline(never)]
    pub(super) fn log_mel_of_ten_seconds(
        log_mel: &mut LogMel,
        signal: &[f32],
        frames: &mut Vec<f32>,
    ) {
        for piece in signal.chunks(5_120) {
            log_mel.accept(piece, frames);
        }
        log_mel.finish(frames);
    }

    #[inline(never)]
    pub(super) fn greedy_over_ten_seconds(greedy: &mut Greedy, rows: &[f32]) -> usize {
        for chunk in rows.chunks(8 * (BLANK + 1)) {
            greedy.accept(chunk);
        }
        greedy.take(usize::MAX).count()
    }

    #[inline(never)]
    pub(super) fn beam_over_ten_seconds(beam: &mut Beam, rows: &[f32]) -> usize {
        for chunk in rows.chunks(8 * (BLANK + 1)) {
            beam.accept(chunk);
        }
        beam.finish();
        beam.take(usize::MAX).count()
    }
}

#[test]
#[ignore = "run under callgrind by the other test"]
fn log_mel_of_ten_seconds() {
    let signal = noise(SECONDS * LogMel::SAMPLE_RATE as usize);
    let mut frames = Vec::new();
    counted::log_mel_of_ten_seconds(&mut LogMel::new(), black_box(&signal), &mut frames);
    assert!(frames.len() / LogMel::BINS > 990);
}

#[test]
#[ignore = "run under callgrind by the other test"]
fn greedy_over_ten_seconds() {
    let heard = counted::greedy_over_ten_seconds(&mut Greedy::new(BLANK), black_box(&posteriors()));
    assert!(heard > 50, "{heard}");
}

/// The default beam with phrases and a language model.
#[test]
#[ignore = "run under callgrind by the other test"]
fn beam_over_ten_seconds() {
    let package =
        Package::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/tone")).unwrap();
    let phrases = Phrases::parse("one two\ngoing".as_bytes(), "list", package.tokens()).unwrap();
    let arpa = "\\data\\\nngram 1=4\nngram 2=2\n\n\\1-grams:\n-99 <s> -0.1\n-1 one -0.2\n-1 two\n-2 going\n\n\
        \\2-grams:\n-1 one two\n-1 <s> one\n\n\\end\\\n";
    let model = LanguageModel::from_arpa(arpa.as_bytes(), "model.arpa").unwrap();
    let fusion = Fusion::new(Arc::new(model), LmOptions::default(), package.tokens());
    let mut beam = Beam::new(BLANK, BeamOptions::default());
    beam.set_phrases(Some(Arc::new(phrases)));
    beam.set_language_model(Some(Arc::new(fusion)));
    let heard = counted::beam_over_ten_seconds(&mut beam, black_box(&posteriors()));
    assert!(heard > 50, "{heard}");
}
