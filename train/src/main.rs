//! The `sori-train` command.

#![deny(unsafe_code)]

mod cli;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use sori_train::model::ConformerConfig;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// For libtorch as much as for us: linked in, it takes the place of `malloc` in the whole process.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Train speech recognisers: a teacher, and a small streaming student distilled from it.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print how many parameters a model has, part by part, to the unit.
    Params {
        /// `teacher`, `student`, or a JSON file with a model's configuration.
        #[arg(long, default_value = "student", value_name = "teacher|student|FILE")]
        config: PathBuf,
    },
    Prepare(cli::prepare::Prepare),
    Shard(cli::shard::Shard),
    Tokenizer(cli::tokenizer::TrainTokenizer),
    Train(cli::train::Train),
    Head(cli::train::Head),
    Teach(cli::train::Teach),
    Average(cli::average::Average),
    Evaluate(cli::evaluate::Evaluate),
    Table(cli::table::Table),
    Plot(cli::plot::Plot),
}

fn main() -> ExitCode {
    let asked = std::env::var("RUST_LOG").ok();
    let targets = asked
        .and_then(|targets| targets.parse::<Targets>().ok())
        .unwrap_or_else(|| {
            Targets::new()
                .with_default(LevelFilter::WARN)
                .with_target("sori_train::trainer", LevelFilter::INFO)
        });
    let lines = tracing_subscriber::fmt::layer()
        .without_time()
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .log_internal_errors(false);
    tracing_subscriber::registry()
        .with(lines)
        .with(targets)
        .init();
    match run(Arguments::parse().command) {
        Ok(status) => status,
        // The reader of our output, `head` say, has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sori-train: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Params { config } => print_parameters(&read_config(&config)?)?,
        Command::Prepare(arguments) => cli::prepare::run(&arguments)?,
        Command::Tokenizer(arguments) => cli::tokenizer::run(arguments)?,
        Command::Average(arguments) => cli::average::run(&arguments)?,
        Command::Evaluate(arguments) => cli::evaluate::run(&arguments)?,
        Command::Plot(arguments) => cli::plot::run(&arguments)?,
        Command::Train(arguments) => return cli::train::run(arguments),
        Command::Head(arguments) => return cli::train::run_head(arguments),
        Command::Teach(arguments) => return cli::train::run_teach(&arguments),
        Command::Shard(arguments) => return cli::shard::run(arguments),
        Command::Table(arguments) => return cli::table::run(&arguments),
    }
    Ok(ExitCode::SUCCESS)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

fn read_config(path: &Path) -> anyhow::Result<ConformerConfig> {
    let config = match path.to_str() {
        Some("teacher") => ConformerConfig::teacher(),
        Some("student") => ConformerConfig::student(),
        _ => {
            let json =
                std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            serde_json::from_slice(&json)
                .with_context(|| format!("{} is no model configuration", path.display()))?
        }
    };
    config.validate()?;
    Ok(config)
}

fn print_parameters(config: &ConformerConfig) -> io::Result<()> {
    let parts = config.parameters();
    let total = ("total", parts.iter().map(|(_, count)| count).sum());
    let mut out = io::stdout().lock();
    for (part, count) in parts.into_iter().chain([total]) {
        writeln!(out, "{part:<12} {count:>12}")?;
    }
    Ok(())
}
