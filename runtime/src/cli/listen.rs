use std::fmt;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use sori::audio::{AudioError, Microphone};
use sori::engine::EngineOptions;
use sori::{Event, Stream};

use super::Outcome;
use super::interrupt::stop_on_signal;
use super::lines::Lines;
use super::model::{EndpointArgs, ModelArgs, SearchArgs};
use super::recording::Recording;
#[cfg(feature = "tui")]
use super::screen::{Screen, Sound};

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
    /// {"event": "overrun", lost_ms or null where only the sound system knows}, {"event": "device-lost", device},
    /// {"event": "device-found", device}, {"event": "save-failed", reason}.
    #[arg(long)]
    json: bool,
    /// Fill the terminal: captions, how loud it is, how fast it goes, memory.
    ///
    /// q ends, as Ctrl-C does. Finished utterances go to standard output all the same: at the end if
    /// that is the terminal.
    #[cfg(feature = "tui")]
    #[arg(long, conflicts_with = "json")]
    tui: bool,
    /// Keep what the microphone heard in a WAV file.
    #[arg(long, value_name = "FILE.wav")]
    save: Option<PathBuf>,
}

/// How long a read waits for sound, and so how soon Ctrl-C is answered.
const PATIENCE: Duration = Duration::from_millis(100);
/// Time between attempts to reopen a lost microphone.
const RETRY: Duration = Duration::from_secs(1);

/// Missing sound that is longer than this ends an utterance: nobody can say what was in it.
const GAP: Duration = Duration::from_secs(1);

impl Listen {
    pub(super) fn run(&self) -> anyhow::Result<Outcome> {
        let one = EngineOptions::default();
        let opened = self.model.open(self.endpoint.rules(), &self.search, one)?;
        let stream = opened.stream()?;
        let stop = stop_on_signal()?;
        let mut microphone = Microphone::open(self.device.as_deref())?;
        let rate = microphone.sample_rate();
        let recording = self
            .save
            .as_deref()
            .map(|path| Recording::create(path, rate))
            .transpose()?;
        let mut session = Session {
            stream,
            recording,
            captions: self.captions(microphone.name(), &stop)?,
            outcome: Ok(Outcome::Done),
            deaf: false,
        };

        let mut samples = Vec::new();
        let (mut lost, mut overruns) = (microphone.lost(), microphone.overruns());
        while !stop.load(Ordering::Relaxed) && !session.deaf {
            samples.clear();
            match microphone.read(&mut samples, PATIENCE) {
                Ok(_) => {}
                Err(AudioError::DeviceLost { device, .. }) => {
                    session.bridge(GAP, microphone.sample_rate())?;
                    session.captions.notice(&Notice::DeviceLost { device })?;
                    if !reopen(&mut microphone, &stop, &mut session.captions)? {
                        break;
                    }
                    let device = microphone.name().to_owned();
                    session.captions.notice(&Notice::DeviceFound { device })?;
                    continue;
                }
                Err(error) => {
                    session.outcome = Err(error.into());
                    break;
                }
            }
            session.hear(&samples, microphone.sample_rate())?;
            // What was read came before what there was no room for, of which it tells only now.
            let missing = microphone.lost().saturating_sub(lost);
            if !missing.is_zero() {
                session.bridge(missing, microphone.sample_rate())?;
            }
            if !missing.is_zero() || microphone.overruns() > overruns {
                let lost = (!missing.is_zero()).then_some(missing);
                session.captions.notice(&Notice::Overrun { lost })?;
            }
            lost += missing;
            overruns = microphone.overruns();
        }
        session.end()
    }

    #[cfg_attr(
        not(feature = "tui"),
        expect(unused_variables, reason = "a screen stops")
    )]
    fn captions(&self, microphone: &str, stop: &Arc<AtomicBool>) -> anyhow::Result<Captions> {
        #[cfg(feature = "tui")]
        if self.tui {
            let screen = Screen::open(microphone.to_owned(), Arc::clone(stop))?;
            return Ok(Captions::Screen(Box::new(screen)));
        }
        if !self.json && io::stderr().is_terminal() {
            super::say(format_args!("listening to {microphone}; Ctrl-C ends"));
        }
        Ok(Captions::Lines(Lines::new(self.json)))
    }
}

/// What is done with sound.
struct Session<'a> {
    stream: Stream,
    recording: Option<Recording<'a>>,
    captions: Captions,
    /// What fails besides the captions does not end them before their last words.
    outcome: anyhow::Result<Outcome>,
    /// The engine failed: nothing more can be heard.
    deaf: bool,
}

