//! The results table of a comparison: methods by test sets, over several seeds.
//!
//! A comparison lives in a folder:
//!
//! | | |
//! |---|---|
//! | `table.md`, `table.json` | the table, a [`Table`] |
//! | `RECIPE/seed-N/` | a run, as [`crate::trainer`] leaves it |
//! | `RECIPE/seed-N/scores.json` | what its model heard of the test sets, [`Scores`] |
//!
//! Figures are made of the scores alone, so that a table can be written again at any time.

mod machine;
mod markdown;
mod scores;
mod statistics;
mod verdict;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::Chunk;
use crate::evaluate::Row;
use crate::whole_file;

pub use machine::Machine;
pub use scores::{Conditions, Score, Scores, fingerprint};
pub use statistics::Spread;
pub use verdict::{Gap, Place, Verdict};

/// Changes when a field of [`Table`] changes its meaning or goes; new ones may come at any time.
const FORMAT: u32 = 1;

/// The results of a comparison: what `table.json` holds. Rates are shares of one, not percent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// 1; changes when a field changes its meaning or goes.
    pub format: u32,
    /// Where and how the table was made.
    pub origin: Origin,
    /// What was compared, in the order of the command.
    pub methods: Vec<Method>,
    /// Results by set, then chunk size, then method.
    pub cells: Vec<Cell>,
    /// The order of the methods, by set, then chunk size.
    pub verdicts: Vec<Verdict>,
}

/// Where and how a table was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// The command, to be repeated in a shell.
    pub command: String,
    /// The git commit of the folder that the command ran in, `-dirty` behind it if there were changes.
    pub commit: Option<String>,
    /// The version of this crate.
    pub version: String,
    /// When, in UTC (RFC 3339).
    pub date: String,
    /// The machine that the table was made on. Runs may come from others.
    pub machine: Machine,
}

/// A method: a recipe, and its finished runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Method {
    /// The recipe's name.
    pub name: String,
    /// The recipe's file.
    pub recipe: PathBuf,
    /// The teacher that it learns from, if there is one.
    pub teacher: Option<String>,
    /// Parameters of its model.
    pub parameters: i64,
    /// Its runs, one for each seed.
    pub runs: Vec<TrainedRun>,
}

/// A finished run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainedRun {
    /// What random numbers started from.
    pub seed: u64,
    /// Its folder.
    pub folder: PathBuf,
    /// The command that trains it again, in a shell.
    pub command: String,
    /// The git commit that it was trained at, `-dirty` behind it if there were changes.
    pub commit: Option<String>,
    /// The version of this crate that trained it.
    pub version: String,
    /// Steps over all stages.
    pub steps: u64,
    /// Hours of audio heard, repeated hearings counted again.
    pub hours: f64,
}

/// A method's results on a set with one chunk size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The method.
    pub method: String,
    /// The set.
    pub set: String,
    /// The chunk size in milliseconds, or `"full"`.
    pub chunk_ms: Chunk,
    /// Word error rate; this and the rates below are `None` if the references are empty.
    pub wer: Option<Spread>,
    /// Substituted words, of the words of the references.
    pub substitutions: Option<Spread>,
    /// Deleted words, likewise.
    pub deletions: Option<Spread>,
    /// Inserted words, likewise.
    pub insertions: Option<Spread>,
    /// Character error rate.
    pub cer: Option<Spread>,
    /// Share of the model's spikes on the teacher's frame; `None` without a teacher with the same
    /// tokens, or without spikes.
    pub same_frame: Option<Spread>,
    /// Share of them within one frame.
    pub within_one: Option<Spread>,
    /// [`Collapse::deviation`](crate::evaluate::Collapse::deviation) of the hidden vectors.
    pub hidden_deviation: Option<Spread>,
    /// [`Collapse::cosine`](crate::evaluate::Collapse::cosine) of the hidden vectors.
    pub hidden_cosine: Option<Spread>,
    /// What all this comes from.
    pub seeds: Vec<SeedScore>,
}

/// What the run of one seed heard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedScore {
    /// The seed.
    pub seed: u64,
    /// Word error rate.
    pub wer: Option<f64>,
    /// Character error rate.
    pub cer: Option<f64>,
    /// The counts, and what they depend on.
    pub score: Score,
}

/// A score of a method's run.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// The method's name.
    pub method: String,
    /// The run's seed.
    pub seed: u64,
    /// What it heard.
    pub score: Score,
}

impl Table {
    /// Puts scores together. Sets, chunk sizes and methods come in the order in which `heard` has
    /// them first.
    #[must_use]
    pub fn new(origin: Origin, methods: Vec<Method>, heard: &[Heard]) -> Self {
        let sets = firsts(heard.iter().map(|heard| heard.score.row.set.clone()));
        let chunks = firsts(heard.iter().map(|heard| heard.score.row.chunk_ms));
        let names = firsts(heard.iter().map(|heard| heard.method.clone()));
        let mut cells = Vec::new();
        let mut verdicts = Vec::new();
        for set in &sets {
            for &chunk_ms in &chunks {
                let of_all: Vec<_> = names
                    .iter()
                    .filter_map(|method| Cell::new(method, set, chunk_ms, heard))
                    .collect();
                verdicts.extend(Verdict::of(&of_all.iter().collect::<Vec<_>>()));
                cells.extend(of_all);
            }
        }
        Self {
            format: FORMAT,
            origin,
            methods,
            cells,
            verdicts,
        }
    }

    /// Writes `table.md` and `table.json` into a folder, each whole or not at all.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        let json = serde_json::to_string_pretty(self)? + "\n";
        whole_file::write(&folder.join("table.json"), |part| fs::write(part, json))?;
        let markdown = self.to_markdown();
        whole_file::write(&folder.join("table.md"), |part| fs::write(part, markdown))
    }

    /// The table for people, in percent, with the definition of each column.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        markdown::write(self)
    }
}

impl Cell {
    /// `None` if the method did not hear the set with this chunk size.
    fn new(method: &str, set: &str, chunk_ms: Chunk, heard: &[Heard]) -> Option<Self> {
        let here = heard.iter().filter(|heard| {
            let row = &heard.score.row;
            heard.method == method && row.set == set && row.chunk_ms == chunk_ms
        });
        let seeds: Vec<_> = here
            .map(|heard| SeedScore {
                seed: heard.seed,
                wer: heard.score.row.words.rate(),
                cer: heard.score.row.characters.rate(),
                score: heard.score.clone(),
            })
            .collect();
        if seeds.is_empty() {
            return None;
        }
        let over = |figure: &dyn Fn(&Row) -> Option<f64>| {
            Spread::of(seeds.iter().filter_map(|seed| figure(&seed.score.row)))
        };
        let of_words = |row: &Row, count: u64| {
            let words = row.words.reference;
            (words > 0).then(|| count as f64 / words as f64)
        };
        Some(Self {
            method: method.to_owned(),
            set: set.to_owned(),
            chunk_ms,
            wer: over(&|row| row.words.rate()),
            substitutions: over(&|row| of_words(row, row.words.substitutions)),
            deletions: over(&|row| of_words(row, row.words.deletions)),
            insertions: over(&|row| of_words(row, row.words.insertions)),
            cer: over(&|row| row.characters.rate()),
            same_frame: over(&|row| Some(row.spikes?.shares()?[0])),
            within_one: over(&|row| Some(row.spikes?.shares()?[1])),
            hidden_deviation: over(&|row| Some(row.hidden?.deviation)),
            hidden_cosine: over(&|row| Some(row.hidden?.cosine)),
            seeds,
        })
    }
}

/// Each value where it comes first.
fn firsts<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}
