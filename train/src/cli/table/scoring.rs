//! Finished runs hear the test sets; their scores are kept.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Context as _;
use sori_train::evaluate::{EvaluateError, Recogniser};
use sori_train::model;
use sori_train::table::{Conditions, Heard, Score, Scores, fingerprint};
use sori_train::trainer::{self, Provenance, Standing};
use tch::Device;

use super::plan::{Fingerprinted, Method, Run};
use super::{Table, now};
use crate::cli::interrupt;

impl Table {
    /// `None` if the run is not finished.
    pub(super) fn hearing<'a>(
        &self,
        method: &'a Method,
        run: &'a Run,
        sets: &'a [Fingerprinted],
    ) -> Option<Hearing<'a>> {
        let Standing::Finished(trained) = &run.standing else {
            return None;
        };
        Some(Hearing {
            method,
            run,
            trained,
            sets: method.sets.iter().map(|&at| &sets[at]).collect(),
            limit: self.hearing.limit,
        })
    }
}

/// A trained model and the test sets that it hears.
pub(super) struct Hearing<'a> {
    method: &'a Method,
    run: &'a Run,
    pub(super) trained: &'a Path,
    sets: Vec<&'a Fingerprinted>,
    limit: Option<usize>,
}

impl Hearing<'_> {
    /// Hears what is not in the run's scores yet; breaks off if it is stopped.
    pub(super) fn hear(&self, device: Device) -> anyhow::Result<ControlFlow<()>> {
        let mut scores = read_scores(&self.run.folder)?;
        let model = self.fingerprint()?;
        let lacking: Vec<_> = self
            .sets
            .iter()
            .filter_map(|set| {
                let conditions = self.conditions(&model, set);
                let mut settings = self.method.settings.clone();
                let chunks_ms = &mut settings.contexts.chunks_ms;
                chunks_ms.retain(|&chunk| scores.get(&conditions, chunk).is_none());
                (!chunks_ms.is_empty()).then_some((set, conditions, settings))
            })
            .collect();
        if lacking.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }

        let who = format!("{}, seed {}", self.method.name, self.run.seed);
        let (_store, student) = model::load(self.trained, device)?;
        let pieces = provenance(self.trained)?.tokens;
        let recogniser = Recogniser::new(&student, &pieces, device)?;
        let teacher = match &self.run.recipe.teacher {
            Some(teacher) => trainer::spike_teacher(teacher, &pieces, device)?,
            None => None,
        };
        if teacher.is_none() && self.run.recipe.teacher.is_some() {
            eprintln!(
                "sori-train: {who}: the teacher has no spikes over the same tokens to compare"
            );
        }
        let parameters = student.config().parameters();
        let parameters = parameters.iter().map(|(_, count)| count).sum();
        for (Fingerprinted { set, .. }, conditions, settings) in lacking {
            eprintln!("sori-train: {who}: hearing {}", set.name);
            let rows = set.hear(recogniser, &settings, teacher.as_ref(), &mut |_| {
                if interrupt::stopped() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
            let rows = match rows {
                Err(EvaluateError::Stopped) => return Ok(ControlFlow::Break(())),
                rows => rows.with_context(|| format!("{who}: cannot hear {}", set.name))?,
            };
            let new = rows.into_iter().map(|row| Score {
                conditions: conditions.clone(),
                row,
                bad_lines: set.bad_lines(),
                parameters,
                date: now(),
                commit: trainer::commit(),
            });
            scores.add(&model, new).with_context(|| {
                format!("cannot write scores into {}", self.run.folder.display())
            })?;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The scores of test sets, all of which were heard.
    pub(super) fn heard(&self) -> anyhow::Result<Vec<Heard>> {
        let scores = read_scores(&self.run.folder)?;
        let model = self.fingerprint()?;
        let mut heard = Vec::new();
        for set in &self.sets {
            let conditions = self.conditions(&model, set);
            for &chunk in &self.method.settings.contexts.chunks_ms {
                let score = scores.get(&conditions, chunk).with_context(|| {
                    let folder = self.run.folder.display();
                    format!("{folder} was changed meanwhile: run the command again")
                })?;
                heard.push(Heard {
                    method: self.method.name.clone(),
                    seed: self.run.seed,
                    score: score.clone(),
                });
            }
        }
        Ok(heard)
    }

    fn fingerprint(&self) -> anyhow::Result<String> {
        let path = self.trained;
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(fingerprint(&bytes))
    }

    fn conditions(&self, model: &str, heard: &Fingerprinted) -> Conditions {
        let teacher = self.run.recipe.teacher.as_ref();
        Conditions {
            model: model.into(),
            manifest: heard.set.manifest.clone(),
            contents: heard.contents.clone(),
            left_ms: self.method.settings.contexts.left_ms,
            longest: self.method.settings.longest,
            limit: self.limit,
            teacher: teacher.map(|teacher| teacher.source.clone()),
            teacher_contents: teacher.and_then(trainer::contents),
        }
    }
}

fn read_scores(run: &Path) -> anyhow::Result<Scores> {
    Scores::read(run).with_context(|| format!("cannot read the scores in {}", run.display()))
}

pub(super) fn provenance(trained: &Path) -> anyhow::Result<Provenance> {
    let path = trained.display();
    Provenance::read(trained)
        .with_context(|| format!("cannot read {path}"))?
        .with_context(|| format!("{path} does not tell where it comes from"))
}
