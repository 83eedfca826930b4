use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use sori::Event;
use sori::audio::{AudioFile, PcmFormat, PcmReader};
use sori::output::{Format, TranscriptWriter};

use super::Outcome;
use super::model::{EndpointArgs, ModelArgs, Opened, SearchArgs};

/// Turn audio files into words.
///
/// Reads WAV, FLAC, MP3, Ogg Vorbis, Opus, M4A/AAC, AIFF, CAF and Matroska/WebM at any rate, mono or not.
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
    /// Write DIR/NAME.EXTENSION for each file instead of to standard output.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Standard input is bare samples without a header: u8, s16le, s24le, s32le or f32le.
    #[arg(long, value_name = "FORMAT")]
    raw: Option<PcmFormat>,
    /// Sample rate of --raw, in Hz.
    #[arg(long, value_name = "HZ", default_value_t = 16_000, requires = "raw")]
    rate: u32,
    /// Interleaved channels of --raw.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "raw")]
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
    Raw(PcmReader<io::StdinLock<'static>>),
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
    pub(super) fn run(&self, quiet: bool) -> anyhow::Result<Outcome> {
        let opened = self.model.open(self.endpoint.rules(), &self.search)?;
        if let Some(directory) = &self.output {
            std::fs::create_dir_all(directory).with_context(|| {
                format!(
                    "{}: cannot be made the output directory",
                    directory.display()
                )
            })?;
        }
        let mut outcome = Outcome::Done;
        for path in &self.files {
            if let Err(error) = self.transcribe(&opened, path, quiet) {
                if super::is_broken_pipe(&error) {
                    return Err(error);
                }
                eprintln!("sori: {error:#}");
                outcome = Outcome::SomeFailed;
            }
        }
        Ok(outcome)
    }

    fn transcribe(&self, opened: &Opened, path: &Path, quiet: bool) -> anyhow::Result<()> {
        let mut source = self.open(path)?;
        let progress = progress_bar(source.duration(), path, quiet);
        let name = if is_stdin(path) {
            STDIN.to_owned()
        } else {
            path.display().to_string()
        };
        let format = Format::from(self.format);
        match &self.output {
            None => {
                let writer = TranscriptWriter::new(format, &name, io::stdout().lock())?;
                recognize(opened, &mut source, &name, writer, &progress)
            }
            Some(directory) => {
                let stem = path
                    .file_stem()
                    .filter(|_| !is_stdin(path))
                    .unwrap_or("stdin".as_ref());
                let target = directory
                    .join(stem)
                    .with_added_extension(format.extension());
                let cannot_write = || format!("{}: cannot be written", target.display());
                let file = File::create(&target).with_context(cannot_write)?;
                let writer = TranscriptWriter::new(format, &name, BufWriter::new(file))
                    .with_context(cannot_write)?;
                recognize(opened, &mut source, &name, writer, &progress)
            }
        }
    }

    fn open(&self, path: &Path) -> anyhow::Result<Source> {
        if !is_stdin(path) {
            return Ok(Source::File(Box::new(AudioFile::open(path)?)));
        }
        let Some(format) = self.raw else {
            return Ok(Source::File(Box::new(AudioFile::from_reader(
                io::stdin(),
                STDIN,
            )?)));
        };
        let reader = PcmReader::new(io::stdin().lock(), STDIN, format, self.rate, self.channels)?;
        Ok(Source::Raw(reader))
    }
}

/// The name of standard input in messages and results.
const STDIN: &str = "standard input";

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn recognize<W: Write>(
    opened: &Opened,
    source: &mut Source,
    name: &str,
    mut writer: TranscriptWriter<'_, W>,
    progress: &ProgressBar,
) -> anyhow::Result<()> {
    let mut stream = opened.stream()?;
    let rate = source.sample_rate();
    let (mut samples, mut heard) = (Vec::new(), 0);
    let mut say = |event: Event| match event {
        Event::Final(segment) => progress.suspend(|| writer.segment(segment)),
        _ => Ok(()),
    };
    let mut more = true;
    while more {
        samples.clear();
        more = source.read(&mut samples)?;
        heard += samples.len();
        stream.accept(rate, &samples)?.try_for_each(&mut say)?;
        progress.set_position((stream.time() * 1000.0) as u64);
    }
    stream.finish()?.try_for_each(&mut say)?;
    progress.finish_and_clear();
    if let Source::File(file) = source
        && file.skipped_packets() > 0
    {
        log::warn!(
            "{name}: {} damaged packets were skipped",
            file.skipped_packets()
        );
    }
    writer.finish(heard as f64 / f64::from(rate))?;
    Ok(())
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
