//! Captions on the whole terminal: `sori listen --tui`.

use std::io::{self, IsTerminal, Stderr, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::{Constraint, Layout};
use ratatui::prelude::CrosstermBackend;
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Gauge, Paragraph};
use ratatui::{Frame, Terminal};
use sori::Event;

/// Time between two drawings: captions come a few times a second, the level should look alive.
const REDRAW: Duration = Duration::from_millis(50);
/// The quietest level of the meter, in decibels relative to full scale.
const QUIETEST: f32 = -60.0;
/// How fast the meter falls, in decibels per second, as meters do.
const FALL: f32 = 20.0;

/// A piece of sound, as far as the screen shows it.
pub(super) struct Sound {
    /// The largest magnitude of a sample, of full scale.
    peak: f32,
    lasts: Duration,
    /// The time that it took to recognise.
    busy: Duration,
}

impl Sound {
    pub(super) fn new(samples: &[f32], rate: u32, busy: Duration) -> Self {
        let peak = samples
            .iter()
            .fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
        let lasts = Duration::from_secs_f64(samples.len() as f64 / f64::from(rate.max(1)));
        Self { peak, lasts, busy }
    }
}

/// The terminal while it is ours. Drawn on stderr: stdout is for the words, at once if it is a file or a
/// pipe, and at the end if it is the terminal.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stderr>>,
    stop: Arc<AtomicBool>,
    view: View,
    drawn: Option<Instant>,
    open: bool,
    print_at_once: bool,
}

impl Screen {
    pub(super) fn open(microphone: String, stop: Arc<AtomicBool>) -> anyhow::Result<Self> {
        anyhow::ensure!(
            io::stderr().is_terminal() && io::stdin().is_terminal(),
            "--tui needs a terminal; leave it out to print captions line by line"
        );
        enable_raw_mode()?;
        let terminal = execute!(io::stderr(), EnterAlternateScreen)
            .and_then(|()| Terminal::new(CrosstermBackend::new(io::stderr())))
            .inspect_err(|_| drop(disable_raw_mode()))?;
        let mut screen = Self {
            terminal,
            stop,
            view: View::new(microphone),
            drawn: None,
            open: true,
            print_at_once: !io::stdout().is_terminal(),
        };
        screen.draw()?;
        Ok(screen)
    }

    pub(super) fn say(&mut self, event: &Event) -> io::Result<()> {
        self.view.say(event);
        match event {
            Event::Final(segment) if self.print_at_once => {
                let mut out = io::stdout().lock();
                writeln!(out, "{}", segment.line())?;
                out.flush()
            }
            _ => Ok(()),
        }
    }

    pub(super) fn notice(&mut self, text: String) {
        self.view.notice = Some(text);
    }

    pub(super) fn heard(&mut self, sound: &Sound) -> io::Result<()> {
        self.view.heard(sound);
        if self.drawn.is_some_and(|drawn| drawn.elapsed() < REDRAW) {
            return Ok(());
        }
        while event::poll(Duration::ZERO)? {
            if let event::Event::Key(key) = event::read()?
                && ends(key)
            {
                self.stop.store(true, Ordering::Relaxed);
            }
        }
        self.draw()
    }

    fn draw(&mut self) -> io::Result<()> {
        self.view.memory_mb = resident_mb();
        self.terminal.draw(|frame| self.view.draw(frame))?;
        self.drawn = Some(Instant::now());
        Ok(())
    }

    /// Gives the terminal back, with what was said on it.
    pub(super) fn close(mut self: Box<Self>) -> io::Result<()> {
        self.leave()
    }

    fn leave(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.open) {
            return Ok(());
        }
        let left = execute!(io::stderr(), LeaveAlternateScreen);
        disable_raw_mode().and(left)?;
        if !self.print_at_once {
            let mut out = io::stdout().lock();
            for utterance in &self.view.said {
                writeln!(out, "{utterance}")?;
            }
        }
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // After an error too the terminal must be usable, and what was said must not be lost.
        if let Err(error) = self.leave() {
            tracing::error!("{error}");
        }
    }
}

/// In raw mode Ctrl-C comes as a key.
fn ends(key: KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press
        && match key.code {
            KeyCode::Char('c' | 'd') => control,
            KeyCode::Char('q') | KeyCode::Esc => true,
            _ => false,
        }
}

/// What is to be seen.
struct View {
    microphone: String,
    said: Vec<String>,
    partial: Option<String>,
    /// What happened since an utterance ended.
    notice: Option<String>,
    level_db: f32,
    heard: Duration,
    busy: Duration,
    memory_mb: Option<f64>,
}

impl View {
    fn new(microphone: String) -> Self {
        Self {
            microphone,
            said: Vec::new(),
            partial: None,
            notice: None,
            level_db: QUIETEST,
            heard: Duration::ZERO,
            busy: Duration::ZERO,
            memory_mb: None,
        }
    }

    fn say(&mut self, event: &Event) {
        match event {
            Event::Partial(segment) => {
                self.partial = Some(segment.text.clone()).filter(|text| !text.is_empty());
            }
            Event::Final(segment) => {
                self.partial = None;
                self.said.push(segment.line().to_owned());
            }
            // What was said so far may have been taken back.
            Event::Endpoint(_) => (self.partial, self.notice) = (None, None),
            _ => {}
        }
    }

