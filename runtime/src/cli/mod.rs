//! The command line: what is typed to what is done. One file per subcommand.

#![allow(
    clippy::doc_markdown,
    reason = "doc comments here are help texts: backticks would be printed"
)]

mod bench;
#[cfg(feature = "microphone")]
mod devices;
mod info;
mod interrupt;
#[cfg(feature = "microphone")]
mod lines;
#[cfg(feature = "microphone")]
mod listen;
mod lm;
mod model;
#[cfg(feature = "microphone")]
mod recording;
#[cfg(feature = "tui")]
mod screen;
#[cfg(feature = "serve")]
mod serve;
mod shell;
mod transcribe;

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

const EXAMPLES: &str = "\
Examples:
  sori transcribe talk.mp3                     words of a file, a line per utterance
  sori transcribe --format srt -o subs *.m4a   subtitles for many files
  sori listen --tui                            live captions from the microphone
  sori serve                                   captions for browsers and programs, over HTTP
  sori transcribe --lm=model.lm talk.mp3       led by a language model; `sori lm` makes one
  sori bench talk.wav                          how fast this machine is

Exit status: 0 all went well; 1 something failed, each failure is named on stderr; 2 the command
line was wrong. Results go to stdout, progress and messages to stderr.";

/// Streaming speech recognition on this machine: audio in, words with times out.
#[derive(Parser)]
#[command(name = "sori", version, max_term_width = 100, after_help = EXAMPLES)]
struct Sori {
    /// Say what is done and why; twice for more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// No progress and no warnings.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Transcribe(transcribe::Transcribe),
    #[cfg(feature = "microphone")]
    Listen(listen::Listen),
    #[cfg(feature = "microphone")]
    Devices(devices::Devices),
    #[cfg(feature = "serve")]
    Serve(serve::Serve),
    Info(info::Info),
    Bench(bench::Bench),
    Lm(lm::Lm),
    Completions(shell::Completions),
    Man(shell::Man),
}

/// How a subcommand that did not fail outright went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    /// Some inputs failed; each has been reported.
    SomeFailed,
}

pub(crate) fn run() -> ExitCode {
    let sori = Sori::parse();
    let level = match (sori.quiet, sori.verbose) {
        (true, _) => LevelFilter::ERROR,
        (_, 0) => LevelFilter::WARN,
        (_, 1) => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    let lines = tracing_subscriber::fmt::layer()
        .without_time()
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        // A closed stderr is no reason to end.
        .log_internal_errors(false);
    // Only our own messages: symphonia's warnings about odd but readable files help nobody.
    tracing_subscriber::registry()
        .with(lines)
        .with(Targets::new().with_target("sori", level))
        .init();
    if let Command::Transcribe(command) = &sori.command
        && let Some(conflict) = command.conflict()
    {
        let mut sori = Sori::command();
        sori.build();
        if let Some(command) = sori.find_subcommand_mut("transcribe") {
            command.error(ErrorKind::ArgumentConflict, conflict).exit();
        }
    }
    let outcome = match sori.command {
        Command::Transcribe(command) => command.run(sori.quiet),
        #[cfg(feature = "microphone")]
        Command::Listen(command) => command.run(),
        #[cfg(feature = "microphone")]
        Command::Devices(command) => command.run(),
        #[cfg(feature = "serve")]
        Command::Serve(command) => command.run(),
        Command::Info(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Lm(command) => command.run(sori.quiet),
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
    };
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::SomeFailed) => ExitCode::FAILURE,
        // Whoever read our output has seen enough: no fault of ours or theirs.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("sori: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// A line on standard error, whose end is no reason to panic.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Processors of this machine.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
            || cause
                .downcast_ref::<serde_json::Error>()
                .is_some_and(|cause| cause.io_error_kind() == Some(io::ErrorKind::BrokenPipe))
    })
}
