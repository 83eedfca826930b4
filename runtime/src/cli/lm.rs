use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use flate2::bufread::MultiGzDecoder;
use sori::lm::LanguageModel;

use super::Outcome;

const EXAMPLES: &str = "\
Examples:
  sori lm build 3-gram.arpa.gz -o model.lm               once
  sori lm info model.lm
  sori lm score model.lm < sentences.txt                 how well it knows such sentences
  sori transcribe --model DIR --lm=model.lm talk.mp3     words that it expects are preferred";

/// Make language models and look into them.
///
/// A language model knows which words follow which. It is an n-gram model, of up to five words, that
/// any tool makes of plain text as an ARPA file.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Lm {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Build(Build),
    Info(Info),
    Score(Score),
}

/// Turn an ARPA file into the compact form that sori reads.
#[derive(Args)]
struct Build {
    /// ARPA file, plain or gzip; - is standard input.
    #[arg(value_name = "ARPA")]
    arpa: PathBuf,
    /// The file to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Say what a language model holds.
#[derive(Args)]
struct Info {
    /// Language model, as `sori lm build` makes it.
    #[arg(value_name = "FILE")]
    model: PathBuf,
    /// Print it as JSON: {"order", "ngrams": [of one word, of two, ...], "bytes"}.
    #[arg(long)]
    json: bool,
}

/// Say how probable sentences are.
///
/// Standard input has a sentence per line. For each: log10 of its probability, words that the model does
/// not know, and the sentence, with tabs between. Unknown words count as the model's <unk>, or not at
/// all if it has none. A summary goes to standard error.
#[derive(Args)]
struct Score {
    /// Language model, as `sori lm build` makes it.
    #[arg(value_name = "FILE")]
    model: PathBuf,
}

impl Lm {
    pub(super) fn run(&self, quiet: bool) -> anyhow::Result<Outcome> {
        match &self.command {
            Command::Build(command) => command.run()?,
            Command::Info(command) => command.run()?,
            Command::Score(command) => command.run(quiet)?,
        }
        Ok(Outcome::Done)
    }
}

impl Build {
    fn run(&self) -> anyhow::Result<()> {
        let model = if self.arpa.as_os_str() == "-" {
            read_arpa(io::stdin().lock(), Path::new("standard input"))?
        } else {
            let cannot_read = || format!("{}: cannot be read", self.arpa.display());
            let file = File::open(&self.arpa).with_context(cannot_read)?;
            read_arpa(BufReader::new(file), &self.arpa)?
        };
        anyhow::ensure!(
            !same_file::is_same_file(&self.arpa, &self.output).unwrap_or(false),
            "{}: is the ARPA file itself: give another --output",
            self.output.display()
        );
        write(&self.output, model.bytes())
            .with_context(|| format!("{}: cannot be written", self.output.display()))
    }
}

/// Puts a file in the place of another, which programs may have mapped: it is never written into. A device or a pipe takes the
/// bytes as they are.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        return std::fs::write(path, bytes);
    }
    let part = path.with_added_extension("part");
    let written = std::fs::write(&part, bytes).and_then(|()| std::fs::rename(&part, path));
    if written.is_err() {
        // That it cannot be removed is not what went wrong first.
        let _ = std::fs::remove_file(&part);
    }
    written
}

fn read_arpa(mut reader: impl BufRead, name: &Path) -> anyhow::Result<LanguageModel> {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    let start = reader
        .fill_buf()
        .with_context(|| format!("{}: cannot be read", name.display()))?;
    let reader: Box<dyn Read> = if start.starts_with(&GZIP) {
        Box::new(MultiGzDecoder::new(reader))
    } else {
        Box::new(reader)
    };
    Ok(LanguageModel::from_arpa(reader, name)?)
}

impl Info {
    fn run(&self) -> anyhow::Result<()> {
        let model = LanguageModel::open(&self.model)?;
        let mut out = io::stdout().lock();
        if self.json {
            let facts = serde_json::json!({
                "order": model.order(),
                "ngrams": model.counts(),
                "bytes": model.bytes().len(),
            });
            return Ok(writeln!(out, "{facts}")?);
        }
        writeln!(out, "order         {}", model.order())?;
        for (order, count) in (1..).zip(model.counts()) {
            writeln!(out, "{:<14}{count}", format!("{order}-grams"))?;
        }
        writeln!(
            out,
            "size          {:.2} MB",
            model.bytes().len() as f64 / 1e6
        )?;
        Ok(())
    }
}

impl Score {
    fn run(&self, quiet: bool) -> anyhow::Result<()> {
        let model = LanguageModel::open(&self.model)?;
        let mut out = io::stdout().lock();
        let (mut sentences, mut words, mut unknown) = (0, 0, 0);
        let (mut log10, mut unknown_log10) = (0.0, 0.0);
        for line in io::stdin().lock().lines() {
            let line = line.context("standard input: cannot be read")?;
            let score = model.sentence(&line);
            writeln!(out, "{:.4}\t{}\t{line}", score.log10, score.unknown)?;
            sentences += 1;
            words += score.words;
            unknown += score.unknown;
            log10 += score.log10;
            unknown_log10 += score.unknown_log10;
        }
        if quiet || sentences == 0 {
            return Ok(());
        }
        let perplexity = |log10: f64, events: usize| 10_f64.powf(-log10 / events.max(1) as f64);
        super::say(format_args!(
            "{sentences} sentences, {words} words, {unknown} of them unknown ({:.2} %), perplexity {:.1} \
             ({:.1} without the unknown)",
            100.0 * unknown as f64 / words.max(1) as f64,
            perplexity(log10, words + sentences),
            perplexity(log10 - unknown_log10, words - unknown + sentences),
        ));
        Ok(())
    }
}
