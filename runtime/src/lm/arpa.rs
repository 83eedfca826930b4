//! The ARPA format: counts under `\data\`, then a section of lines per order, each
//! `log10-probability word ... [log10-back-off]`, then `\end\` (the manual page ngram-format(5) of
//! SRILM).

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::{LmError, MAX_ORDER, WordHash, WordId};

/// Most bytes of a line.
const LONGEST_LINE: u64 = 4_096;
/// Most n-grams, of all orders together.
const MOST_NGRAMS: u64 = 100_000_000;

/// What an ARPA file says, in the order in which it is written down.
pub(super) struct Arpa {
    /// In the order of their hashes, which makes their ids.
    pub(super) words: Vec<Box<str>>,
    /// Single words first.
    pub(super) orders: Vec<Ngrams>,
}

/// The n-grams of one order, in the order of their words' ids.
#[derive(Default)]
pub(super) struct Ngrams {
    /// As many per n-gram as the order says.
    pub(super) words: Vec<WordId>,
    pub(super) probabilities: Vec<f32>,
    pub(super) back_offs: Vec<f32>,
}

impl Ngrams {
    pub(super) fn len(&self) -> usize {
        self.probabilities.len()
    }

    fn push(&mut self, words: impl IntoIterator<Item = WordId>, line: &Line<'_>) {
        self.words.extend(words);
        self.probabilities.push(line.probability);
        self.back_offs.push(line.back_off);
    }

    /// The same n-grams at other places.
    fn placed(&self, places: &[u32], order: usize) -> Self {
        let places = || places.iter().map(|&place| place as usize);
        let words = |place: usize| &self.words[place * order..(place + 1) * order];
        Self {
            words: places().flat_map(words).copied().collect(),
            probabilities: places().map(|place| self.probabilities[place]).collect(),
            back_offs: places().map(|place| self.back_offs[place]).collect(),
        }
    }
}

pub(super) fn parse(arpa: impl Read, path: &Path) -> Result<Arpa, LmError> {
    let mut lines = Lines {
        reader: BufReader::new(arpa),
        path,
        bytes: Vec::new(),
        number: 0,
    };
    let counts = counts(&mut lines)?;
    let mut orders = Vec::with_capacity(counts.len());
    let mut words = Vec::new();
    for (index, &count) in counts.iter().enumerate() {
        let section = Section {
            order: index + 1,
            highest: counts.len(),
            count,
        };
        let ngrams = match orders.last() {
            None => section.words(&mut lines, &mut words)?,
            Some(shorter) => section.ngrams(&mut lines, &words, shorter)?,
        };
        orders.push(ngrams);
    }
    lines.expect("\\end\\")?;
    Ok(Arpa { words, orders })
}

/// The counts under `\data\`. Reads on to the title of the first section.
fn counts<R: Read>(lines: &mut Lines<'_, R>) -> Result<Vec<u64>, LmError> {
    while lines.advance()? {
        if lines.text()? == "\\data\\" {
            break;
        }
    }
    if lines.bytes.is_empty() {
        return Err(lines.wrong("not an ARPA file: it has no line \\data\\"));
    }
    let mut counts: Vec<u64> = Vec::new();
    while lines.advance()? {
        let text = lines.text()?;
        if text.starts_with('\\') {
            break;
        }
        if text.is_empty() {
            continue;
        }
        let order = counts.len() + 1;
        let count = text.strip_prefix("ngram").and_then(|fact| {
            let (number, count) = fact.split_once('=')?;
            let number: usize = number.trim().parse().ok()?;
            let count: u64 = count.trim().parse().ok()?;
            (number == order).then_some(count)
        });
        let Some(count) = count else {
            let reason = format!("expected \"ngram {order}=COUNT\", found {text:?}");
            return Err(lines.wrong(reason));
        };
        counts.push(count);
        let all = counts
            .iter()
            .fold(0_u64, |all, &count| all.saturating_add(count));
        if order > MAX_ORDER || all > MOST_NGRAMS {
            let reason = format!(
                "too much: expected at most {MOST_NGRAMS} n-grams of at most {MAX_ORDER} words"
            );
            return Err(lines.wrong(reason));
        }
    }
    if counts.first().is_none_or(|&words| words == 0) {
        return Err(lines.wrong("expected \"ngram 1=COUNT\" with at least one word"));
    }
    Ok(counts)
}

