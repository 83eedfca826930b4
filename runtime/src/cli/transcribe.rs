use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use clap::{Args, ValueEnum, value_parser};
use indicatif::{ProgressBar, ProgressStyle};
use same_file::is_same_file;
use sori::Event;
use sori::audio::{AudioFile, MAX_CHANNELS, PcmFormat, PcmReader, SAMPLE_RATES};
use sori::engine::EngineOptions;
use sori::output::{Format, TranscriptWriter};

use super::Outcome;
use super::interrupt::{Stdin, stop_on_signal};
use super::model::{EndpointArgs, ModelArgs, Opened, SearchArgs};

/// Rates of --raw.
const RATES: std::ops::RangeInclusive<i64> =
    *SAMPLE_RATES.start() as i64..=*SAMPLE_RATES.end() as i64;

/// Turn audio files into words.
///
/// Reads WAV, FLAC, MP3, Ogg Vorbis, Opus, M4A/AAC, AIFF, CAF and Matroska/WebM at any rate, mono or not.
/// Ctrl-C, or another signal to end, ends it with what was said until then.
#[derive(Args)]
pub(super) struct Transcribe {
    /// Audio files; - is standard input.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    search: SearchArgs,
    #[command(flatten)]
    endpoint: EndpointArgs,
    /// What to write: a line per utterance, JSON, or subtitles.
    ///
    /// json: one object per file, {file, duration, text, segments}; jsonl: one object per
    /// utterance, as soon as it is final. Times are seconds.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    format: FormatArg,
    /// The same as --format json.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Write DIR/NAME.EXTENSION for each file instead of to standard output.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Standard input is bare samples without a header: u8, s16le, s24le, s32le or f32le.
    #[arg(long, value_name = "FORMAT")]
    raw: Option<PcmFormat>,
    /// Sample rate of --raw, in Hz.
    #[arg(long, value_name = "HZ", default_value_t = 16_000, requires = "raw", value_parser = value_parser!(u32).range(RATES))]
    rate: u32,
    /// Interleaved channels of --raw.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "raw", value_parser = value_parser!(u16).range(1..=i64::from(MAX_CHANNELS)))]
    channels: u16,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatArg {
    Text,
    Json,
    Jsonl,
    Srt,
    Vtt,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Text => Self::Text,
            FormatArg::Json => Self::Json,
            FormatArg::Jsonl => Self::Jsonl,
            FormatArg::Srt => Self::Srt,
            FormatArg::Vtt => Self::Vtt,
        }
    }
}

/// Where the samples of one input come from.
enum Source {
    File(Box<AudioFile>),
    Raw(PcmReader<Stdin>),
}

impl Source {
    fn sample_rate(&self) -> u32 {
        match self {
            Self::File(file) => file.sample_rate(),
            Self::Raw(reader) => reader.sample_rate(),
        }
    }

    fn duration(&self) -> Option<f64> {
        match self {
            Self::File(file) => file.duration(),
            Self::Raw(_) => None,
        }
    }

    fn read(&mut self, samples: &mut Vec<f32>) -> Result<bool, sori::audio::AudioError> {
        match self {
            Self::File(file) => file.read(samples),
            Self::Raw(reader) => reader.read(samples),
        }
    }
}

