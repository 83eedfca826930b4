//! The `sori-export` command.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Parser, Subcommand};
use serde_json::Value;
use sori::model::Measurement;
use sori_export::{
    About, Calibrated, Exported, Inspection, Options, Tuned, calibrate, export, inspect, tune,
};

/// Make a streaming model package of a trained checkpoint, and verify it.
#[derive(Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    export: Option<Export>,
}

#[derive(Subcommand)]
enum Command {
    /// Tell what is in a graph: operators, parameters, and the work of one chunk.
    Inspect {
        /// An ONNX file with fixed shapes.
        #[arg(value_name = "MODEL.onnx")]
        model: PathBuf,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make the confidences of a package mean what they say: of words with 0.8, four of five are right.
    /// Listens to speech with known transcripts and writes `confidence` into config.json.
    Calibrate {
        /// The package.
        #[arg(value_name = "PACKAGE")]
        package: PathBuf,
        /// Manifest of the speech that the curve is fitted to; none that the model was trained on.
        #[arg(value_name = "MANIFEST")]
        fit: PathBuf,
        /// Manifest of other speech, on which it is measured what the curve is worth.
        #[arg(long, value_name = "MANIFEST")]
        check: PathBuf,
    },
    /// Put a language model into a package, for `--lm` without a file, and let it count as much as suits the
    /// package: what makes the fewest errors in speech with known transcripts. Takes a minute or more for
    /// each hour of speech and each attempt.
    LanguageModel {
        /// The package.
        #[arg(value_name = "PACKAGE")]
        package: PathBuf,
        /// The model, as `sori lm build` makes it.
        #[arg(value_name = "FILE")]
        model: PathBuf,
        /// Manifest of the speech that the numbers are fitted to; none that the model was trained on.
        #[arg(value_name = "MANIFEST")]
        fit: PathBuf,
        /// Manifest of other speech, on which it is measured what the model is worth.
        #[arg(long, value_name = "MANIFEST")]
        check: PathBuf,
        /// Hypotheses of the search that it is fitted for, as in `sori transcribe --beam`.
        #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=4096))]
        beam: u16,
        /// Take so many utterances of each manifest.
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
}

#[derive(Args)]
struct Export {
    /// The checkpoint that sori-train wrote.
    checkpoint: PathBuf,
    /// The directory to make.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// The tokens that the model was trained with; without it, those in the checkpoint, or else
    /// tokens.txt beside it.
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// Audio of one chunk: how long a word can wait.
    #[arg(long, value_name = "MS", default_value_t = 320)]
    chunk_ms: u32,
    /// Audio before the chunk that attention sees; without it, what the model was trained with, or
    /// 5120 if the checkpoint does not say.
    #[arg(long, value_name = "MS")]
    left_ms: Option<u32>,
    /// Add a graph with 8-bit integer weights.
    #[arg(long)]
    int8: bool,
    /// Add that graph, and leave the float one out.
    #[arg(long, conflicts_with = "batch")]
    int8_only: bool,
    /// Store float weights in 16 bits.
    #[arg(long)]
    f16_weights: bool,
    /// Add a graph for so many streams at once, in floats.
    #[arg(long, value_name = "N")]
    batch: Option<u32>,
    /// Speech to verify with; without it, a clip that is built in.
    #[arg(long, value_name = "WAV")]
    speech: Option<PathBuf>,
    /// Name of the model; without it, that of the directory.
    #[arg(long)]
    name: Option<String>,
    /// Language tag.
    #[arg(long, value_name = "TAG", default_value = "en")]
    language: String,
    /// One sentence about the model.
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// Licence of the weights.
    #[arg(long, value_name = "NAME", default_value = "")]
    license: String,
    /// Where the weights come from: `recipe=…`, `data=…`, `data_license=…`, `teacher=…`,
    /// `commit=…`. May be given again, and comes before what the checkpoint says.
    #[arg(long, value_name = "KEY=VALUE", value_parser = fact)]
    training: Vec<(String, Value)>,
    /// A word error rate, per cent, that was measured at this chunk. May be given again.
    #[arg(long, value_name = "SET=WER", value_parser = word_error_rate)]
    measured: Vec<(String, f64)>,
}

fn fact(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.into())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

fn word_error_rate(text: &str) -> Result<(String, f64), String> {
    let parsed = text
        .rsplit_once('=')
        .and_then(|(set, rate)| Some((set.to_owned(), rate.parse::<f64>().ok()?)));
    parsed
        .filter(|(_, rate)| rate.is_finite() && *rate >= 0.0)
        .ok_or_else(|| "expected SET=WER, WER a number".into())
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output, `head` say, has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sori-export: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    match (arguments.command, arguments.export) {
        (Some(Command::Inspect { model, json }), _) => match inspect(&model)? {
            found if json => writeln!(io::stdout().lock(), "{}", serde_json::to_string(&found)?)?,
            found => print_inspection(&found)?,
        },
        (
            Some(Command::Calibrate {
                package,
                fit,
                check,
            }),
            _,
        ) => {
            let found = calibrate(&package, &fit, &check, sori::Options::default())?;
            print_calibrated(&package, &found)?;
        }
        (
            Some(Command::LanguageModel {
                package,
                model,
                fit,
                check,
                beam,
                limit,
            }),
            _,
        ) => {
            let found = tune(
                &package,
                &model,
                &fit,
                &check,
                beam.into(),
                limit,
                &mut |options, rate| {
                    eprintln!(
                        "weight {:.3}, word bonus {:.2}, unknown words {:.2}: {:.2} %",
                        options.weight,
                        options.word_bonus,
                        options.unknown_penalty,
                        100.0 * rate
                    );
                },
            )?;
            print_tuned(&package, &found)?;
        }
        (None, Some(arguments)) => {
            let output = arguments.output.clone();
            let checkpoint = arguments.checkpoint.clone();
            let exported = export(&checkpoint, &output, &arguments.options())?;
            print_exported(&output, &exported)?;
        }
        (None, None) => bail!("expected a checkpoint"),
    }
    Ok(())
}

impl Export {
    fn options(self) -> Options {
        let measured = |(set, wer)| Measurement {
            set,
            wer,
            chunk_ms: Some(self.chunk_ms),
            precision: None,
        };
        Options {
            chunk_ms: self.chunk_ms,
            left_ms: self.left_ms,
            int8: self.int8 || self.int8_only,
            int8_only: self.int8_only,
            f16_weights: self.f16_weights,
            batch: self.batch,
            tokens: self.tokens,
            speech: self.speech,
            about: About {
                name: self.name,
                language: self.language,
                description: self.description,
                license: self.license,
                training: self.training.into_iter().collect(),
                measured: self.measured.into_iter().map(measured).collect(),
            },
        }
    }
}

fn print_exported(directory: &Path, exported: &Exported) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{}: {} parameters",
        directory.display(),
        exported.parameters
    )?;
    for graph in &exported.graphs {
        writeln!(
            out,
            "  {:<18} {:>10} bytes  {:>5} nodes",
            graph.file, graph.bytes, graph.nodes
        )?;
    }
    writeln!(out, "against the trained model, chunk by chunk:")?;
    for comparison in &exported.comparisons {
        writeln!(
            out,
            "  {:<8} {:<6} {:<7} {:>4} chunks  largest difference {:.1e}  moved {:.1e}  same best token {:.2} %",
            comparison.graph,
            comparison.engine,
            comparison.signal,
            comparison.chunks,
            comparison.largest_difference,
            comparison.moved,
            100.0 * comparison.same_best
        )?;
    }
    Ok(())
}

