use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use console::{Term, measure_text_width};
use serde_json::json;
use sori::audio::{AudioError, Microphone};
use sori::{Event, Stream};

use super::Outcome;
use super::model::{EndpointArgs, ModelArgs, SearchArgs};

/// Caption the microphone live, until Ctrl-C.
///
/// Finished utterances go to standard output, a line each; the one being said is redrawn in place
/// on the terminal.
#[derive(Args)]
pub(super) struct Listen {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    search: SearchArgs,
    #[command(flatten)]
    endpoint: EndpointArgs,
    /// Microphone to listen to, as `sori devices` names it; the system's default without this.
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// Print every event as a line of JSON.
    ///
    /// {"event": "partial" or "final", ...utterance}, {"event": "endpoint", time, rule},
    /// {"event": "overrun", lost_ms}, {"event": "device-lost", device}, {"event": "device-found", device}.
    #[arg(long)]
    json: bool,
    /// Keep what the microphone heard in a WAV file.
    #[arg(long, value_name = "FILE.wav")]
    save: Option<PathBuf>,
}

/// How long a read waits for sound, and so how soon Ctrl-C is answered.
const PATIENCE: Duration = Duration::from_millis(100);
/// Time between attempts to reopen a lost microphone.
const RETRY: Duration = Duration::from_secs(1);

impl Listen {
    pub(super) fn run(&self) -> anyhow::Result<Outcome> {
        let opened = self.model.open(self.endpoint.rules(), &self.search)?;
        let mut stream = opened.stream()?;
        let stop = stop_on_signal()?;
        let mut microphone = Microphone::open(self.device.as_deref())?;
        let mut recording = self
            .save
            .as_deref()
            .map(|path| Recording::create(path, microphone.sample_rate()))
            .transpose()?;
        let mut captions = Captions {
            json: self.json,
            term: Term::stderr(),
            drawn: false,
        };
        if !self.json && io::stderr().is_terminal() {
            eprintln!("listening to {}; Ctrl-C ends", microphone.name());
        }

        let (mut samples, mut lost) = (Vec::new(), Duration::ZERO);
        while !stop.load(Ordering::Relaxed) {
            samples.clear();
            match microphone.read(&mut samples, PATIENCE) {
                Ok(_) => {}
                Err(AudioError::DeviceLost { device, .. }) => {
                    captions.lost(&mut stream, microphone.sample_rate(), &device)?;
                    if !reopen(&mut microphone, &stop) {
                        break;
                    }
                    captions.notice(
                        &json!({"event": "device-found", "device": microphone.name()}),
                        "microphone found again",
                    )?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            if let Some(recording) = &mut recording {
                recording.write(&samples)?;
            }
            let now = microphone.lost();
            if now > lost {
                captions.overrun(now - lost)?;
                lost = now;
            }
            for event in stream.accept(microphone.sample_rate(), &samples)? {
                captions.say(&event)?;
            }
        }
        for event in stream.finish()? {
            captions.say(&event)?;
        }
        captions.erase()?;
        if let Some(recording) = recording {
            recording.finish()?;
        }
        Ok(Outcome::Done)
    }
}

/// A flag that the first Ctrl-C (or termination signal) raises; the second ends the process.
fn stop_on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if raised.swap(true, Ordering::Relaxed) {
            std::process::exit(1);
        }
    })
    .context("cannot catch Ctrl-C")?;
    Ok(stop)
}

/// Tries until the microphone is back, or until it is time to stop.
fn reopen(microphone: &mut Microphone, stop: &AtomicBool) -> bool {
    while !stop.load(Ordering::Relaxed) {
        if microphone.reopen().is_ok() {
            return true;
        }
        std::thread::sleep(RETRY);
    }
    false
}

/// What is shown: finals on stdout, the partial on the last line of the terminal.
struct Captions {
    json: bool,
    term: Term,
    drawn: bool,
}

