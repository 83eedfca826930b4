//! `sori-train average`: one model of several.

use std::path::PathBuf;

use clap::Args;
use sori_train::model;

/// Average the weights of trained models or checkpoints.
///
/// They have to have grown from the same weights: later checkpoints of one run, or runs with one
/// `model.init`. Of one file it makes a copy, which `--half` halves.
#[derive(Args)]
pub(crate) struct Average {
    /// Files that `train` or `head` wrote.
    #[arg(required = true, value_name = "CHECKPOINT")]
    checkpoints: Vec<PathBuf>,
    /// The file to write.
    #[arg(short, long, alias = "out", value_name = "FILE")]
    output: PathBuf,
    /// Store the weights as float16.
    #[arg(long)]
    half: bool,
}

pub(crate) fn run(arguments: &Average) -> anyhow::Result<()> {
    model::average(&arguments.checkpoints, arguments.half, &arguments.output)?;
    Ok(())
}
