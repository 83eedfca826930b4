//! The table of all that was heard, and where it comes from.

use std::path::Path;

use anyhow::ensure;
use sori_train::table::{self, Machine, Origin, TrainedRun};
use sori_train::trainer;
use tch::Device;

use super::plan::{Fingerprinted, Method, Run};
use super::scoring::provenance;
use super::{Table, now};

impl Table {
    /// Puts the scores of all finished runs together.
    pub(super) fn table(
        &self,
        methods: &[Method],
        sets: &[Fingerprinted],
        device: Device,
    ) -> anyhow::Result<table::Table> {
        let (mut rows, mut heard) = (Vec::new(), Vec::new());
        for method in methods {
            let mut parameters = None;
            let mut runs = Vec::new();
            for run in &method.runs {
                let Some(hearing) = self.hearing(method, run, sets) else {
                    continue;
                };
                let scores = hearing.heard()?;
                parameters = parameters.or(scores.first().map(|heard| heard.score.parameters));
                heard.extend(scores);
                let provenance = provenance(hearing.trained)?;
                runs.push(TrainedRun {
                    seed: run.seed,
                    folder: run.folder.clone(),
                    command: self.command(&method.path, run),
                    commit: provenance.commit,
                    version: provenance.version,
                    steps: provenance.steps,
                    hours: provenance.hours,
                });
            }
            if let Some(parameters) = parameters {
                let recipe = method.runs.first().map(|run| &run.recipe);
                rows.push(table::Method {
                    name: method.name.clone(),
                    recipe: method.path.clone(),
                    teacher: recipe
                        .and_then(trainer::learns_from)
                        .map(|teacher| teacher.source.clone()),
                    parameters,
                    runs,
                });
            }
        }
        ensure!(
            !rows.is_empty(),
            "no run in {} is finished, so there is nothing to write a table of",
            self.output.display()
        );
        let arguments = std::env::args_os().skip(1);
        let arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
        let origin = Origin {
            command: shell(["sori-train".to_owned()].into_iter().chain(arguments)),
            commit: trainer::commit(),
            version: env!("CARGO_PKG_VERSION").into(),
            date: now(),
            machine: Machine::this(device),
        };
        Ok(table::Table::new(origin, rows, &heard))
    }

    /// The command that trains a run by itself.
    fn command(&self, recipe: &Path, run: &Run) -> String {
        let mut words = vec!["sori-train".to_owned(), "train".into()];
        words.push(recipe.to_string_lossy().into_owned());
        let seed = format!("seed={}", run.seed);
        for change in self.overrides.iter().chain([&seed]) {
            words.extend(["--set".into(), change.clone()]);
        }
        if let Some(teacher) = &self.teacher {
            words.extend(["--teacher".into(), teacher.clone()]);
        }
        let folder = run.folder.to_string_lossy().into_owned();
        words.extend(["--output".into(), folder]);
        words.extend(self.device.given().into_iter().flatten());
        shell(words)
    }
}

/// Words of a command as a shell reads them.
fn shell(words: impl IntoIterator<Item = String>) -> String {
    let words: Vec<_> = words.into_iter().collect();
    // Only a zero byte cannot be quoted, and no argument holds one.
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
}
