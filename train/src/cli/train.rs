//! `sori-train train`: runs a recipe.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use clap::Args;
use sori_train::{config, trainer};

use super::device::DeviceArgument;

/// Train a model as a recipe says.
///
/// Interrupted (Ctrl-C), it saves its state and ends with status 130; `--resume` goes on from there.
/// A second interrupt ends it at once.
#[derive(Args)]
pub(crate) struct Train {
    /// The recipe, in TOML.
    #[arg(value_name = "RECIPE")]
    recipe: PathBuf,
    /// Change a value of the recipe: `optimiser.peak_learning_rate=2e-3`, `stage.sam.steps=100`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Whom to learn from: `sori:FILE`, `nemo:FILE`, `whisper:FILE` or `torchscript:FILE`.
    #[arg(long, value_name = "SPEC")]
    teacher: Option<String>,
    /// The run's folder; `runs/NAME` without, after the recipe's name.
    #[arg(short, long, value_name = "RUN_DIR")]
    out: Option<PathBuf>,
    /// Go on from the newest checkpoint in the run's folder, if there is one.
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    device: DeviceArgument,
}

/// The shell's status of a program that was interrupted.
const INTERRUPTED: u8 = 130;

static STOP: AtomicBool = AtomicBool::new(false);

pub(crate) fn run(arguments: Train) -> anyhow::Result<ExitCode> {
    let mut overrides = arguments.overrides;
    if let Some(teacher) = arguments.teacher {
        overrides.push(format!("teacher.source={}", toml::Value::String(teacher)));
    }
    let recipe = config::read(&arguments.recipe, &overrides)?;
    let run = arguments
        .out
        .unwrap_or_else(|| PathBuf::from("runs").join(&recipe.name));
    let device = arguments.device.open()?;
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED.into());
        }
        eprintln!("sori-train: finishing this step and saving; once more to end at once");
    })
    .context("cannot listen for interrupts")?;
    let options = trainer::Options {
        run: &run,
        resume: arguments.resume,
        device,
        stop: &STOP,
    };
    match trainer::train(&recipe, options)? {
        trainer::Outcome::Finished(model) => {
            println!("{}", model.display());
            Ok(ExitCode::SUCCESS)
        }
        trainer::Outcome::Stopped(checkpoint) => {
            eprintln!(
                "sori-train: stopped, state saved in {}",
                checkpoint.display()
            );
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}
