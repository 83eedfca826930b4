//! Two recipes over two seeds: every figure of the table against the counts that it is made of.

use std::fs;

use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use serde_json::Value;
use sori_train::config::Chunk;
use sori_train::model;
use sori_train::table::{Cell, Heard, Spread, Table};
use sori_train::trainer::Provenance;
use tch::Device;

use crate::Workshop;

const BOTH: &str = "table none.toml guided.toml --teacher sori:teacher/final.safetensors \
                    --seeds 1,2 -m speech.jsonl few/manifest.jsonl --device cpu -o results";

/// Mean and sample deviation, by the book.
fn by_hand(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|x| (x - mean) * (x - mean)).sum();
    (mean, (squares / (n - 1.0)).sqrt())
}

fn assert_spread(found: Option<Spread>, values: &[f64]) {
    let found = found.unwrap();
    let (mean, deviation) = by_hand(values);
    assert_eq!(found.seeds, values.len());
    assert!((found.mean - mean).abs() < 1e-12, "{found:?} of {values:?}");
    assert!(
        (found.deviation.unwrap() - deviation).abs() < 1e-12,
        "{found:?} of {values:?}"
    );
}

/// Holds a cell to the counts of its seeds, as they stand in the JSON.
fn assert_cell(cell: &Cell, json: &Value) {
    let seeds = json["seeds"].as_array().unwrap();
    let over = |figure: &dyn Fn(&Value) -> f64| {
        let rows = seeds.iter().map(|seed| figure(&seed["score"]["row"]));
        rows.collect::<Vec<_>>()
    };
    let number = |value: &Value| value.as_f64().unwrap();
    let errors = |of: &Value| {
        let kinds = ["substitutions", "deletions", "insertions"];
        kinds.iter().map(|kind| number(&of[*kind])).sum::<f64>() / number(&of["reference"])
    };
    assert_spread(cell.wer, &over(&|row| errors(&row["words"])));
    assert_spread(cell.cer, &over(&|row| errors(&row["characters"])));
    for (kind, found) in [
        ("substitutions", cell.substitutions),
        ("deletions", cell.deletions),
        ("insertions", cell.insertions),
    ] {
        let share = |row: &Value| number(&row["words"][kind]) / number(&row["words"]["reference"]);
        assert_spread(found, &over(&share));
    }
    for (key, found) in [
        ("same_frame", cell.same_frame),
        ("within_one", cell.within_one),
    ] {
        let share = |row: &Value| number(&row["spikes"][key]) / number(&row["spikes"]["spikes"]);
        assert_spread(found, &over(&share));
    }
    for (key, found) in [
        ("deviation", cell.hidden_deviation),
        ("cosine", cell.hidden_cosine),
    ] {
        assert_spread(found, &over(&|row| number(&row["hidden"][key])));
    }
    assert_eq!(seeds.len(), 2);
    for seed in seeds {
        assert_eq!(number(&seed["wer"]), errors(&seed["score"]["row"]["words"]));
        assert_eq!(
            number(&seed["cer"]),
            errors(&seed["score"]["row"]["characters"])
        );
    }
}

/// A line of the Markdown, cell by cell.
fn cells(line: &str) -> Vec<&str> {
    let inner = line.trim_matches('|');
    inner.split('|').map(str::trim).collect()
}

