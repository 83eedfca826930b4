//! `sori-train shard`: manifests' audio in tar archives.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use sori_train::data::tarred::{self, Sharding};
use sori_train::data::{Corpus, Source, Strictness};

use super::interrupt;

/// Put the audio of manifests into tar archives, to train from a network file system or object storage.
///
/// The layout is NeMo's: `audio_0.tar`, `audio_1.tar` ... and `tarred_audio_manifest.json`. The last line
/// on the output is what a recipe's `data.train` takes. Interrupted (Ctrl-C), it ends with status 130 and
/// leaves no manifest.
#[derive(Args)]
pub(crate) struct Shard {
    /// Manifests of the training data.
    #[arg(required = true, value_name = "MANIFEST")]
    manifests: Vec<PathBuf>,
    /// The folder to write to.
    #[arg(short, long, alias = "out", value_name = "DIR")]
    output: PathBuf,
    /// Most size of an archive, in megabytes.
    #[arg(long, value_name = "MB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    shard_mb: u64,
    /// What the order of utterances follows from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Replace archives and a manifest that are in the folder already.
    #[arg(long)]
    force: bool,
    /// Stop at a bad line or broken audio instead of skipping it.
    #[arg(long)]
    strict: bool,
}

pub(crate) fn run(arguments: Shard) -> anyhow::Result<ExitCode> {
    interrupt::listen_and_say("stopping")?;
    let strictness = match arguments.strict {
        true => Strictness::Strict,
        false => Strictness::Lenient,
    };
    let sources: Vec<_> = arguments.manifests.into_iter().map(Source::once).collect();
    let corpus = Corpus::read(&sources, strictness)?;
    let style = ProgressStyle::with_template("{bar:30} {percent} %, {eta} left");
    let bar = ProgressBar::new(corpus.seconds() as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let sharding = Sharding {
        most_bytes: arguments.shard_mb * 1_000_000,
        seed: arguments.seed,
        replace: arguments.force,
    };
    let mut heard = 0.0;
    let mut each = |seconds: f64| {
        heard += seconds;
        bar.set_position(heard as u64);
        match interrupt::stopped() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    let written = tarred::write(&corpus, &arguments.output, &sharding, strictness, &mut each)?;
    bar.finish_and_clear();
    let Some(written) = written else {
        let out = arguments.output.display();
        eprintln!("sori-train: stopped, {out} is incomplete; start again with --force");
        return Ok(ExitCode::from(interrupt::STATUS));
    };
    let mut stdout = io::stdout().lock();
    write!(
        stdout,
        "{} archives, {} utterances, {:.2} h, {:.1} MB",
        written.archives,
        written.utterances,
        written.seconds / 3600.0,
        written.bytes as f64 / 1e6
    )?;
    match written.skipped + corpus.bad_lines() {
        0 => writeln!(stdout)?,
        skipped => writeln!(stdout, "  ({skipped} skipped)")?,
    }
    writeln!(
        stdout,
        "{{ manifest = {:?}, tars = {:?} }}",
        written.manifest.display().to_string(),
        written.tars
    )?;
    Ok(ExitCode::SUCCESS)
}
