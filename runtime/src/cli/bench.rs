use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use cpu_time::ProcessTime;
use serde::Serialize;
use sori::EndpointRules;
use sori::audio::{AudioFile, Resampler};
use sori::engine::EngineOptions;

use super::Outcome;
use super::model::{ModelArgs, Opened, SearchArgs};

/// Measure how fast a model runs on this machine.
///
/// The file is decoded first; what is timed is the way from 16 kHz samples to events, in pieces of
/// one chunk, as a live source would give them.
#[derive(Args)]
pub(super) struct Bench {
    /// Audio file to recognise; speech, a minute or more, gives steady figures.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    search: SearchArgs,
    /// How often to recognise the file.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// Recognise it in so many streams at once, each on a thread of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    streams: u16,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// The figures; field names are stable. Times in milliseconds unless the name says otherwise.
#[derive(Serialize)]
struct Figures {
    engine: String,
    chunk_ms: u32,
    audio_seconds: f64,
    repeat: u32,
    streams: u16,
    load_ms: f64,
    /// CPU seconds per second of audio, all threads.
    cpu_real_time_factor: f64,
    /// Wall seconds per second of audio, all streams' audio together: its inverse is how many live
    /// streams this machine can follow.
    wall_real_time_factor: f64,
    chunk_wall_ms: Percentiles,
    /// Largest resident set of the process so far; absent where the system does not tell.
    peak_memory_mb: Option<f64>,
}

#[derive(Serialize)]
struct Percentiles {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

impl Bench {
    pub(super) fn run(&self) -> anyhow::Result<Outcome> {
        let samples = read_at_16_khz(&self.file)?;
        let started = Instant::now();
        let streams = EngineOptions {
            parallel: super::processors().min(self.streams as usize),
            ..EngineOptions::default()
        };
        let opened = self
            .model
            .open(EndpointRules::default(), &self.search, streams)?;
        let load = started.elapsed();
        let chunk_ms = opened.recognizer.package().config().streaming.chunk_ms;
        let chunk = RATE as usize * chunk_ms as usize / 1000;

        let cpu = ProcessTime::now();
        let wall = Instant::now();
        let mut walls = self.recognize(&opened, &samples, chunk)?;
        let (cpu, wall) = (cpu.elapsed(), wall.elapsed());

        let audio_seconds = samples.len() as f64 / f64::from(RATE);
        let heard = audio_seconds * f64::from(self.repeat) * f64::from(self.streams);
        let figures = Figures {
            engine: opened.recognizer.engine().to_owned(),
            chunk_ms,
            audio_seconds,
            repeat: self.repeat,
            streams: self.streams,
            load_ms: milliseconds(load),
            cpu_real_time_factor: cpu.as_secs_f64() / heard,
            wall_real_time_factor: wall.as_secs_f64() / heard,
            chunk_wall_ms: Percentiles::of(&mut walls),
            peak_memory_mb: peak_memory_mb(),
        };
        figures.print(self.json)?;
        Ok(Outcome::Done)
    }

    /// Runs all streams to their end, and gives the time that each chunk took.
    fn recognize(
        &self,
        opened: &Opened,
        samples: &[f32],
        chunk: usize,
    ) -> anyhow::Result<Vec<Duration>> {
        let stream = || {
            let chunks = self.repeat as usize * (samples.len() / chunk + 1);
            let mut walls = Vec::with_capacity(chunks);
            for _ in 0..self.repeat {
                recognize(opened, samples, chunk, &mut walls)?;
            }
            anyhow::Ok(walls)
        };
        // The first on this thread: one stream alone is not to pay for another.
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..self.streams).map(|_| scope.spawn(stream)).collect();
            let mut walls = stream()?;
            for other in others {
                match other.join() {
                    Ok(more) => walls.extend(more?),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            Ok(walls)
        })
    }
}

const RATE: u32 = sori::audio::SAMPLE_RATE;

fn recognize(
    opened: &Opened,
    samples: &[f32],
    chunk: usize,
    walls: &mut Vec<Duration>,
) -> anyhow::Result<()> {
    let mut stream = opened.stream()?;
    for piece in samples.chunks(chunk) {
        let started = Instant::now();
        stream.accept(RATE, piece)?.for_each(drop);
        walls.push(started.elapsed());
    }
    stream.finish()?.for_each(drop);
    Ok(())
}

fn read_at_16_khz(path: &PathBuf) -> anyhow::Result<Vec<f32>> {
    let mut file = AudioFile::open(path)?;
    let mut resampler = Resampler::new(file.sample_rate())?;
    let (mut packet, mut samples) = (Vec::new(), Vec::new());
    let mut more = true;
    while more {
        packet.clear();
        more = file.read(&mut packet)?;
        resampler.accept(&packet, &mut samples);
    }
    resampler.finish(&mut samples);
    anyhow::ensure!(!samples.is_empty(), "{}: no sound in it", path.display());
    Ok(samples)
}

impl Percentiles {
    fn of(walls: &mut [Duration]) -> Self {
        walls.sort_unstable();
        let at = |share: f64| {
            let index = (walls.len() as f64 * share).ceil() as usize;
            walls
                .get(index.saturating_sub(1))
                .copied()
                .map_or(0.0, milliseconds)
        };
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: at(1.0),
        }
    }
}

impl Figures {
    fn print(&self, json: bool) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        if json {
            serde_json::to_writer(&mut out, self)?;
            writeln!(out)?;
            return Ok(());
        }
        let Percentiles { p50, p90, p99, max } = self.chunk_wall_ms;
        writeln!(out, "engine        {}", self.engine)?;
        writeln!(
            out,
            "audio         {:.1} s, {} times, in chunks of {} ms",
            self.audio_seconds, self.repeat, self.chunk_ms
        )?;
        if self.streams > 1 {
            writeln!(out, "streams       {} at once", self.streams)?;
        }
        writeln!(out, "load          {:.1} ms", self.load_ms)?;
        for (name, factor) in [
            ("CPU", self.cpu_real_time_factor),
            ("wall", self.wall_real_time_factor),
        ] {
            writeln!(
                out,
                "{name:<14}{factor:.5} s per second of audio ({:.0}x real time)",
                1.0 / factor
            )?;
        }
        writeln!(
            out,
            "chunk         p50 {p50:.3}  p90 {p90:.3}  p99 {p99:.3}  max {max:.3} ms"
        )?;
        if let Some(memory) = self.peak_memory_mb {
            writeln!(out, "peak memory   {memory:.1} MB")?;
        }
        Ok(())
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// `VmHWM` of `/proc/self/status`, which is in KiB.
fn peak_memory_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}
