//! `sori-train table`: recipes over several seeds, and the table of their error rates.

use std::fs;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::Args;
use sori_train::config::{self, Recipe};
use sori_train::evaluate::{EvaluateError, Recogniser, Settings};
use sori_train::model;
use sori_train::table::{
    self, Conditions, Heard, Machine, Origin, Score, Scores, TrainedRun, fingerprint,
};
use sori_train::trainer::{self, Outcome, Provenance, Standing, TrainError};
use tch::Device;

use super::device::DeviceArgument;
use super::hearing::{HearingArguments, TestSet};
use super::interrupt;
use super::train::teacher_source;

const EXAMPLES: &str = "\
Examples:
  Three methods, three seeds, two test sets:
    sori-train table recipes/base/none.toml recipes/base/guided.toml recipes/base/sam-guided.toml \\
        --teacher sori:teacher.safetensors -m test-clean.jsonl test-other.jsonl -o results

  A quick look, to see that all of it runs:
    sori-train table recipes/base/none.toml -m test-clean.jsonl --limit 20 -o try --seeds 1 \\
        --set optimiser.warm_up_steps=10 --set stage.ctc.steps=50

  The table of the runs that are finished so far:
    sori-train table ... -o results --evaluate-only";

/// Train recipes over several seeds and compare them in a table.
///
/// Writes table.md and table.json into the folder and prints the former: word and character error
/// rates of each recipe on each test set with each chunk size, mean and deviation over the seeds,
/// with all that it takes to repeat them. Each run lives in DIR/RECIPE/seed-N.
///
/// The same command goes on where it was interrupted (Ctrl-C: status 130) and trains or hears nothing
/// twice. A folder's recipes may not change, but for [checkpoints], [evaluation] and [metrics].
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Table {
    /// The recipes, in TOML, each a method of the table.
    #[arg(required = true, value_name = "RECIPE")]
    recipes: Vec<PathBuf>,
    /// The folder of the runs and the table.
    #[arg(short, long, alias = "out", value_name = "DIR")]
    output: PathBuf,
    /// What random numbers start from, in place of the recipes' `seed`: a run of each recipe for each.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1,2,3",
        value_name = "N,..."
    )]
    seeds: Vec<u64>,
    /// Manifests of the test speech, each a set of its own; without, each recipe's
    /// `evaluation.manifests`.
    #[arg(short, long = "manifest", num_args = 1.., value_name = "MANIFEST")]
    manifests: Vec<PathBuf>,
    /// Change a value of every recipe: `optimiser.peak_learning_rate=2e-3`, `stage.ctc.steps=100`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Whom the recipes learn from, and whose spikes theirs are compared with: `sori:FILE`,
    /// `nemo:FILE`, `whisper:ENCODER`, `whisper:ENCODER+HEAD` or `torchscript:FILE`. Without, each
    /// recipe's own teacher.
    #[arg(long, value_name = "SPEC")]
    teacher: Option<String>,
    /// Train nothing, and leave out the runs that are not finished.
    #[arg(long)]
    evaluate_only: bool,
    #[command(flatten)]
    hearing: HearingArguments,
    #[command(flatten)]
    device: DeviceArgument,
}

/// A recipe with its runs.
struct Method {
    path: PathBuf,
    name: String,
    settings: Settings,
    /// The test sets, by their places.
    sets: Vec<usize>,
    runs: Vec<Run>,
}

/// A recipe with one seed.
struct Run {
    seed: u64,
    recipe: Recipe,
    folder: PathBuf,
    standing: Standing,
}

/// A manifest that is heard, and the fingerprint of its contents.
struct Fingerprinted {
    set: TestSet,
    contents: String,
}

pub(crate) fn run(arguments: &Table) -> anyhow::Result<ExitCode> {
    let device = arguments.device.open()?;
    let mut methods = arguments.methods()?;
    let sets = arguments.test_sets(&mut methods)?;
    interrupt::listen()?;
    if !arguments.evaluate_only {
        check(&methods, device)?;
    }

    // Seed by seed, so that there is something to compare as early as can be.
    for seed in 0..arguments.seeds.len() {
        for method in &mut methods {
            let (name, run) = (&method.name, &mut method.runs[seed]);
            if !arguments.evaluate_only && train(name, run, device)?.is_break() {
                return Ok(stopped());
            }
            let run = &method.runs[seed];
            match arguments.hearing(method, run, &sets) {
                None => eprintln!(
                    "sori-train: {name}, seed {}: left out, not finished",
                    run.seed
                ),
                Some(hearing) => {
                    if hearing.hear(device)?.is_break() {
                        return Ok(stopped());
                    }
                }
            }
        }
    }

    let table = arguments.table(&methods, &sets, device)?;
    let out = &arguments.output;
    table
        .save(out)
        .with_context(|| format!("cannot write the table into {}", out.display()))?;
    write!(io::stdout(), "{}", table.to_markdown())?;
    Ok(ExitCode::SUCCESS)
}