impl Session<'_> {
    fn hear(&mut self, samples: &[f32], rate: u32) -> anyhow::Result<()> {
        let written = self.recording.as_mut().map(|to| to.write(samples, rate));
        if let Some(Err(error)) = written {
            self.recording = None;
            let reason = format!("{error:#}");
            self.captions.notice(&Notice::SaveFailed { reason })?;
            self.outcome = Err(error);
        }
        let started = Instant::now();
        if let Err(error) = self.stream.accept(rate, samples) {
            self.outcome = Err(error.into());
            self.deaf = true;
        }
        for event in self.stream.events() {
            self.captions.say(&event)?;
        }
        Ok(self.captions.heard(samples, rate, started.elapsed())?)
    }

    /// Sound is missing here: silence stands for it, in the recording too, so that times stay those of the
    /// recording. After much of it what was being said is finished.
    fn bridge(&mut self, missing: Duration, rate: u32) -> anyhow::Result<()> {
        let seconds = missing.min(GAP).as_secs_f64();
        self.hear(&vec![0.0; (seconds * f64::from(rate)) as usize], rate)?;
        if missing >= GAP {
            for event in self.stream.end_utterance() {
                self.captions.say(&event)?;
            }
        }
        Ok(())
    }

    fn end(mut self) -> anyhow::Result<Outcome> {
        if self.deaf {
            self.stream.end_utterance();
        } else if let Err(error) = self.stream.finish() {
            self.outcome = Err(error.into());
        }
        for event in self.stream.events() {
            self.captions.say(&event)?;
        }
        self.captions.end()?;
        let saved = self.recording.map_or(Ok(()), Recording::finish);
        let outcome = self.outcome?;
        saved.map(|()| outcome)
    }
}

/// Tries until the microphone is back, or until it is time to stop.
fn reopen(
    microphone: &mut Microphone,
    stop: &AtomicBool,
    captions: &mut Captions,
) -> io::Result<bool> {
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if Instant::now() >= next {
            if microphone.reopen().is_ok() {
                return Ok(true);
            }
            next = Instant::now() + RETRY;
        }
        std::thread::sleep(PATIENCE);
        captions.heard(&[], microphone.sample_rate(), Duration::ZERO)?;
    }
    Ok(false)
}

/// Something that happened besides what was said.
pub(super) enum Notice {
    /// How much, unless it was the sound system that lost it.
    Overrun {
        lost: Option<Duration>,
    },
    DeviceLost {
        device: String,
    },
    DeviceFound {
        device: String,
    },
    /// The recording has ended; listening goes on.
    SaveFailed {
        reason: String,
    },
}

impl Notice {
    pub(super) fn json(&self) -> serde_json::Value {
        match self {
            Self::Overrun { lost } => {
                json!({"event": "overrun", "lost_ms": lost.map(|lost| lost.as_millis() as u64)})
            }
            Self::DeviceLost { device } => json!({"event": "device-lost", "device": device}),
            Self::DeviceFound { device } => json!({"event": "device-found", "device": device}),
            Self::SaveFailed { reason } => json!({"event": "save-failed", "reason": reason}),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overrun { lost } => {
                let lost = lost.map_or("some".to_owned(), |lost| {
                    format!("{} ms of", lost.as_millis())
                });
                write!(f, "{lost} sound lost: this machine does not keep up")
            }
            Self::DeviceLost { device } => write!(f, "{device}: lost; waiting for it"),
            Self::DeviceFound { .. } => write!(f, "microphone found again"),
            Self::SaveFailed { reason } => {
                write!(f, "{reason}; listening goes on without --save")
            }
        }
    }
}

/// How captions are shown.
enum Captions {
    Lines(Lines),
    #[cfg(feature = "tui")]
    Screen(Box<Screen>),
}

impl Captions {
    fn say(&mut self, event: &Event) -> io::Result<()> {
        match self {
            Self::Lines(lines) => lines.say(event),
            #[cfg(feature = "tui")]
            Self::Screen(screen) => screen.say(event),
        }
    }

    fn notice(&mut self, notice: &Notice) -> io::Result<()> {
        match self {
            Self::Lines(lines) => lines.notice(notice),
            #[cfg(feature = "tui")]
            Self::Screen(screen) => {
                screen.notice(notice.to_string());
                Ok(())
            }
        }
    }

    /// After each piece of sound, which took `busy` to recognise.
    #[cfg_attr(
        not(feature = "tui"),
        expect(unused_variables, reason = "a screen shows them")
    )]
    fn heard(&mut self, samples: &[f32], rate: u32, busy: Duration) -> io::Result<()> {
        match self {
            Self::Lines(_) => Ok(()),
            #[cfg(feature = "tui")]
            Self::Screen(screen) => screen.heard(&Sound::new(samples, rate, busy)),
        }
    }

    fn end(self) -> io::Result<()> {
        match self {
            Self::Lines(mut lines) => lines.erase(),
            #[cfg(feature = "tui")]
            Self::Screen(screen) => screen.close(),
        }
    }
}