#[test]
fn two_recipes_are_compared_over_two_seeds() {
    let workshop = Workshop::new();
    workshop.teacher();
    let done = workshop.run(BOTH).success();
    let markdown = fs::read_to_string(workshop.path("results/table.md")).unwrap();
    assert_eq!(String::from_utf8_lossy(&done.get_output().stdout), markdown);

    let table = workshop.table("results");
    let json = fs::read(workshop.path("results/table.json")).unwrap();
    let json: Value = serde_json::from_slice(&json).unwrap();
    let found: Vec<_> = table
        .cells
        .iter()
        .map(|cell| (cell.set.as_str(), cell.chunk_ms, cell.method.as_str()))
        .collect();
    let mut expected = Vec::new();
    for set in ["speech", "few"] {
        for chunk in [Chunk::Ms(160), Chunk::Full] {
            expected.extend(["none", "guided"].map(|method| (set, chunk, method)));
        }
    }
    assert_eq!(found, expected);
    for (cell, json) in table.cells.iter().zip(json["cells"].as_array().unwrap()) {
        assert_cell(cell, json);
        let row = &cell.seeds[0].score.row;
        let utterances = if cell.set == "speech" { 8 } else { 3 };
        assert_eq!(row.utterances, utterances);
        // As people read it.
        let percent = |of: Option<Spread>| {
            let of = of.unwrap();
            format!(
                "{:.2} ± {:.2}",
                100.0 * of.mean,
                100.0 * of.deviation.unwrap()
            )
        };
        let chunk = match cell.chunk_ms {
            Chunk::Ms(ms) => format!("{ms} ms"),
            Chunk::Full => "full".into(),
        };
        let section = markdown
            .split("\n## ")
            .find(|part| part.starts_with(&cell.set));
        let line = section.unwrap().lines().find(|line| {
            line.starts_with('|') && cells(line)[..2] == [chunk.as_str(), cell.method.as_str()]
        });
        let line = cells(line.unwrap());
        assert_eq!(line[2..4], ["2", percent(cell.wer).as_str()]);
        assert_eq!(line[7..9], [percent(cell.cer), percent(cell.same_frame)]);
    }
    let varied = |cell: &&Cell| cell.wer.unwrap().deviation.unwrap() > 0.0;
    assert!(table.cells.iter().any(|cell| varied(&cell)), "{markdown}");
    let agrees = |cell: &Cell| cell.same_frame.unwrap().mean > 0.0;
    assert!(table.cells.iter().any(agrees), "{markdown}");
    // The teacher has something to teach.
    let learnt = |method: &str| {
        let cells = table.cells.iter().filter(|cell| cell.method == method);
        cells.map(|cell| cell.hidden_cosine).collect::<Vec<_>>()
    };
    assert_ne!(learnt("none"), learnt("guided"), "{markdown}");

    for verdict in &table.verdicts {
        let [first, second] = &verdict.order[..] else {
            panic!("{verdict:?}")
        };
        let of = |method: &str| {
            let mut cells = table.cells.iter();
            let here = |cell: &&Cell| {
                cell.set == verdict.set
                    && cell.chunk_ms == verdict.chunk_ms
                    && cell.method == method
            };
            cells.find(here).unwrap().wer.unwrap()
        };
        let (best, other) = (of(&first.method), of(&second.method));
        assert!(best.mean <= other.mean && first.behind.is_none());
        let gap = second.behind.unwrap();
        let larger = best.deviation.unwrap().max(other.deviation.unwrap());
        assert_eq!(gap.difference, other.mean - best.mean);
        assert_eq!(gap.deviation, Some(larger));
        assert_eq!(gap.exceeds, Some(gap.difference > larger));
        let said = if gap.difference > larger {
            "exceeds"
        } else {
            "is within"
        };
        let line = format!(
            "{:.2} more, which {said} the seeds'",
            100.0 * gap.difference
        );
        assert!(verdict.text.contains(&line), "{}", verdict.text);
        assert!(markdown.contains(&verdict.text));
    }
    assert_eq!(table.verdicts.len(), 4);

    let trained = workshop.path("results/none/seed-2/final.safetensors");
    let (store, _) = model::load(&trained, Device::Cpu).unwrap();
    let parameters: usize = store.variables().values().map(tch::Tensor::numel).sum();
    let [none, guided] = &table.methods[..] else {
        panic!("{:?}", table.methods)
    };
    assert_eq!([none.name.as_str(), &guided.name], ["none", "guided"]);
    assert_eq!(none.parameters, parameters as i64);
    let teacher = "sori:teacher/final.safetensors";
    assert_eq!(
        [none, guided].map(|method| method.teacher.as_deref()),
        [None, Some(teacher)]
    );
    assert!(markdown.contains(&format!("Spikes are compared with those of {teacher}.")));
    assert!(markdown.contains(&format!("| {parameters} |")));
    let beware = "Not all methods heard the same utterances";
    let mut unequal = table.clone();
    unequal.cells[0].seeds[0].score.row.utterances -= 1;
    assert!(!markdown.contains(beware) && unequal.to_markdown().contains(beware));
    let run = &none.runs[1];
    let provenance = Provenance::read(&trained).unwrap().unwrap();
    assert_eq!((run.seed, provenance.seed), (2, 2));
    assert_eq!((run.hours, run.steps), (provenance.hours, 60));

    // The commands are what they say.
    let words = shlex::split(&table.origin.command).unwrap();
    let given: Vec<_> = ["sori-train"]
        .into_iter()
        .chain(BOTH.split_whitespace())
        .collect();
    assert_eq!(words, given);
    assert!(markdown.contains(&table.origin.command) && markdown.contains(&run.command));
    let again = run.command.replace("results/none/seed-2", "again");
    workshop
        .run(again.strip_prefix("sori-train ").unwrap())
        .success();
    let again = workshop.path("again/final.safetensors");
    assert_eq!(Provenance::read(&again).unwrap(), Some(provenance));
    let (again, _) = model::load(&again, Device::Cpu).unwrap();
    assert_eq!(again.variables(), store.variables());

    a_clear_difference_is_called_one(&table);
    nothing_is_done_twice(&workshop, &table);
}

