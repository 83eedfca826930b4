//! `sori-train train`: runs a recipe.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use sori_train::{config, trainer};

use super::device::DeviceArgument;
use super::interrupt;
use super::job::{self, JobArguments};

/// Train a model as a recipe says.
///
/// Interrupted (Ctrl-C), it saves its state and ends with status 130; `--resume` goes on from there.
/// A second interrupt ends it at once.
#[derive(Args)]
pub(crate) struct Train {
    #[command(flatten)]
    run: RunArguments,
    /// Whom to learn from: `sori:FILE`, `nemo:FILE`, `whisper:ENCODER`, `whisper:ENCODER+HEAD` or
    /// `torchscript:FILE`.
    #[arg(long, value_name = "SPEC")]
    teacher: Option<String>,
}

/// Train a CTC head on the frozen encoder of a Whisper model, to make a teacher of it.
///
/// The recipe's `[model]` has `preset = "head"`. The teacher is then `whisper:ENCODER+HEAD`. As with
/// `train`, an interrupted run goes on with `--resume`.
#[derive(Args)]
pub(crate) struct Head {
    #[command(flatten)]
    run: RunArguments,
    /// The encoder, in safetensors with Hugging Face's names; without, the recipe's `model.encoder`.
    #[arg(long, value_name = "FILE")]
    encoder: Option<String>,
    /// Train so many of the encoder's last layers along; without, the recipe's
    /// `model.unfrozen_layers`.
    #[arg(long, value_name = "N")]
    unfreeze: Option<u32>,
}

/// Ask the recipe's teacher once about all training speech, and keep what it says.
///
/// The recipe has a folder for it: `[teacher] cache = "DIR"`. Training then does not pay the teacher
/// again, whatever the run. Stopped and called again, it goes on. Several processes on one machine share
/// the speech and the folder; the folder has to be on a disk of that machine.
#[derive(Args)]
pub(crate) struct Teach {
    /// The recipe, in TOML.
    #[arg(value_name = "RECIPE")]
    recipe: PathBuf,
    /// Change a value of the recipe: `teacher.cache=DIR`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    #[command(flatten)]
    device: DeviceArgument,
    #[command(flatten)]
    job: JobArguments,
}

pub(crate) fn run_teach(arguments: &Teach) -> anyhow::Result<ExitCode> {
    if let Some(workers) = arguments.job.to_start() {
        return job::start(workers);
    }
    let recipe = config::read(&arguments.recipe, &arguments.overrides)?;
    let device = job::own_device(arguments.device.open()?)?;
    interrupt::listen()?;
    let peers = arguments.job.meet(device)?;
    let taught = trainer::teach(&recipe, device, &interrupt::STOP, &peers)?;
    println!(
        "{} utterances, {:.2} h, are known; {} of them, {:.2} h, heard now",
        taught.utterances, taught.hours, taught.asked, taught.heard
    );
    Ok(match taught.stopped {
        true => ExitCode::from(interrupt::STATUS),
        false => ExitCode::SUCCESS,
    })
}

/// What every run takes.
#[derive(Args)]
struct RunArguments {
    /// The recipe, in TOML.
    #[arg(value_name = "RECIPE")]
    recipe: PathBuf,
    /// Change a value of the recipe: `optimiser.peak_learning_rate=2e-3`, `stage.sam.steps=100`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// The run's folder; `runs/NAME` without, after the recipe's name.
    #[arg(short, long, alias = "out", value_name = "RUN_DIR")]
    output: Option<PathBuf>,
    /// Go on from the newest checkpoint in the run's folder, if there is one.
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    device: DeviceArgument,
    #[command(flatten)]
    job: JobArguments,
}

pub(crate) fn run(arguments: Train) -> anyhow::Result<ExitCode> {
    arguments.run.go(arguments.teacher.map(teacher_source))
}

pub(crate) fn run_head(arguments: Head) -> anyhow::Result<ExitCode> {
    let encoder = arguments.encoder.map(toml::Value::String);
    let encoder = encoder.map(|encoder| format!("model.encoder={encoder}"));
    let unfreeze = arguments.unfreeze;
    let unfreeze = unfreeze.map(|layers| format!("model.unfrozen_layers={layers}"));
    arguments.run.go([encoder, unfreeze]
        .into_iter()
        .flatten()
        .chain(["model.preset=head".to_owned()]))
}

impl RunArguments {
    /// Runs the recipe, changed by options of the command besides `--set`.
    fn go(self, changes: impl IntoIterator<Item = String>) -> anyhow::Result<ExitCode> {
        if let Some(workers) = self.job.to_start() {
            return job::start(workers);
        }
        let overrides: Vec<_> = changes.into_iter().chain(self.overrides).collect();
        let recipe = config::read(&self.recipe, &overrides)?;
        let run = self
            .output
            .unwrap_or_else(|| PathBuf::from("runs").join(&recipe.name));
        let device = job::own_device(self.device.open()?)?;
        interrupt::listen()?;
        let peers = self.job.meet(device)?;
        let options = trainer::Options {
            run: &run,
            resume: self.resume,
            device,
            stop: &interrupt::STOP,
            peers: &peers,
        };
        let outcome = trainer::train(&recipe, options)?;
        if !peers.leads() {
            return Ok(match outcome {
                trainer::Outcome::Finished(_) => ExitCode::SUCCESS,
                trainer::Outcome::Stopped(_) => ExitCode::from(interrupt::STATUS),
            });
        }
        match outcome {
            trainer::Outcome::Finished(model) => {
                println!("{}", model.display());
                Ok(ExitCode::SUCCESS)
            }
            trainer::Outcome::Stopped(checkpoint) => {
                eprintln!(
                    "sori-train: stopped, state saved in {}",
                    checkpoint.display()
                );
                Ok(ExitCode::from(interrupt::STATUS))
            }
        }
    }
}

/// `--teacher` as a change of the recipe.
pub(super) fn teacher_source(spec: String) -> String {
    format!("teacher.source={}", toml::Value::String(spec))
}