impl Transcribe {
    /// What is wrong with the options together, if anything.
    pub(super) fn conflict(&self) -> Option<&'static str> {
        let subtitles = matches!(self.format, FormatArg::Srt | FormatArg::Vtt);
        if subtitles && self.output.is_none() && self.files.len() > 1 {
            return Some(
                "subtitles of several files do not go into one: give --output DIR, or one FILE",
            );
        }
        if self.raw.is_some() && !self.files.iter().any(|path| is_stdin(path)) {
            return Some(
                "--raw is for standard input: give it as `-`, as in `sori transcribe --raw s16le - < FILE`",
            );
        }
        let shows_alternatives =
            self.json || matches!(self.format, FormatArg::Json | FormatArg::Jsonl);
        if self.search.wants_alternatives() && !shows_alternatives {
            return Some("alternatives are told in JSON only: give --json or --format jsonl, too");
        }
        None
    }

    pub(super) fn run(&self, quiet: bool) -> anyhow::Result<Outcome> {
        let one = EngineOptions::default();
        let opened = self.model.open(self.endpoint.rules(), &self.search, one)?;
        if let Some(directory) = &self.output {
            std::fs::create_dir_all(directory).with_context(|| {
                format!(
                    "{}: cannot be made the output directory",
                    directory.display()
                )
            })?;
        }
        let stop = stop_on_signal()?;
        let mut outcome = Outcome::Done;
        let mut written = BTreeSet::new();
        for path in &self.files {
            if let Err(error) = self.transcribe(&opened, path, quiet, &stop, &mut written) {
                // Whoever read our output has seen enough.
                if super::is_broken_pipe(&error) {
                    break;
                }
                super::say(format_args!("sori: {error:#}"));
                outcome = Outcome::SomeFailed;
            }
            if stop.load(Ordering::Relaxed) {
                outcome = Outcome::SomeFailed;
                break;
            }
        }
        Ok(outcome)
    }

    fn transcribe(
        &self,
        opened: &Opened,
        path: &Path,
        quiet: bool,
        stop: &Arc<AtomicBool>,
        written: &mut BTreeSet<PathBuf>,
    ) -> anyhow::Result<()> {
        let mut source = match self.open(path, stop) {
            // Its end was ours.
            Err(_) if is_stdin(path) && stop.load(Ordering::Relaxed) => {
                anyhow::bail!("{STDIN}: stopped by a signal before any sound")
            }
            opened => opened?,
        };
        let progress = progress_bar(source.duration(), path, quiet);
        let name = if is_stdin(path) {
            STDIN.to_owned()
        } else {
            path.display().to_string()
        };
        let format = match self.json {
            true => Format::Json,
            false => self.format.into(),
        };
        let job = Job {
            name: &name,
            progress,
            stop,
        };
        match &self.output {
            None => {
                let cannot_write = || "standard output: cannot be written".to_owned();
                let writer = TranscriptWriter::new(format, &name, io::stdout().lock())
                    .with_context(cannot_write)?;
                job.run(opened, &mut source, writer, &cannot_write)
            }
            Some(directory) => {
                let stem = path
                    .file_stem()
                    .filter(|_| !is_stdin(path))
                    .unwrap_or("stdin".as_ref());
                let target = directory
                    .join(stem)
                    .with_added_extension(format.extension());
                // Where it is there already, under whatever name.
                let there = target.canonicalize().ok();
                anyhow::ensure!(
                    there.is_none_or(|there| !written.contains(&there)),
                    "{name}: {} has the words of another file of that name: give each its own --output",
                    target.display()
                );
                let inputs = self.files.iter().map(PathBuf::as_path);
                let is_target = |input| is_same_file(input, &target).unwrap_or(false);
                anyhow::ensure!(
                    !inputs.chain(self.search.files()).any(is_target),
                    "{name}: {} is one of the files to read: give another --output",
                    target.display()
                );
                let cannot_write = || format!("{}: cannot be written", target.display());
                let file = File::create(&target).with_context(cannot_write)?;
                written.extend(target.canonicalize());
                let writer = TranscriptWriter::new(format, &name, BufWriter::new(file))
                    .with_context(cannot_write)?;
                job.run(opened, &mut source, writer, &cannot_write)
            }
        }
    }

    fn open(&self, path: &Path, stop: &Arc<AtomicBool>) -> anyhow::Result<Source> {
        if !is_stdin(path) {
            return Ok(Source::File(Box::new(AudioFile::open(path)?)));
        }
        let input = Stdin::open(Arc::clone(stop));
        let Some(format) = self.raw else {
            return Ok(Source::File(Box::new(AudioFile::from_reader(
                input, STDIN,
            )?)));
        };
        let reader = PcmReader::new(input, STDIN, format, self.rate, self.channels)?;
        Ok(Source::Raw(reader))
    }
}

/// The name of standard input in messages and results.
const STDIN: &str = "standard input";

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// One input on its way to one output.
struct Job<'a> {
    name: &'a str,
    progress: ProgressBar,
    stop: &'a AtomicBool,
}

impl Job<'_> {
    /// Input or an engine that fails, and a signal, end a transcript early; it holds all that was said until then.
    /// `cannot_write` is what is said when the output fails.
    fn run<W: Write>(
        &self,
        opened: &Opened,
        source: &mut Source,
        mut writer: TranscriptWriter<'_, W>,
        cannot_write: &dyn Fn() -> String,
    ) -> anyhow::Result<()> {
        let Self { name, progress, .. } = self;
        let mut stream = opened.stream()?;
        let rate = source.sample_rate();
        let (mut samples, mut heard) = (Vec::new(), 0);
        let mut say = |event: Event| match event {
            Event::Final(segment) => progress
                .suspend(|| writer.segment(segment))
                .with_context(cannot_write),
            _ => Ok(()),
        };
        let (mut end, mut recognised) = (Ok(true), Ok(()));
        while matches!(end, Ok(true)) && recognised.is_ok() && !self.stop.load(Ordering::Relaxed) {
            samples.clear();
            end = source.read(&mut samples);
            heard += samples.len();
            recognised = stream.accept(rate, &samples).map(drop);
            stream.events().try_for_each(&mut say)?;
            progress.set_position((stream.time() * 1000.0) as u64);
        }
        let seconds = stream.time();
        match recognised {
            Ok(()) => recognised = stream.finish().map(drop),
            Err(_) => drop(stream.end_utterance()),
        }
        stream.events().try_for_each(&mut say)?;
        progress.finish_and_clear();
        if let Source::File(file) = source
            && file.skipped_packets() > 0
        {
            tracing::warn!(
                "{name}: damaged, or with gaps, in {} places",
                file.skipped_packets()
            );
        }
        writer
            .finish(heard as f64 / f64::from(rate))
            .with_context(cannot_write)?;
        recognised?;
        end?;
        if self.stop.load(Ordering::Relaxed) {
            anyhow::bail!("{name}: stopped by a signal after {seconds:.2} s of sound");
        }
        Ok(())
    }
}

/// A bar for work that takes long enough to wonder, on a terminal.
fn progress_bar(duration: Option<f64>, path: &Path, quiet: bool) -> ProgressBar {
    const LONG: f64 = 30.0;
    if quiet || !io::stderr().is_terminal() || duration.is_none_or(|seconds| seconds < LONG) {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new((duration.unwrap_or_default() * 1000.0) as u64);
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {percent}% {eta} left") {
        bar.set_style(style);
    }
    bar.set_message(
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    );
    bar
}
