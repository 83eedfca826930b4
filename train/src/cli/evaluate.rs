//! `sori-train evaluate`: error rates of a trained model.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use safetensors::SafeTensors;
use serde::Serialize;
use sori_train::config::{Chunk, Contexts, FRAME_MS};
use sori_train::data::{Corpus, Source, Strictness, Tokenizer};
use sori_train::evaluate::{Recogniser, Row, Scored, Set, Settings, evaluate};
use sori_train::model::{self, Conformer, Teacher, TeacherSource};
use sori_train::trainer::{Provenance, commit};
use tch::Device;
use tch::nn::VarStore;

use super::device::DeviceArgument;

/// Count the errors of a trained model on speech that it has not learnt from.
///
/// Every utterance is decoded as a device would: greedily, in chunks of each size, and once as a
/// whole. Prints a table of word and character error rates.
#[derive(Args)]
pub(crate) struct Evaluate {
    /// The trained model; or a teacher, `whisper:ENCODER+HEAD` say, which hears whole utterances.
    #[arg(value_name = "CHECKPOINT|SPEC")]
    model: String,
    /// Manifests of the speech, each a set of its own.
    #[arg(short, long = "manifest", required = true, num_args = 1.., value_name = "MANIFEST")]
    manifests: Vec<PathBuf>,
    /// Chunk sizes in milliseconds, or `full`; without, those that the model was trained with.
    #[arg(long, value_delimiter = ',', value_name = "MS,...", value_parser = parse_chunk)]
    chunk_ms: Vec<Chunk>,
    /// Left context of a chunk in milliseconds; without, what the model was trained with.
    #[arg(long, value_name = "MS")]
    left_ms: Option<u32>,
    /// The folder of the tokenizer; without, the tokens that the checkpoint carries.
    #[arg(long, value_name = "DIR")]
    tokens: Option<PathBuf>,
    /// Compare spikes with those of a teacher: `sori:FILE`, `nemo:FILE` or `torchscript:FILE`.
    #[arg(long, value_name = "SPEC")]
    teacher: Option<String>,
    /// Only the first utterances of each manifest.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Leave out longer utterances.
    #[arg(long, default_value_t = Settings::default().longest, value_name = "SECONDS")]
    longest: f64,
    /// Most audio that is heard at once; more is faster and takes more memory.
    #[arg(long, default_value_t = Settings::default().batch_seconds, value_name = "SECONDS")]
    batch_seconds: f64,
    /// Stop at a bad line or broken audio instead of leaving it out.
    #[arg(long)]
    strict: bool,
    /// Print JSON with all that led to the results.
    #[arg(long)]
    json: bool,
    /// Write every utterance that was misheard to a file, as JSON, one a line.
    #[arg(long, value_name = "FILE")]
    errors: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgument,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    /// The trained model's file, or the teacher.
    checkpoint: &'a str,
    /// Of a trained model.
    parameters: Option<i64>,
    command: Vec<String>,
    /// Of the folder that the command ran in.
    commit: Option<String>,
    version: &'static str,
    left_ms: u32,
    /// Only the first utterances of each manifest were heard.
    limit: Option<usize>,
    teacher: Option<&'a str>,
    training: Option<Training<'a>>,
    results: Vec<ResultRow<'a>>,
}

/// Where the model comes from.
#[derive(Serialize)]
struct Training<'a> {
    recipe: &'a str,
    teacher: Option<&'a str>,
    seed: u64,
    steps: u64,
    hours: f64,
    commit: Option<&'a str>,
    version: &'a str,
}

#[derive(Serialize)]
struct ResultRow<'a> {
    manifest: &'a Path,
    /// Lines of the manifest that say nothing.
    bad_lines: usize,
    wer: Option<f64>,
    cer: Option<f64>,
    #[serde(flatten)]
    row: Row,
}

/// A line of `--errors`.
#[derive(Serialize)]
struct Misheard<'a> {
    set: &'a str,
    chunk_ms: Chunk,
    id: String,
    reference: &'a str,
    hypothesis: &'a str,
    substitutions: u64,
    deletions: u64,
    insertions: u64,
}