impl Captions {
    fn say(&mut self, event: &Event) -> io::Result<()> {
        if self.json {
            return print_json(event);
        }
        match event {
            Event::Partial(segment) => self.draw(&segment.text),
            Event::Final(segment) => {
                self.erase()?;
                writeln!(io::stdout(), "{}", segment.text)
            }
            _ => Ok(()),
        }
    }

    /// The microphone is gone: what was said before is finished and printed.
    fn lost(&mut self, stream: &mut Stream, rate: u32, device: &str) -> anyhow::Result<()> {
        let silence = vec![0.0; rate as usize];
        let before: Vec<Event> = stream.accept(rate, &silence)?.collect();
        for event in before.into_iter().chain(stream.end_utterance()) {
            self.say(&event)?;
        }
        let text = format!("{device}: lost; waiting for it");
        self.notice(&json!({"event": "device-lost", "device": device}), &text)?;
        Ok(())
    }

    fn overrun(&mut self, lost: Duration) -> io::Result<()> {
        let ms = lost.as_millis() as u64;
        let text = format!("{ms} ms of sound lost: this machine does not keep up");
        self.notice(&json!({"event": "overrun", "lost_ms": ms}), &text)
    }

    fn notice(&mut self, event: &serde_json::Value, text: &str) -> io::Result<()> {
        if self.json {
            return print_json(event);
        }
        self.erase()?;
        log::warn!("{text}");
        Ok(())
    }

    fn draw(&mut self, text: &str) -> io::Result<()> {
        if !self.term.is_term() {
            return Ok(());
        }
        let columns = usize::from(self.term.size().1).saturating_sub(1);
        self.term.clear_line()?;
        self.term.write_str(tail(text, columns))?;
        self.drawn = true;
        Ok(())
    }

    fn erase(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.drawn) {
            self.term.clear_line()?;
        }
        Ok(())
    }
}

/// The end of `text` that fits into `columns`: the newest words are the ones to see.
fn tail(text: &str, columns: usize) -> &str {
    let starts = text.char_indices().map(|(start, _)| start);
    starts
        .map(|start| &text[start..])
        .find(|rest| measure_text_width(rest) <= columns)
        .unwrap_or_default()
}

fn print_json(event: &impl serde::Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, event)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// A WAV file that is complete whenever the process ends: its header is renewed every second.
struct Recording<'a> {
    path: &'a Path,
    rate: u32,
    writer: hound::WavWriter<BufWriter<File>>,
    unflushed: usize,
}

impl<'a> Recording<'a> {
    fn create(path: &'a Path, rate: u32) -> anyhow::Result<Self> {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: rate,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let writer = hound::WavWriter::create(path, spec).with_context(|| cannot_write(path))?;
        Ok(Self {
            path,
            rate,
            writer,
            unflushed: 0,
        })
    }

    fn write(&mut self, samples: &[f32]) -> anyhow::Result<()> {
        for sample in samples {
            let integer = (sample * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16;
            self.writer
                .write_sample(integer)
                .with_context(|| cannot_write(self.path))?;
        }
        self.unflushed += samples.len();
        if self.unflushed >= self.rate as usize {
            self.unflushed = 0;
            self.writer
                .flush()
                .with_context(|| cannot_write(self.path))?;
        }
        Ok(())
    }

    fn finish(self) -> anyhow::Result<()> {
        let Self { path, writer, .. } = self;
        writer.finalize().with_context(|| cannot_write(path))
    }
}

fn cannot_write(path: &Path) -> String {
    format!("{}: cannot be written", path.display())
}

#[cfg(test)]
mod tests {
    use super::tail;

    #[test]
    fn the_newest_words_are_shown() {
        assert_eq!(tail("one two three", 9), "two three");
        assert_eq!(tail("소리 소리", 4), "소리");
        assert_eq!(tail("", 0), "");
        assert_eq!(tail("one", 80), "one");
    }
}
