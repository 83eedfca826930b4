//! `SubRip` and `WebVTT` cues.

use std::io::{self, Write};

use crate::segment::Word;

/// What fits on a screen and can be read: two lines of 42 characters, six seconds.
const LINE: usize = 42;
const LONGEST: f64 = 6.0;
/// A cue stays up this long after its last word, unless the next one begins: spoken words are
/// gone before they are read.
const LINGER: f64 = 0.6;

pub(super) struct Cue {
    start: f64,
    end: f64,
    lines: Vec<String>,
}

/// Parts the words of a segment into cues, each up to its last word's end.
pub(super) fn cues(words: &[Word]) -> Vec<Cue> {
    let mut cues: Vec<Cue> = Vec::new();
    for word in words {
        if let Some(cue) = cues.last_mut()
            && word.end - cue.start <= LONGEST
            && cue.take(word)
        {
            continue;
        }
        cues.push(Cue {
            start: word.start,
            end: word.end,
            lines: vec![word.word.clone()],
        });
    }
    cues
}

impl Cue {
    pub(super) fn start(&self) -> f64 {
        self.start
    }

    /// Lets it stay up, but not beside the one that begins at `next`, nor beyond the sound if that ends then.
    pub(super) fn linger(&mut self, next: f64) {
        self.end = (self.end + LINGER).min(next).max(self.end);
    }

    /// Adds a word if there is room.
    fn take(&mut self, word: &Word) -> bool {
        let full = self.lines.len() == 2;
        match self.lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.word.chars().count() <= LINE => {
                line.push(' ');
                line.push_str(&word.word);
            }
            _ if full => return false,
            _ => self.lines.push(word.word.clone()),
        }
        self.end = word.end;
        true
    }
}

pub(super) fn srt(out: &mut impl Write, number: usize, cue: &Cue) -> io::Result<()> {
    if number > 1 {
        writeln!(out)?;
    }
    writeln!(
        out,
        "{number}\n{} --> {}",
        time(cue.start, ','),
        time(cue.end, ',')
    )?;
    cue.lines
        .iter()
        .try_for_each(|line| writeln!(out, "{line}"))
}

pub(super) fn vtt(out: &mut impl Write, cue: &Cue) -> io::Result<()> {
    writeln!(out, "\n{} --> {}", time(cue.start, '.'), time(cue.end, '.'))?;
    cue.lines.iter().try_for_each(|line| {
        writeln!(
            out,
            "{}",
            line.replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;")
        )
    })
}

/// `hh:mm:ss` and milliseconds after `point`.
fn time(seconds: f64, point: char) -> String {
    let ms = (seconds * 1000.0).round() as u64;
    let (h, m, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{h:02}:{m:02}:{s:02}{point}{:03}", ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str, pace: f64) -> Vec<Word> {
        text.split(' ')
            .enumerate()
            .map(|(index, word)| Word {
                word: word.to_owned(),
                start: index as f64 * pace,
                end: index as f64 * pace + 0.2,
                confidence: 1.0,
            })
            .collect()
    }

    /// The cues of words at a usual pace, as they are shown.
    fn lingering(text: &str) -> Vec<Cue> {
        let mut cues = cues(&words(text, 0.3));
        let starts: Vec<f64> = cues.iter().map(Cue::start).collect();
        for (index, cue) in cues.iter_mut().enumerate() {
            cue.linger(starts.get(index + 1).copied().unwrap_or(f64::INFINITY));
        }
        cues
    }

    #[test]
    fn cues_hold_two_short_lines_and_never_overlap() {
        let cues = lingering(&["somewhat"; 40].join(" "));
        assert!(
            cues.iter()
                .all(|cue| cue.lines.len() <= 2 && cue.lines.iter().all(|line| line.len() <= LINE))
        );
        assert!(
            cues.iter()
                .all(|cue| cue.end - cue.start <= LONGEST + LINGER)
        );
        assert!(cues.windows(2).all(|pair| pair[0].end <= pair[1].start));
        let said: usize = cues
            .iter()
            .flat_map(|cue| &cue.lines)
            .map(|line| line.split(' ').count())
            .sum();
        assert_eq!(said, 40);
    }

    #[test]
    fn a_cue_stays_up_until_the_next_one() {
        let ends = [f64::INFINITY, 9.0, 0.7, 0.4].map(|next| {
            let mut cue = cues(&words("one two", 0.3)).remove(0);
            cue.linger(next);
            cue.end
        });
        assert_eq!(ends, [1.1, 1.1, 0.7, 0.5]);
    }

    #[test]
    fn times_carry_into_hours() {
        assert_eq!(time(3723.0456, ','), "01:02:03,046");
        assert_eq!(time(359999.9996, '.'), "100:00:00.000");
    }

    #[test]
    fn markup_is_escaped_in_vtt() {
        let mut out = Vec::new();
        vtt(&mut out, &lingering("a<b &c")[0]).unwrap_or_default();
        assert_eq!(
            String::from_utf8_lossy(&out),
            "\n00:00:00.000 --> 00:00:01.100\na&lt;b &amp;c\n"
        );
    }
}
