//! `sori-train prepare`: manifests of public corpora.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use sori_train::data::{Strictness, librispeech};

/// Write manifests for a corpus that lies unpacked on disk.
#[derive(Args)]
pub(crate) struct Prepare {
    #[command(subcommand)]
    corpus: Corpus,
}

#[derive(Subcommand)]
enum Corpus {
    /// LibriSpeech: one manifest for each split below DIR.
    Librispeech {
        /// Where the archives of <https://www.openslr.org/12> were unpacked; any number of splits.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// The folder to write the manifests to.
        #[arg(short, long, alias = "out", value_name = "DIR")]
        output: PathBuf,
        /// Stop at a bad line or broken audio instead of skipping it.
        #[arg(long)]
        strict: bool,
    },
}

pub(crate) fn run(arguments: &Prepare) -> anyhow::Result<()> {
    let Corpus::Librispeech {
        folder,
        output,
        strict,
    } = &arguments.corpus;
    let strictness = if *strict {
        Strictness::Strict
    } else {
        Strictness::Lenient
    };
    let splits = librispeech::prepare(folder, output, strictness)?;
    let mut stdout = io::stdout().lock();
    for split in splits {
        write!(
            stdout,
            "{:<16} {:>7} utterances {:>8.2} h  {}",
            split.name,
            split.utterances,
            split.seconds / 3600.0,
            split.manifest.display()
        )?;
        match split.skipped {
            0 => writeln!(stdout)?,
            skipped => writeln!(stdout, "  ({skipped} skipped)")?,
        }
    }
    Ok(())
}