pub(crate) fn run(arguments: &Evaluate) -> anyhow::Result<()> {
    let device = arguments.device.open()?;
    let model = Evaluated::open(&arguments.model, device)?;
    let provenance = match &model {
        Evaluated::Model { path, .. } => provenance(path)?,
        Evaluated::Teacher { described_in, .. } => match described_in {
            Some(path) => provenance(path)?,
            None => None,
        },
    };
    let pieces = match (&arguments.tokens, model.tokens(), &provenance) {
        (Some(folder), _, _) => Tokenizer::load(folder)?.pieces().to_vec(),
        (None, Some(tokens), _) => tokens.to_vec(),
        (None, None, Some(provenance)) => provenance.tokens.clone(),
        (None, None, None) => {
            anyhow::bail!(
                "{} does not tell its tokens: give --tokens",
                arguments.model
            )
        }
    };
    let recogniser = match &model {
        Evaluated::Model { model, .. } => Recogniser::new(model, &pieces, device)?,
        Evaluated::Teacher { teacher, .. } => Recogniser::of_teacher(teacher, &pieces, device),
    };
    let teacher = match &arguments.teacher {
        Some(source) => Some(Teacher::open(&source.parse()?, None, device)?),
        None => None,
    };
    let settings = arguments.settings(model.is_causal(), provenance.as_ref());
    let mut errors = match &arguments.errors {
        Some(path) => Some(Misheards::create(path)?),
        None => None,
    };

    let mut results = Vec::new();
    for manifest in &arguments.manifests {
        let corpus = Corpus::read(&[Source::once(manifest)], settings.strictness)?;
        let entries = corpus.entries();
        let set = Set {
            name: &set_name(manifest),
            entries: &entries[..entries.len().min(arguments.limit.unwrap_or(usize::MAX))],
        };
        let progress = progress(set, settings.contexts.chunks_ms.len());
        let rows = evaluate(
            recogniser,
            set,
            &settings,
            teacher.as_ref(),
            &mut |scored| {
                progress.inc((scored.entry.duration * 1000.0) as u64);
                if let Some(errors) = &mut errors {
                    errors.write(set.name, &scored);
                }
            },
        )?;
        progress.finish_and_clear();
        results.extend(rows.into_iter().map(|row| ResultRow {
            manifest,
            bad_lines: corpus.bad_lines(),
            wer: row.words.rate(),
            cer: row.characters.rate(),
            row,
        }));
    }
    if let Some(errors) = errors {
        errors.finish()?;
    }

    let mut out = io::stdout().lock();
    if !arguments.json {
        return Ok(write_table(&mut out, &results)?);
    }
    let report = Report {
        checkpoint: &arguments.model,
        parameters: model.parameters(),
        command: std::env::args_os()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect(),
        commit: commit(),
        version: env!("CARGO_PKG_VERSION"),
        left_ms: settings.contexts.left_ms,
        limit: arguments.limit,
        teacher: arguments.teacher.as_deref(),
        training: provenance.as_ref().map(|of| Training {
            recipe: &of.recipe,
            teacher: of.teacher.as_deref(),
            seed: of.seed,
            steps: of.steps,
            hours: of.hours,
            commit: of.commit.as_deref(),
            version: &of.version,
        }),
        results,
    };
    serde_json::to_writer_pretty(&mut out, &report).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

/// What is evaluated.
enum Evaluated {
    Model {
        path: PathBuf,
        model: Box<Conformer>,
        _store: VarStore,
    },
    Teacher {
        teacher: Box<Teacher>,
        /// The file whose header tells its tokens, if it has one.
        described_in: Option<PathBuf>,
    },
}

impl Evaluated {
    fn open(model: &str, device: Device) -> anyhow::Result<Self> {
        let path = PathBuf::from(model);
        let source = model.parse::<TeacherSource>().ok();
        match source.filter(|_| !path.exists()) {
            None => {
                let (store, model) = model::load(&path, device)?;
                Ok(Self::Model {
                    path,
                    model: Box::new(model),
                    _store: store,
                })
            }
            Some(source) => Ok(Self::Teacher {
                teacher: Box::new(Teacher::open(&source, None, device)?),
                described_in: match source {
                    TeacherSource::Sori(path) => Some(path),
                    TeacherSource::Whisper { head, .. } => head,
                    _ => None,
                },
            }),
        }
    }

    fn is_causal(&self) -> bool {
        matches!(self, Self::Model { model, .. } if model.config().causal)
    }

    fn tokens(&self) -> Option<&[String]> {
        match self {
            Self::Model { .. } => None,
            Self::Teacher { teacher, .. } => teacher.tokens(),
        }
    }

    fn parameters(&self) -> Option<i64> {
        match self {
            Self::Model { model, .. } => {
                let parts = model.config().parameters();
                Some(parts.iter().map(|(_, count)| count).sum())
            }
            Self::Teacher { .. } => None,
        }
    }
}

impl Evaluate {
    fn settings(&self, causal: bool, provenance: Option<&Provenance>) -> Settings {
        let defaults = match provenance {
            Some(of) if causal => Contexts {
                chunks_ms: of.chunks_ms.clone(),
                left_ms: of.left_ms,
            },
            None if causal => Contexts::default(),
            _ => Contexts {
                chunks_ms: vec![Chunk::Full],
                ..Contexts::default()
            },
        };
        let chunks_ms = match &self.chunk_ms[..] {
            [] => defaults.chunks_ms,
            asked => asked.to_vec(),
        };
        Settings {
            contexts: Contexts {
                chunks_ms,
                left_ms: self.left_ms.unwrap_or(defaults.left_ms),
            },
            longest: self.longest,
            batch_seconds: self.batch_seconds,
            strictness: if self.strict {
                Strictness::Strict
            } else {
                Strictness::Lenient
            },
        }
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

/// What a checkpoint says about its training.
fn provenance(path: &Path) -> anyhow::Result<Option<Provenance>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (_, header) = SafeTensors::read_metadata(&bytes)?;
    let Some(json) = header
        .metadata()
        .as_ref()
        .and_then(|header| header.get("provenance"))
    else {
        return Ok(None);
    };
    let provenance = serde_json::from_str(json)
        .with_context(|| format!("{}: \"provenance\" in the header", path.display()))?;
    Ok(Some(provenance))
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

/// The file of `--errors`.
struct Misheards {
    path: PathBuf,
    out: BufWriter<File>,
    /// The first fault ends the writing and is told at the end.
    result: io::Result<()>,
}

impl Misheards {
    fn create(path: &Path) -> anyhow::Result<Self> {
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self {
            path: path.into(),
            out: BufWriter::new(file),
            result: Ok(()),
        })
    }

    fn write(&mut self, set: &str, scored: &Scored<'_>) {
        if self.result.is_err() || scored.words.errors() == 0 {
            return;
        }
        let line = Misheard {
            set,
            chunk_ms: scored.chunk_ms,
            id: scored.entry.id(),
            reference: &scored.entry.text,
            hypothesis: scored.hypothesis,
            substitutions: scored.words.substitutions,
            deletions: scored.words.deletions,
            insertions: scored.words.insertions,
        };
        self.result = serde_json::to_writer(&mut self.out, &line)
            .map_err(io::Error::from)
            .and_then(|()| self.out.write_all(b"\n"));
    }

    fn finish(mut self) -> anyhow::Result<()> {
        self.result
            .and_then(|()| self.out.flush())
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

fn write_table(out: &mut impl Write, results: &[ResultRow<'_>]) -> io::Result<()> {
    let spikes = results.iter().any(|result| result.row.spikes.is_some());
    let mut heading = vec![
        "set",
        "chunk",
        "WER %",
        "S",
        "D",
        "I",
        "words",
        "CER %",
        "utterances",
        "hours",
    ];
    if spikes {
        heading.extend(["same frame %", "within one %"]);
    }
    let mut table = vec![heading.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    let percent =
        |share: Option<f64>| share.map_or("-".into(), |share| format!("{:.2}", 100.0 * share));
    for ResultRow { row, wer, cer, .. } in results {
        let mut cells = vec![
            row.set.clone(),
            match row.chunk_ms {
                Chunk::Ms(ms) => format!("{ms} ms"),
                Chunk::Full => "full".into(),
            },
            percent(*wer),
            row.words.substitutions.to_string(),
            row.words.deletions.to_string(),
            row.words.insertions.to_string(),
            row.words.reference.to_string(),
            percent(*cer),
            row.utterances.to_string(),
            format!("{:.2}", row.hours),
        ];
        if spikes {
            let [same, near] = match row.spikes.and_then(|spikes| spikes.shares()) {
                Some(shares) => shares.map(Some),
                None => [None; 2],
            };
            cells.extend([percent(same), percent(near)]);
        }
        table.push(cells);
    }
    let columns = table.first().map_or(0, Vec::len);
    let widths: Vec<_> = (0..columns)
        .map(|column| {
            table
                .iter()
                .map(|cells| cells[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for cells in &table {
        for (index, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            match index {
                0 => write!(out, "{cell:<width$}")?,
                _ => write!(out, "  {cell:>width$}")?,
            }
        }
        writeln!(out)?;
    }
    for set in results.chunk_by(|a, b| a.manifest == b.manifest) {
        let Some(ResultRow { row, bad_lines, .. }) = set.first() else {
            continue;
        };
        let missing = row.unreadable + row.too_long + bad_lines;
        if missing > 0 {
            writeln!(
                out,
                "{}: {missing} utterances are missing: {bad_lines} bad lines, {} with broken audio, \
                 {} too long",
                row.set, row.unreadable, row.too_long
            )?;
        }
    }
    Ok(())
}
