//! What is to be trained and heard: recipes with their seeds, and their test sets.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail, ensure};
use sori_train::config::{self, Recipe};
use sori_train::evaluate::Settings;
use sori_train::table::fingerprint;
use sori_train::trainer::{self, Standing, TrainError};

use super::Table;
use crate::cli::hearing::TestSet;
use crate::cli::train::teacher_source;

/// A recipe with its runs.
pub(super) struct Method {
    pub(super) path: PathBuf,
    pub(super) name: String,
    pub(super) settings: Settings,
    /// The test sets, by their places.
    pub(super) sets: Vec<usize>,
    pub(super) runs: Vec<Run>,
}

/// A recipe with one seed.
pub(super) struct Run {
    pub(super) seed: u64,
    pub(super) recipe: Recipe,
    pub(super) folder: PathBuf,
    pub(super) standing: Standing,
}

/// A manifest that is heard, and the fingerprint of its contents.
pub(super) struct Fingerprinted {
    pub(super) set: TestSet,
    pub(super) contents: String,
}

impl Table {
    /// Reads all recipes, and looks how far their runs are.
    pub(super) fn methods(&self) -> anyhow::Result<Vec<Method>> {
        for (index, seed) in self.seeds.iter().enumerate() {
            ensure!(
                !self.seeds[..index].contains(seed),
                "--seeds: {seed} is there twice"
            );
        }
        let mut methods: Vec<Method> = Vec::new();
        for path in &self.recipes {
            let runs = self.seeds.iter().map(|&seed| self.run(path, seed));
            let runs = runs.collect::<anyhow::Result<Vec<_>>>()?;
            let recipe = &runs
                .first()
                .context("--seeds: expected at least one")?
                .recipe;
            let name = recipe.name.clone();
            if let Some(other) = methods.iter().find(|method| method.name == name) {
                bail!(
                    "{} and {} are both called {name:?}: give one of them another `name`",
                    other.path.display(),
                    path.display()
                );
            }
            let settings = self.hearing.settings(recipe.contexts.clone());
            settings
                .validate(recipe.model.causal())
                .with_context(|| format!("{} cannot be evaluated", path.display()))?;
            methods.push(Method {
                path: path.clone(),
                name,
                settings,
                sets: Vec::new(),
                runs,
            });
        }
        Ok(methods)
    }

    fn run(&self, path: &Path, seed: u64) -> anyhow::Result<Run> {
        let teacher = self.teacher.clone().map(teacher_source);
        let mut overrides: Vec<_> = teacher.into_iter().collect();
        overrides.extend_from_slice(&self.overrides);
        overrides.push(format!("seed={seed}"));
        let recipe = config::read(path, &overrides)?;
        ensure!(
            recipe.model.encoder().is_none(),
            "{} trains a head for a teacher: a table is of students; train it with `sori-train head` and give the \
             teacher with --teacher",
            path.display()
        );
        let folder = self.output.join(&recipe.name).join(format!("seed-{seed}"));
        let standing = trainer::standing(&recipe, &folder).map_err(|error| match error {
            TrainError::OtherRecipe { .. } => {
                anyhow!("{error}; restore the recipe, or choose another folder with -o")
            }
            TrainError::OtherTeacher { .. } => anyhow!("{error}: another folder with -o"),
            other => other.into(),
        })?;
        Ok(Run {
            seed,
            recipe,
            folder,
            standing,
        })
    }

    /// Reads the manifests of all methods, each once.
    pub(super) fn test_sets(&self, methods: &mut [Method]) -> anyhow::Result<Vec<Fingerprinted>> {
        let mut sets: Vec<Fingerprinted> = Vec::new();
        for method in methods {
            let own = method
                .runs
                .first()
                .map(|run| &run.recipe.evaluation.manifests);
            let manifests = match (&self.manifests[..], own) {
                ([], Some(own)) => own,
                (given, _) => given,
            };
            ensure!(
                !manifests.is_empty(),
                "{} names no evaluation.manifests: give test sets with --manifest",
                method.path.display()
            );
            for manifest in manifests {
                let known = sets
                    .iter()
                    .position(|known| known.set.manifest == *manifest);
                let place = known.unwrap_or(sets.len());
                if known.is_none() {
                    sets.push(self.test_set(manifest, &sets)?);
                }
                if !method.sets.contains(&place) {
                    method.sets.push(place);
                }
            }
        }
        Ok(sets)
    }

    fn test_set(&self, manifest: &Path, others: &[Fingerprinted]) -> anyhow::Result<Fingerprinted> {
        let set = self.hearing.read(manifest)?;
        ensure!(!set.is_empty(), "{} holds no utterance", manifest.display());
        if let Some(other) = others.iter().find(|other| other.set.name == set.name) {
            bail!(
                "{} and {} would both be called {:?} in the table: rename one of them",
                other.set.manifest.display(),
                manifest.display(),
                set.name
            );
        }
        let bytes =
            fs::read(manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
        Ok(Fingerprinted {
            set,
            contents: fingerprint(&bytes),
        })
    }
}
