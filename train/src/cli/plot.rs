//! `sori-train plot`: pictures.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use sori::audio::{AudioFile, Resampler};
use sori_train::config::{Chunk, Contexts};
use sori_train::evaluate::picture::{AttentionMaps, Run, curves};
use sori_train::model::{self, Teacher};

use super::device::DeviceArgument;
use super::hearing::parse_chunk;

/// Draw learning curves or attention maps, as PNG.
#[derive(Args)]
pub(crate) struct Plot {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Losses, word error rate and learning rate of runs.
    Curves {
        /// Folders of runs, which hold a metrics.jsonl.
        #[arg(required = true, value_name = "RUN_DIR")]
        runs: Vec<PathBuf>,
        /// The picture to write.
        #[arg(short, long, value_name = "FILE.png")]
        output: PathBuf,
    },
    Attention(Attention),
}

/// The attention maps of a teacher and a student for an utterance, and their difference.
#[derive(Args)]
struct Attention {
    /// The student.
    #[arg(value_name = "CHECKPOINT")]
    checkpoint: PathBuf,
    /// The teacher: `sori:FILE`, `nemo:FILE`, `whisper:ENCODER` or `torchscript:FILE`.
    #[arg(long, value_name = "SPEC")]
    teacher: String,
    /// The teacher's layer, from 0, where there is a choice; without, the last.
    #[arg(long, value_name = "N")]
    layer: Option<usize>,
    /// An utterance of at most a minute.
    #[arg(long, value_name = "FILE")]
    audio: PathBuf,
    /// The student's chunk in milliseconds, or `full`. The teacher's map is restricted to what the
    /// student may see.
    #[arg(long, default_value = "full", value_name = "MS", value_parser = parse_chunk)]
    chunk_ms: Chunk,
    /// The student's left context in milliseconds.
    #[arg(long, default_value_t = Contexts::default().left_ms, value_name = "MS")]
    left_ms: u32,
    /// The picture to write.
    #[arg(short, long, value_name = "FILE.png")]
    output: PathBuf,
    #[command(flatten)]
    device: DeviceArgument,
}

/// Attention takes memory that grows with the square of the length.
const LONGEST: f64 = 60.0;

pub(crate) fn run(arguments: &Plot) -> anyhow::Result<()> {
    match &arguments.what {
        What::Curves { runs, output } => {
            let runs: Vec<_> = runs
                .iter()
                .map(|folder| Run::read(folder))
                .collect::<Result<_, _>>()?;
            Ok(curves(&runs)?.save(output)?)
        }
        What::Attention(arguments) => attention(arguments),
    }
}

fn attention(arguments: &Attention) -> anyhow::Result<()> {
    let device = arguments.device.open()?;
    let samples = read(&arguments.audio)?;
    let (_store, student) = model::load(&arguments.checkpoint, device)?;
    let teacher = Teacher::open(&arguments.teacher.parse()?, arguments.layer, device)?;
    let contexts = Contexts {
        chunks_ms: vec![arguments.chunk_ms],
        left_ms: arguments.left_ms,
    };
    let name = |path: &Path| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let chunk = match arguments.chunk_ms {
        Chunk::Ms(ms) => format!("in chunks of {ms} ms"),
        Chunk::Full => "as a whole".into(),
    };
    let title = format!("{} heard {chunk}", name(&arguments.audio));
    for context in contexts.contexts() {
        let maps = AttentionMaps::of(&student, &teacher, &samples, context, device)?;
        maps.picture(&title)?.save(&arguments.output)?;
    }
    Ok(())
}

/// An utterance's samples at 16 kHz.
fn read(path: &Path) -> anyhow::Result<Vec<f32>> {
    let mut file = AudioFile::open(path)?;
    let rate = file.sample_rate();
    let mut sound = Vec::new();
    while file.read(&mut sound)? {
        let seconds = sound.len() as f64 / f64::from(rate);
        ensure!(
            seconds <= LONGEST,
            "{} is longer than {LONGEST} s",
            path.display()
        );
    }
    let mut samples = Vec::new();
    let mut resampler =
        Resampler::new(rate).with_context(|| format!("cannot use {}", path.display()))?;
    resampler.accept(&sound, &mut samples);
    resampler.finish(&mut samples);
    ensure!(
        samples.len() >= 640,
        "{} is too short: expected at least one frame of 40 ms",
        path.display()
    );
    Ok(samples)
}