    fn heard(&mut self, sound: &Sound) {
        let fallen = self.level_db - FALL * sound.lasts.as_secs_f32();
        let peak_db = 20.0 * sound.peak.max(1e-6).log10();
        self.level_db = peak_db.max(fallen).clamp(QUIETEST, 0.0);
        self.heard += sound.lasts;
        self.busy += sound.busy;
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let rows = [
            Constraint::Length(1),
            Constraint::Min(1),
            Constraint::Length(1),
            Constraint::Length(1),
        ];
        let [title, captions, level, figures] = Layout::vertical(rows).areas(frame.area());
        let heading = Line::from(vec!["sori ".bold(), self.microphone.as_str().dim()]);
        frame.render_widget(heading, title);

        let lines = self.captions(usize::from(captions.width), usize::from(captions.height));
        frame.render_widget(Paragraph::new(lines), captions);

        let colour = match self.level_db {
            -3.0.. => Color::Red,
            -12.0.. => Color::Yellow,
            _ => Color::Green,
        };
        let meter = Gauge::default()
            .ratio(f64::from(1.0 - self.level_db / QUIETEST).clamp(0.0, 1.0))
            .label(format!("{:.0} dB", self.level_db))
            .gauge_style(Style::new().fg(colour))
            .use_unicode(true);
        frame.render_widget(meter, level);
        frame.render_widget(self.figures(), figures);
    }

    /// The newest lines that fit, oldest first.
    fn captions(&self, width: usize, height: usize) -> Vec<Line<'_>> {
        let said = self.said.iter().map(|text| (text, Style::new()));
        let partial = self
            .partial
            .iter()
            .map(|text| (text, Style::new().dim().italic()));
        let notice = self.notice.iter().map(|text| (text, Style::new().yellow()));
        let mut lines: Vec<Line<'_>> = said
            .chain(partial)
            .chain(notice)
            .rev()
            .flat_map(|(text, style)| {
                let wrapped = textwrap::wrap(text, width.max(1));
                wrapped
                    .into_iter()
                    .rev()
                    .map(move |line| Line::styled(line, style))
            })
            .take(height)
            .collect();
        lines.reverse();
        lines
    }

    fn figures(&self) -> Line<'_> {
        let seconds = self.heard.as_secs();
        let mut figures = format!("{}:{:02}", seconds / 60, seconds % 60);
        if !self.busy.is_zero() {
            let times = self.heard.as_secs_f64() / self.busy.as_secs_f64();
            figures += &format!("   {times:.0} x real time");
        }
        if let Some(memory) = self.memory_mb {
            figures += &format!("   {memory:.0} MB");
        }
        Line::from(vec![Span::raw(figures), "   q ends".dim()])
    }
}

/// Memory of this process that is in use now.
fn resident_mb() -> Option<f64> {
    memory_stats::memory_stats().map(|memory| memory.physical_mem as f64 / 1e6)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use ratatui::backend::TestBackend;

    fn drawn(view: &View, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| {
            (0..width)
                .map(|x| buffer[(x, y)].symbol())
                .collect::<String>()
        };
        (0..height).map(|y| row(y).trim_end().to_owned()).collect()
    }

    #[test]
    fn the_newest_captions_are_at_the_bottom() {
        let mut view = View::new("Built-in".to_owned());
        for number in 1..=9 {
            view.said.push(format!("utterance number {number}"));
        }
        view.partial = Some("and this is being said now".to_owned());
        let rows = drawn(&view, 20, 7);
        assert_eq!(rows[0], "sori Built-in");
        assert_eq!(
            rows[1..5],
            [
                "utterance number 8",
                "utterance number 9",
                "and this is being",
                "said now"
            ]
        );
    }

    #[test]
    fn words_that_were_taken_back_and_old_notices_go_with_the_utterance() {
        let mut view = View::new("Built-in".to_owned());
        view.partial = Some("taken back".to_owned());
        view.notice = Some("microphone found again".to_owned());
        view.say(&Event::Endpoint(sori::Endpoint {
            time: 2.0,
            rule: sori::EndpointRule::Silence,
        }));
        assert_eq!(drawn(&view, 20, 5)[1..3], ["", ""]);
    }

    #[test]
    fn level_speed_and_time_are_told() {
        let mut view = View::new("Built-in".to_owned());
        let piece = Sound::new(&[0.1, -0.5], 2, Duration::from_millis(25));
        view.heard(&piece);
        view.memory_mb = Some(31.4);
        let rows = drawn(&view, 60, 4);
        assert!(rows[2].contains("-6 dB"), "{rows:?}");
        assert_eq!(rows[3], "0:01   40 x real time   31 MB   q ends");
        // Silence: the meter falls by and by.
        view.heard(&Sound::new(&[0.0; 2], 2, Duration::ZERO));
        assert!(drawn(&view, 60, 4)[2].contains("-26 dB"));
    }

    #[test]
    fn a_terminal_of_no_size_does_no_harm() {
        let mut view = View::new("Built-in".to_owned());
        view.partial = Some("one two".to_owned());
        view.notice = Some("lost".to_owned());
        for (width, height) in [(1, 1), (3, 2), (1, 9)] {
            drawn(&view, width, height);
        }
    }
}