fn print_calibrated(package: &Path, found: &Calibrated) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let Calibrated {
        calibration,
        before,
        after,
    } = found;
    writeln!(
        out,
        "{}: slope {:.3}, offset {:.3}",
        package.display(),
        calibration.slope,
        calibration.offset
    )?;
    writeln!(
        out,
        "on {} words that it was not fitted to, {:.1} % of them right:",
        before.words,
        100.0 * before.right
    )?;
    for (when, figures) in [("before", before), ("after", after)] {
        writeln!(
            out,
            "  {when:<7} expected calibration error {:.3}, area under the curve {:.3}",
            figures.calibration_error, figures.auc
        )?;
    }
    Ok(())
}

fn print_tuned(package: &Path, found: &Tuned) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{}: weight {:.3}, word bonus {:.2}, unknown words {:.2}; {:.2} % of words wrong where it was fitted",
        package.display(),
        found.options.weight,
        found.options.word_bonus,
        found.options.unknown_penalty,
        100.0 * found.fitted
    )?;
    let [greedy, beam, led] = found.check.map(|rate| 100.0 * rate);
    writeln!(
        out,
        "on other speech: best tokens {greedy:.2} %, beam {beam:.2} %, beam with the language model {led:.2} %"
    )
}

fn print_inspection(inspection: &Inspection) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let nodes: usize = inspection.operators.values().sum();
    writeln!(out, "nodes                 {nodes:>12}")?;
    let mut operators: Vec<_> = inspection.operators.iter().collect();
    operators.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), name.as_str()));
    for (name, count) in operators {
        writeln!(out, "  {name:<20}{count:>12}")?;
    }
    writeln!(out, "parameters            {:>12}", inspection.parameters)?;
    // Per chunk, and per second of audio where the file says how long a chunk is.
    let mut work = |what: &str, per_chunk: u64| match inspection.chunk_ms {
        Some(ms) => {
            let per_second = per_chunk as f64 * 1000.0 / f64::from(ms);
            writeln!(
                out,
                "{what:<22}{per_chunk:>12} per {ms} ms chunk, {per_second:>14.0} per second of audio"
            )
        }
        None => writeln!(out, "{what:<22}{per_chunk:>12} per chunk"),
    };
    work("multiply-adds", inspection.multiply_adds)?;
    work("bytes: constants", inspection.constant_bytes)?;
    work("bytes: caches, in, out", inspection.cache_bytes)?;
    work("bytes: between nodes", inspection.activation_bytes)
}
