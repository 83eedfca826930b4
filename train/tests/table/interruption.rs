//! A table that is broken off goes on.

use std::fs;
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::thread;
use std::time::Duration;

use predicates::prelude::PredicateBooleanExt;
use predicates::str::{contains, is_match};
use serde_json::Value;

use crate::Workshop;

#[test]
fn an_interrupted_table_goes_on() {
    let workshop = Workshop::new();
    let words = "table none.toml --seeds 4,5 -o results -m few/manifest.jsonl --device cpu \
                 --set stage.ctc.steps=150";
    let mut running = Process::new(env!("CARGO_BIN_EXE_sori-train"))
        .current_dir(workshop.folder.path())
        .args(words.split_whitespace())
        .env("OMP_NUM_THREADS", "1")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let run = workshop.path("results/none/seed-4");
    while steps(&run).len() < 3 {
        if running.try_wait().unwrap().is_some() {
            panic!("it ended by itself: {:?}", running.wait_with_output());
        }
        thread::sleep(Duration::from_millis(10));
    }
    let kill = Process::new("kill")
        .args(["-INT", &running.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    let ended = running.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(130), "{said}");
    assert!(
        said.contains("the same command goes on from here"),
        "{said}"
    );
    let done = steps(&run).len();
    assert!((3..150).contains(&done), "{done}");
    assert!(!workshop.path("results/table.md").exists());
    assert!(!workshop.path("results/none/seed-5").exists());

    workshop
        .run(&format!("{words} --evaluate-only"))
        .failure()
        .stderr(contains("no run in results is finished"));
    workshop
        .run(&format!("{words} --set optimiser.clip_norm=4"))
        .failure()
        .stderr(contains("\"optimiser.clip_norm\" differs"));

    let one = words.replace("4,5", "4");
    workshop
        .run(&one)
        .success()
        .stderr(contains("none, seed 4: training goes on"))
        .stdout(contains("By mean WER").not());
    assert_eq!(steps(&run), (1..=150).collect::<Vec<_>>());
    // It did not begin anew: there is a file of events that goes on from where it stopped.
    let events = fs::read_dir(run.join("tensorboard")).unwrap();
    let names: Vec<_> = events.map(|file| file.unwrap().file_name()).collect();
    let on_from = format!(".{done}");
    assert!(
        names
            .iter()
            .any(|name| name.to_str().unwrap().ends_with(&on_from)),
        "{names:?}"
    );
    let table = workshop.table("results");
    let wer = table.cells[0].wer.unwrap();
    assert_eq!((wer.seeds, wer.deviation), (1, None));
    assert!(table.verdicts.is_empty());
    assert_eq!(table.cells[0].same_frame, None);

    // What is finished can be seen while the rest is not.
    workshop
        .run(&format!("{words} --evaluate-only"))
        .success()
        .stderr(contains("none, seed 5: left out, not finished"))
        .stdout(is_match(r"(?m)^\| none \| \d+ \| none \| 4 \| 150 \|").unwrap());
}

/// The steps that a run has written figures of.
fn steps(run: &Path) -> Vec<u64> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter_map(|line| line["step"].as_u64()).collect()
}