/// One section, as it is announced.
struct Section {
    order: usize,
    highest: usize,
    count: u64,
}

impl Section {
    /// The single words. Their ids are their places once they are sorted.
    fn words<R: Read>(
        &self,
        lines: &mut Lines<'_, R>,
        words: &mut Vec<Box<str>>,
    ) -> Result<Ngrams, LmError> {
        let mut read = Ngrams::default();
        let first = self.read(lines, |line| {
            read.push([], line);
            words.push(line.words[0].into());
            Ok(())
        })?;
        let mut places: Vec<u32> = (0..words.len() as u32).collect();
        places.sort_by_cached_key(|&place| (WordHash::of(&words[place as usize]), place));
        let sorted = places.iter().map(|&place| words[place as usize].clone());
        let sorted: Vec<Box<str>> = sorted.collect();
        for (pair, places) in sorted.windows(2).zip(places.windows(2)) {
            if WordHash::of(&pair[0]) == WordHash::of(&pair[1]) {
                let reason = if pair[0] == pair[1] {
                    format!("the word {:?} is given twice", pair[0])
                } else {
                    format!(
                        "the words {:?} and {:?} have the same hash; leave one of them out",
                        pair[0], pair[1]
                    )
                };
                return Err(lines.wrong_at(first + u64::from(places[1]), reason));
            }
        }
        *words = sorted;
        let mut ngrams = read.placed(&places, 0);
        ngrams.words.extend(0..places.len() as WordId);
        Ok(ngrams)
    }

    /// Longer n-grams, each of which goes on with one of `shorter`.
    fn ngrams<R: Read>(
        &self,
        lines: &mut Lines<'_, R>,
        words: &[Box<str>],
        shorter: &Ngrams,
    ) -> Result<Ngrams, LmError> {
        let order = self.order;
        let hashes: Vec<WordHash> = words.iter().map(|word| WordHash::of(word)).collect();
        let mut read = Ngrams::default();
        let first = self.read(lines, |line| {
            let mut ids = [0; MAX_ORDER];
            for (id, word) in ids.iter_mut().zip(&line.words[..order]) {
                let found = hashes.binary_search(&WordHash::of(word));
                *id = found.map_err(|_| format!("the word {word:?} is not among the 1-grams"))?
                    as WordId;
            }
            read.push(ids.into_iter().take(order), line);
            Ok(())
        })?;

        let ids = |place: u32| &read.words[place as usize * order..][..order];
        let spell = |place| {
            let words: Vec<&str> = ids(place).iter().map(|&id| &*words[id as usize]).collect();
            words.join(" ")
        };
        let mut places: Vec<u32> = (0..read.len() as u32).collect();
        places.sort_unstable_by(|&a, &b| ids(a).cmp(ids(b)).then(a.cmp(&b)));
        for pair in places.windows(2) {
            if ids(pair[0]) == ids(pair[1]) {
                let reason = format!("the n-gram \"{}\" is given twice", spell(pair[0]));
                return Err(lines.wrong_at(first + u64::from(pair[1]), reason));
            }
        }
        let mut prefixes = shorter.words.chunks_exact(order - 1).peekable();
        for &place in &places {
            let prefix = &ids(place)[..order - 1];
            while prefixes.next_if(|shorter| *shorter < prefix).is_some() {}
            if prefixes.peek() != Some(&prefix) {
                let reason = format!(
                    "the n-gram \"{}\" has no n-gram of order {} that it goes on with",
                    spell(place),
                    order - 1
                );
                return Err(lines.wrong_at(first + u64::from(place), reason));
            }
        }
        Ok(read.placed(&places, order))
    }

