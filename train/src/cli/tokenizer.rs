//! `sori-train tokenizer`: the pieces of words that a model writes.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sori_train::data::{Corpus, Source, Strictness, Tokenizer, TokenizerKind};
use sori_train::model::nemo;

/// Find the pieces of words that a model will write, from the transcripts of manifests; or take those of a NeMo teacher.
#[derive(Args)]
pub(crate) struct TrainTokenizer {
    /// Manifests of the training text.
    #[arg(required_unless_present = "nemo", value_name = "MANIFEST")]
    manifests: Vec<PathBuf>,
    /// Take the tokens of this model, so that it can teach a student token by token.
    #[arg(long, value_name = "FILE.nemo", conflicts_with_all = ["manifests", "pieces", "kind"])]
    nemo: Option<PathBuf>,
    /// Number of pieces; the model has one output more, the blank.
    #[arg(long, default_value_t = 256)]
    pieces: usize,
    /// How pieces are found.
    #[arg(long, value_enum, default_value_t = Kind::Unigram)]
    kind: Kind,
    /// The folder to write tokens.txt and tokenizer.json to.
    #[arg(short, long, alias = "out", value_name = "DIR")]
    output: PathBuf,
    /// Stop at a bad line instead of skipping it.
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Unigram,
    Bpe,
}

pub(crate) fn run(arguments: TrainTokenizer) -> anyhow::Result<()> {
    if let Some(path) = &arguments.nemo {
        let tokenizer = Tokenizer::from_sentencepiece(&nemo::tokenizer(path)?, path)?;
        tokenizer.save(&arguments.output)?;
        let pieces = tokenizer.pieces().len();
        writeln!(io::stdout(), "{pieces} pieces of {}", path.display())?;
        return Ok(());
    }
    let strictness = if arguments.strict {
        Strictness::Strict
    } else {
        Strictness::Lenient
    };
    let sources: Vec<Source> = arguments.manifests.into_iter().map(Source::once).collect();
    let corpus = Corpus::read(&sources, strictness)?;
    let kind = match arguments.kind {
        Kind::Unigram => TokenizerKind::Unigram,
        Kind::Bpe => TokenizerKind::Bpe,
    };
    let entries = corpus.entries()?;
    let texts = || entries.iter().map(|entry| entry.text.as_str());
    let tokenizer = Tokenizer::train(texts(), kind, arguments.pieces)?;
    tokenizer.save(&arguments.output)?;

    let (mut words, mut tokens) = (0, 0);
    for text in texts() {
        words += text.split_whitespace().count();
        tokens += tokenizer.encode(text)?.len();
    }
    writeln!(
        io::stdout(),
        "{} pieces from {} utterances; {:.2} a word; {} lines skipped",
        tokenizer.pieces().len(),
        corpus.len(),
        tokens as f64 / words.max(1) as f64,
        corpus.bad_lines()
    )?;
    Ok(())
}
