//! A table for people.

use std::fmt::Write as _;

use super::{Cell, Method, Spread, Table, firsts};
use crate::config::Chunk;
use crate::evaluate::Collapse;

/// The whole document.
pub(super) fn write(table: &Table) -> String {
    let mut out = String::from("# Results\n\n");
    let origin = &table.origin;
    let machine = &origin.machine;
    out += &format!(
        "Made {} by sori-train {} at commit {}, on {} with {} cores, computing on {}.\n\n",
        origin.date,
        origin.version,
        commit(origin.commit.as_deref()),
        machine.cpu,
        machine.cores,
        machine.device
    );
    out += &rows(&METHOD_COLUMNS, table.methods.iter().map(method));
    for cells in table.cells.chunk_by(|a, b| a.set == b.set) {
        out += &section(table, cells);
    }
    out += "\n## Columns\n\n";
    out += &definitions();
    out += "\n## To repeat\n\nAll of it, and each run by itself:\n\n```sh\n";
    out += &format!("{}\n", origin.command);
    for run in table.methods.iter().flat_map(|method| &method.runs) {
        out += &format!("{}\n", run.command);
    }
    out += "```\n";
    out
}

const METHOD_COLUMNS: [&str; 7] = [
    "method",
    "parameters",
    "learns from",
    "seeds",
    "steps",
    "hours heard",
    "trained at commit",
];

fn method(method: &Method) -> Vec<String> {
    let runs = &method.runs;
    let seeds: Vec<_> = runs.iter().map(|run| run.seed.to_string()).collect();
    let commits = firsts(runs.iter().map(|run| commit(run.commit.as_deref())));
    let steps = firsts(runs.iter().map(|run| run.steps.to_string()));
    let hours = Spread::of(runs.iter().map(|run| run.hours));
    vec![
        method.name.clone(),
        method.parameters.to_string(),
        method.teacher.clone().unwrap_or_else(|| "none".into()),
        seeds.join(", "),
        steps.join(", "),
        hours.map_or("-".into(), |hours| format!("{:.2}", hours.mean)),
        commits.join(", "),
    ]
}

const COLUMNS: [&str; 12] = [
    "chunk",
    "method",
    "n",
    "WER %",
    "S %",
    "D %",
    "I %",
    "CER %",
    "same frame %",
    "within one %",
    "deviation",
    "cosine",
];

/// A set: its results, what is missing, and the order of the methods.
fn section(table: &Table, cells: &[Cell]) -> String {
    let Some(Cell { set, .. }) = cells.first() else {
        return String::new();
    };
    let mut out = format!("\n## {set}\n\n");
    let scores = || {
        let seeds = cells.iter().flat_map(|cell| &cell.seeds);
        seeds.map(|seed| &seed.score)
    };
    let left = firsts(scores().map(|score| score.conditions.left_ms.to_string()));
    let speech = firsts(scores().map(|score| {
        let row = &score.row;
        format!(
            "{} utterances, {:.2} hours, {} words",
            row.utterances, row.hours, row.words.reference
        )
    }));
    out += &format!(
        "{}; left context of a chunk {} ms.\n",
        speech.join(" or "),
        left.join(" or ")
    );
    let teachers = scores().filter(|score| score.row.spikes.is_some());
    let teachers = firsts(teachers.filter_map(|score| score.conditions.teacher.as_deref()));
    if !teachers.is_empty() {
        out += &format!(
            "Spikes are compared with those of {}.\n",
            teachers.join(" or ")
        );
    }
    if speech.len() > 1 {
        out += "Not all methods heard the same utterances: beware of their differences.\n";
    }
    out.push('\n');
    out += &rows(&COLUMNS, cells.iter().map(result));
    for line in firsts(scores().filter_map(|score| score.row.missing(score.bad_lines))) {
        out += &format!("\n{line}\n");
    }
    let verdicts: Vec<_> = table
        .verdicts
        .iter()
        .filter(|verdict| verdict.set == *set)
        .collect();
    if !verdicts.is_empty() {
        out += "\nBy mean WER %, the lowest first:\n\n";
    }
    for verdict in verdicts {
        out += &format!("- {}: {}\n", chunk(verdict.chunk_ms), verdict.text);
    }
    out
}

fn result(cell: &Cell) -> Vec<String> {
    let percent = |of: Option<Spread>| spread(of, 100.0, 2);
    let mean =
        |of: Option<Spread>| of.map_or("-".into(), |spread| format!("{:.2}", 100.0 * spread.mean));
    vec![
        chunk(cell.chunk_ms),
        cell.method.clone(),
        cell.seeds.len().to_string(),
        percent(cell.wer),
        mean(cell.substitutions),
        mean(cell.deletions),
        mean(cell.insertions),
        percent(cell.cer),
        percent(cell.same_frame),
        percent(cell.within_one),
        spread(cell.hidden_deviation, 1.0, 3),
        spread(cell.hidden_cosine, 1.0, 3),
    ]
}

/// `mean ± deviation`, or the mean alone.
fn spread(of: Option<Spread>, unit: f64, digits: usize) -> String {
    let Some(Spread {
        mean, deviation, ..
    }) = of
    else {
        return "-".into();
    };
    let mut text = format!("{:.digits$}", unit * mean);
    if let Some(deviation) = deviation {
        let _ = write!(text, " ± {:.digits$}", unit * deviation);
    }
    text
}

fn chunk(of: Chunk) -> String {
    match of {
        Chunk::Ms(ms) => format!("{ms} ms"),
        Chunk::Full => "full".into(),
    }
}

/// A commit, short.
fn commit(of: Option<&str>) -> String {
    let Some(of) = of else {
        return "unknown".into();
    };
    let (hash, dirty) = match of.strip_suffix("-dirty") {
        Some(hash) => (hash, "-dirty"),
        None => (of, ""),
    };
    let short: String = hash.chars().take(12).collect();
    short + dirty
}

/// A table: the first two columns to the left, numbers to the right.
fn rows(heading: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut out = format!("| {} |\n|", heading.join(" | "));
    for column in 0..heading.len() {
        out += if column < 2 { "---|" } else { "---:|" };
    }
    out.push('\n');
    for cells in rows {
        let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        out += &format!("| {} |\n", cells.join(" | "));
    }
    out
}

fn definitions() -> String {
    format!(
        "\
Figures are means over n seeds, with ± the sample standard deviation (n - 1 below the fraction); one seed has none.

- chunk: audio that the model hears before it answers, in milliseconds; full: the whole utterance.
- WER %: word error rate, (S + D + I) / words of the references, greedily decoded. Of a set, not the mean of its
  utterances.
- S, D, I %: substituted, deleted and inserted words, of the words of the references; they add up to WER %.
- CER %: the same rate in characters, spaces included.
- same frame %, within one %: spikes (first frames of a token, 40 ms each) that the teacher has on the same frame, or at
  most one frame away, of the model's spikes; - without a teacher with the same tokens.
- deviation: of the last layer's hidden vectors over all frames of the set, averaged over dimensions, without unit; below
  {} a model has collapsed.
- cosine: between two such vectors, averaged over all pairs of frames; above {} a model has collapsed.
- parameters: of the trained model, to the unit. hours heard: training audio, repeated hearings counted again, the mean
  over seeds.
- The seeds' deviation that a difference is held against is the larger one of the two methods.
",
        Collapse::LEAST_DEVIATION,
        Collapse::MOST_COSINE
    )
}