    /// Gives every line of the section to `accept` and reads on to the title of the next. Returns the
    /// number of the first line; the others follow it without a gap.
    fn read<R: Read>(
        &self,
        lines: &mut Lines<'_, R>,
        mut accept: impl FnMut(&Line<'_>) -> Result<(), String>,
    ) -> Result<u64, LmError> {
        let Self {
            order,
            highest,
            count,
        } = self;
        lines.expect(&format!("\\{order}-grams:"))?;
        let first = lines.number + 1;
        let mut found = 0;
        while lines.advance()? {
            let text = lines.text()?;
            if text.is_empty() || text.starts_with('\\') {
                break;
            }
            if found == *count {
                return Err(lines.wrong(format!(
                    "expected {count} {order}-grams, as \\data\\ says, found more"
                )));
            }
            found += 1;
            Line::parse(text, *order, *highest)
                .and_then(|line| accept(&line))
                .map_err(|reason| lines.wrong(reason))?;
        }
        while lines.text()?.is_empty() && lines.advance()? {}
        if found < *count {
            return Err(lines.wrong(format!(
                "expected {count} {order}-grams, as \\data\\ says, found {found}"
            )));
        }
        Ok(first)
    }
}

/// An n-gram.
struct Line<'a> {
    words: [&'a str; MAX_ORDER],
    probability: f32,
    back_off: f32,
}

impl<'a> Line<'a> {
    fn parse(text: &'a str, order: usize, highest: usize) -> Result<Self, String> {
        let number = |field: &str, what: &str| match field.parse::<f32>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(format!("expected {what}, found {field:?}")),
        };
        let mut fields = text.split_ascii_whitespace();
        let probability = fields.next().unwrap_or_default();
        let probability = number(probability, "the log10 of a probability")?;
        if probability > 0.0 {
            return Err(format!(
                "expected the log10 of a probability, at most 0, found {probability}"
            ));
        }
        let mut words = [""; MAX_ORDER];
        for (found, word) in words[..order].iter_mut().enumerate() {
            let missing = || format!("expected {order} words, found {found}");
            *word = fields.next().ok_or_else(missing)?;
        }
        let back_off = match fields.next() {
            Some(field) if order < highest => number(field, "the log10 of a back-off weight")?,
            Some(field) => {
                return Err(format!(
                    "expected {order} words and no more, found {field:?}"
                ));
            }
            None => 0.0,
        };
        match fields.next() {
            None => Ok(Self {
                words,
                probability,
                back_off,
            }),
            Some(field) => Err(format!(
                "expected {order} words and a back-off weight, found {field:?} behind them"
            )),
        }
    }
}

/// The file, a line at a time.
struct Lines<'a, R> {
    reader: BufReader<R>,
    path: &'a Path,
    bytes: Vec<u8>,
    /// Of the line in `bytes`, from 1; at the end of the file that of the last line.
    number: u64,
}

impl<R: Read> Lines<'_, R> {
    /// Reads the next line. False at the end of the file, where the line is empty.
    fn advance(&mut self) -> Result<bool, LmError> {
        self.bytes.clear();
        let mut limited = self.reader.by_ref().take(LONGEST_LINE + 1);
        let read = limited.read_until(b'\n', &mut self.bytes);
        let read = read.map_err(|reason| LmError::Read {
            path: self.path.to_owned(),
            reason,
        })?;
        self.number += u64::from(read > 0);
        if read as u64 > LONGEST_LINE {
            let reason = format!("the line is longer than {LONGEST_LINE} bytes");
            return Err(self.wrong(reason));
        }
        Ok(read > 0)
    }

    fn text(&self) -> Result<&str, LmError> {
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => Ok(text.trim_ascii()),
            Err(error) => {
                let at = error.valid_up_to() + 1;
                Err(self.wrong(format!("expected UTF-8, found another byte at {at}")))
            }
        }
    }

    /// Checks that the line is this one.
    fn expect(&self, expected: &str) -> Result<(), LmError> {
        let found = self.text()?;
        if found == expected {
            return Ok(());
        }
        let reason = if self.bytes.is_empty() {
            format!("expected {expected}, found the end of the file")
        } else {
            format!("expected {expected}, found {found:?}")
        };
        Err(self.wrong(reason))
    }

    fn wrong(&self, reason: impl Into<String>) -> LmError {
        self.wrong_at(self.number.max(1), reason)
    }

    fn wrong_at(&self, line: u64, reason: impl Into<String>) -> LmError {
        LmError::Arpa {
            path: self.path.to_owned(),
            line,
            reason: reason.into(),
        }
    }
}