fn stopped() -> ExitCode {
    eprintln!("sori-train: stopped; the same command goes on from here");
    ExitCode::from(interrupt::STATUS)
}

/// Checks all that has still to be trained, before any of it is.
fn check(methods: &[Method], device: Device) -> anyhow::Result<()> {
    for method in methods {
        let mut runs = method.runs.iter();
        // Runs of a recipe differ in their seeds only.
        if let Some(run) = runs.find(|run| !matches!(run.standing, Standing::Finished(_))) {
            trainer::check(&run.recipe, device)
                .with_context(|| format!("{} cannot be trained", method.path.display()))?;
        }
    }
    Ok(())
}

/// Trains a run to its end, unless it is finished; breaks off if it is stopped.
fn train(method: &str, run: &mut Run, device: Device) -> anyhow::Result<ControlFlow<()>> {
    let seed = run.seed;
    match run.standing {
        Standing::Finished(_) => return Ok(ControlFlow::Continue(())),
        _ if interrupt::stopped() => return Ok(ControlFlow::Break(())),
        Standing::Unbegun => eprintln!("sori-train: {method}, seed {seed}: training"),
        Standing::Begun => eprintln!("sori-train: {method}, seed {seed}: training goes on"),
    }
    let options = trainer::Options {
        run: &run.folder,
        resume: true,
        device,
        stop: &interrupt::STOP,
        peers: &trainer::Peers::none(),
    };
    let outcome = trainer::train(&run.recipe, options)
        .with_context(|| format!("{method}, seed {seed}: training failed"))?;
    Ok(match outcome {
        Outcome::Finished(trained) => {
            run.standing = Standing::Finished(trained);
            ControlFlow::Continue(())
        }
        Outcome::Stopped(checkpoint) => {
            eprintln!("sori-train: state saved in {}", checkpoint.display());
            ControlFlow::Break(())
        }
    })
}

/// A trained model and the test sets that it hears.
struct Hearing<'a> {
    method: &'a Method,
    run: &'a Run,
    trained: &'a Path,
    sets: Vec<&'a Fingerprinted>,
    limit: Option<usize>,
}

impl Hearing<'_> {
    /// Hears what is not in the run's scores yet; breaks off if it is stopped.
    fn hear(&self, device: Device) -> anyhow::Result<ControlFlow<()>> {
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
    fn heard(&self) -> anyhow::Result<Vec<Heard>> {
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
        }
    }
}

impl Table {
    /// Reads all recipes, and looks how far their runs are.
    fn methods(&self) -> anyhow::Result<Vec<Method>> {
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
    fn test_sets(&self, methods: &mut [Method]) -> anyhow::Result<Vec<Fingerprinted>> {
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

    /// `None` if the run is not finished.
    fn hearing<'a>(
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

    /// Puts the scores of all finished runs together.
    fn table(
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
                    teacher: recipe.and_then(learns_from),
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

/// The teacher, if any of the losses needs it.
fn learns_from(recipe: &Recipe) -> Option<String> {
    let mut stages = recipe.stages.iter();
    let teacher = recipe.teacher.as_ref();
    let teacher = teacher.filter(|_| stages.any(|stage| stage.loss.need_teacher()));
    teacher.map(|teacher| teacher.source.clone())
}

fn read_scores(run: &Path) -> anyhow::Result<Scores> {
    Scores::read(run).with_context(|| format!("cannot read the scores in {}", run.display()))
}

fn provenance(trained: &Path) -> anyhow::Result<Provenance> {
    let path = trained.display();
    Provenance::read(trained)
        .with_context(|| format!("cannot read {path}"))?
        .with_context(|| format!("{path} does not tell where it comes from"))
}

/// This moment, in UTC.
fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Words of a command as a shell reads them.
fn shell(words: impl IntoIterator<Item = String>) -> String {
    let words: Vec<_> = words.into_iter().collect();
    // Only a zero byte cannot be quoted, and no argument holds one.
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
}