/// The same table, had one method heard all and the other nothing.
fn a_clear_difference_is_called_one(table: &Table) {
    let mut heard = Vec::new();
    for cell in &table.cells {
        for seed in &cell.seeds {
            let mut score = seed.score.clone();
            let words = &mut score.row.words;
            (words.substitutions, words.insertions) = (0, 0);
            words.deletions = if cell.method == "none" {
                words.reference
            } else {
                0
            };
            heard.push(Heard {
                method: cell.method.clone(),
                seed: seed.seed,
                score,
            });
        }
    }
    let clear = Table::new(table.origin.clone(), table.methods.clone(), &heard);
    for verdict in clear.verdicts {
        let text =
            "guided 0.00; none 100.00, 100.00 more, which exceeds the seeds' deviation of 0.00";
        assert_eq!(verdict.text, text);
    }
}

fn nothing_is_done_twice(workshop: &Workshop, before: &Table) {
    let changed = |run: &str| {
        let file = workshop.path(run).join("final.safetensors");
        fs::metadata(file).unwrap().modified().unwrap()
    };
    let trained = changed("results/none/seed-1");
    // A mark in the kept scores shows whether they are used.
    let kept = workshop.path("results/none/seed-1/scores.json");
    let scores = fs::read_to_string(&kept).unwrap();
    let marked = scores.replacen("\"bad_lines\": 0", "\"bad_lines\": 77", 1);
    fs::write(&kept, &marked).unwrap();
    workshop
        .run(BOTH)
        .success()
        .stderr(contains("training").or(contains("hearing")).not())
        .stdout(contains("77 bad lines"));
    assert_eq!(changed("results/none/seed-1"), trained);
    fs::write(&kept, scores).unwrap();

    // Only the new chunk size is heard.
    workshop
        .run(&format!("{BOTH} --chunk-ms 160,full,320"))
        .success()
        .stderr(contains("none, seed 1: hearing few").and(contains("training").not()));
    let table = workshop.table("results");
    assert_eq!(table.cells.len(), 12);
    let old = |table: &Table| {
        let mut cells = table.cells.clone();
        cells.retain(|cell| cell.chunk_ms != Chunk::Ms(320));
        cells
    };
    assert_eq!(old(&table), before.cells);

    // A file that is damaged is as good as none.
    fs::write(&kept, "{\"format\": 1").unwrap();
    workshop
        .run(BOTH)
        .success()
        .stderr(contains("scores.json").and(contains("none, seed 1: hearing speech")));

    let refused = |words: &str| workshop.run(&format!("{BOTH} {words}")).failure();
    refused("--set optimiser.clip_norm=4").stderr(
        contains("results/none/seed-1/final.safetensors was begun with another recipe")
            .and(contains("\"optimiser.clip_norm\" differs"))
            .and(contains("choose another folder with -o")),
    );
    assert_eq!(changed("results/none/seed-1"), trained);

    // Another teacher under the same name.
    let teacher = workshop.path("teacher/final.safetensors");
    let before = fs::read(&teacher).unwrap();
    fs::copy(
        workshop.path("results/none/seed-1/final.safetensors"),
        &teacher,
    )
    .unwrap();
    refused("").stderr(contains(
        "results/guided/seed-1 was begun with another teacher: \"sori:teacher/final.safetensors\" has other contents now",
    ));
    // As runs were before this was kept: they go on, and are heard anew beside this teacher.
    for seed in [1, 2] {
        let kept = format!("results/guided/seed-{seed}/teacher.contents");
        fs::remove_file(workshop.path(&kept)).unwrap();
    }
    workshop.run(BOTH).success().stderr(
        contains("training")
            .not()
            .and(contains("none, seed 1: hearing speech")),
    );
    fs::write(&teacher, before).unwrap();
}
