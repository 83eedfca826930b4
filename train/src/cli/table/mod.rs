//! `sori-train table`: recipes over several seeds, and the table of their error rates.

mod plan;
mod report;
mod scoring;
mod training;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context as _;
use clap::Args;

use super::device::DeviceArgument;
use super::hearing::HearingArguments;
use super::interrupt;
use training::{check, train};

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

/// This moment, in UTC.
fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}
