//! `sori-train evaluate`: error rates of a trained model.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use sori_train::config::{Chunk, Contexts};
use sori_train::data::Tokenizer;
use sori_train::evaluate::{Recogniser, Row, Scored};
use sori_train::model::{self, Conformer, Teacher, TeacherSource};
use sori_train::trainer::{Provenance, commit};
use tch::Device;
use tch::nn::VarStore;

use super::device::DeviceArgument;
use super::hearing::HearingArguments;

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
    /// The folder of the tokenizer; without, the tokens that the checkpoint carries.
    #[arg(long, value_name = "DIR")]
    tokens: Option<PathBuf>,
    /// Compare spikes with those of a teacher: `sori:FILE`, `nemo:FILE` or `torchscript:FILE`.
    #[arg(long, value_name = "SPEC")]
    teacher: Option<String>,
    #[command(flatten)]
    hearing: HearingArguments,
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
    let provenance = match model.described_in() {
        Some(path) => {
            Provenance::read(path).with_context(|| format!("cannot read {}", path.display()))?
        }
        None => None,
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
    let trained = trained_contexts(model.is_causal(), provenance.as_ref());
    let settings = arguments.hearing.settings(trained);
    let mut errors = match &arguments.errors {
        Some(path) => Some(Misheards::create(path)?),
        None => None,
    };

    let mut results = Vec::new();
    for manifest in &arguments.manifests {
        let set = arguments.hearing.read(manifest)?;
        let rows = set.hear(recogniser, &settings, teacher.as_ref(), &mut |scored| {
            if let Some(errors) = &mut errors {
                errors.write(&set.name, &scored);
            }
            ControlFlow::Continue(())
        })?;
        results.extend(rows.into_iter().map(|row| ResultRow {
            manifest,
            bad_lines: set.bad_lines(),
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
        limit: arguments.hearing.limit,
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

    /// The file whose header says what was trained, if there is one.
    fn described_in(&self) -> Option<&Path> {
        match self {
            Self::Model { path, .. } => Some(path),
            Self::Teacher { described_in, .. } => described_in.as_deref(),
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

/// What a model's attention saw in training, as far as that is known.
fn trained_contexts(causal: bool, provenance: Option<&Provenance>) -> Contexts {
    match provenance {
        Some(of) if causal => Contexts {
            chunks_ms: of.chunks_ms.clone(),
            left_ms: of.left_ms,
        },
        None if causal => Contexts::default(),
        _ => Contexts {
            chunks_ms: vec![Chunk::Full],
            ..Contexts::default()
        },
    }
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
        if let Some(missing) = row.missing(*bad_lines) {
            writeln!(out, "{missing}")?;
        }
    }
    Ok(())
}
