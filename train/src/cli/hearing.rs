//! How trained models hear test sets: options and work that commands share.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use sori_train::config::{Chunk, Contexts, FRAME_MS};
use sori_train::data::{Corpus, DataError, Source, Strictness};
use sori_train::evaluate::{EvaluateError, Recogniser, Row, Scored, Set, Settings, evaluate};
use sori_train::model::Teacher;

/// How utterances are decoded.
#[derive(Args)]
pub(super) struct HearingArguments {
    /// Chunk sizes in milliseconds, or `full`; without, those that the model was trained with.
    #[arg(long, value_delimiter = ',', value_name = "MS,...", value_parser = parse_chunk)]
    chunk_ms: Vec<Chunk>,
    /// Left context of a chunk in milliseconds; without, what the model was trained with.
    #[arg(long, value_name = "MS")]
    left_ms: Option<u32>,
    /// Only the first utterances of each manifest.
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<usize>,
    /// Leave out longer utterances.
    #[arg(long, default_value_t = Settings::default().longest, value_name = "SECONDS")]
    longest: f64,
    /// Most audio that is heard at once; more is faster and takes more memory.
    #[arg(long, default_value_t = Settings::default().batch_seconds, value_name = "SECONDS")]
    batch_seconds: f64,
    /// Stop at a bad line or broken audio instead of leaving it out.
    #[arg(long)]
    strict: bool,
}

impl HearingArguments {
    /// The settings, for a model that was trained with `trained`.
    pub(super) fn settings(&self, trained: Contexts) -> Settings {
        let asked = match &self.chunk_ms[..] {
            [] => trained.chunks_ms,
            asked => asked.to_vec(),
        };
        let mut chunks_ms = Vec::new();
        for chunk in asked {
            if !chunks_ms.contains(&chunk) {
                chunks_ms.push(chunk);
            }
        }
        Settings {
            contexts: Contexts {
                chunks_ms,
                left_ms: self.left_ms.unwrap_or(trained.left_ms),
            },
            longest: self.longest,
            batch_seconds: self.batch_seconds,
            strictness: self.strictness(),
        }
    }

    fn strictness(&self) -> Strictness {
        if self.strict {
            Strictness::Strict
        } else {
            Strictness::Lenient
        }
    }

    /// Reads a manifest.
    pub(super) fn read(&self, manifest: &Path) -> Result<TestSet, DataError> {
        Ok(TestSet {
            manifest: manifest.into(),
            name: set_name(manifest),
            corpus: Corpus::read(&[Source::once(manifest)], self.strictness())?,
            limit: self.limit,
        })
    }
}

/// A manifest's utterances, as they are asked for.
pub(super) struct TestSet {
    pub(super) manifest: PathBuf,
    pub(super) name: String,
    corpus: Corpus,
    limit: Option<usize>,
}

impl TestSet {
    /// Whether it has no utterance at all.
    pub(super) fn is_empty(&self) -> bool {
        self.corpus.is_empty()
    }

    /// Lines of the manifest that say nothing.
    pub(super) fn bad_lines(&self) -> usize {
        self.corpus.bad_lines()
    }

    /// Decodes the utterances, with a bar on the terminal. `each` is told of every one and may break
    /// off.
    pub(super) fn hear(
        &self,
        recogniser: Recogniser<'_>,
        settings: &Settings,
        teacher: Option<&Teacher>,
        each: &mut dyn FnMut(Scored<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Row>, EvaluateError> {
        let entries = self.corpus.entries()?;
        let set = Set {
            name: &self.name,
            entries: &entries[..entries.len().min(self.limit.unwrap_or(usize::MAX))],
        };
        let progress = progress(set, settings.contexts.chunks_ms.len());
        let rows = evaluate(recogniser, set, settings, teacher, &mut |scored| {
            progress.inc((scored.entry.duration * 1000.0) as u64);
            each(scored)
        });
        progress.finish_and_clear();
        rows
    }
}

/// A chunk size as people write it.
pub(super) fn parse_chunk(text: &str) -> Result<Chunk, String> {
    match text.parse::<u32>() {
        Ok(ms) if ms > 0 && ms.is_multiple_of(FRAME_MS) => Ok(Chunk::Ms(ms)),
        Err(_) if text == "full" => Ok(Chunk::Full),
        _ => Err(format!(
            "expected milliseconds in steps of {FRAME_MS}, or \"full\""
        )),
    }
}

/// A manifest's file name; that of its folder if it is called `manifest`.
fn set_name(manifest: &Path) -> String {
    let stem = manifest.file_stem().unwrap_or_default();
    let folder = manifest.parent().and_then(Path::file_name);
    let name = folder.filter(|_| stem == "manifest").unwrap_or(stem);
    name.to_string_lossy().into_owned()
}

/// Every utterance is heard with each of the chunk sizes.
fn progress(set: Set<'_>, chunks: usize) -> ProgressBar {
    let seconds: f64 = set.entries.iter().map(|entry| entry.duration).sum();
    let bar = ProgressBar::new((seconds * 1000.0) as u64 * chunks as u64);
    let style = ProgressStyle::with_template("{msg:20} {wide_bar} {percent:>3} %  {eta} left");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_message(set.name.to_owned());
    bar
}
