//! Captions as lines: finals on stdout, the partial on the last line of the terminal; or JSON.

use std::io::{self, Write};

use console::{Term, measure_text_width};
use sori::Event;

use super::listen::Notice;

pub(super) struct Lines {
    json: bool,
    term: Term,
    drawn: bool,
}

impl Lines {
    pub(super) fn new(json: bool) -> Self {
        Self {
            json,
            term: Term::stderr(),
            drawn: false,
        }
    }

    pub(super) fn say(&mut self, event: &Event) -> io::Result<()> {
        if self.json {
            return print_json(event);
        }
        match event {
            Event::Partial(segment) => self.draw(&segment.text),
            Event::Final(segment) => {
                self.erase()?;
                writeln!(io::stdout(), "{}", segment.line())
            }
            // What was said so far may have been taken back.
            Event::Endpoint(_) => self.erase(),
            _ => Ok(()),
        }
    }

    pub(super) fn notice(&mut self, notice: &Notice) -> io::Result<()> {
        if self.json {
            return print_json(&notice.json());
        }
        self.erase()?;
        tracing::warn!("{notice}");
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

    /// Leaves the terminal's last line empty.
    pub(super) fn erase(&mut self) -> io::Result<()> {
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
