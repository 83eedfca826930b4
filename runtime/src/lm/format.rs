//! The bytes of a model, as the table in the parent module has them.

use std::path::Path;

use super::arpa::Arpa;
use super::{BEGIN, END, LmError, MAX_ORDER, UNKNOWN, WordHash, WordId};

const MAGIC: &[u8; 8] = b"sori-lm\0";
const VERSION: u32 = 1;
/// Steps of a log10.
const SCALE: f32 = 4096.0;
/// Log10 of the lowest probability.
pub(super) const LOWEST: f32 = -(u16::MAX as f32) / SCALE;
/// Up to here a word's id takes two bytes.
const NARROW: usize = 1 << 16;

/// Letters that words are written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Letters {
    /// Both kinds, or a script that has one kind only.
    Any,
    Small,
    Capital,
}

impl Letters {
    pub(crate) fn of(text: impl Iterator<Item = char>) -> Self {
        let (small, capital) = text.fold((false, false), |(small, capital), letter| {
            (
                small || letter.is_lowercase(),
                capital || letter.is_uppercase(),
            )
        });
        match (small, capital) {
            (true, false) => Self::Small,
            (false, true) => Self::Capital,
            _ => Self::Any,
        }
    }
}

/// A place in the trie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ngram {
    order: usize,
    place: usize,
}

impl Ngram {
    pub(super) const ROOT: Self = Self { order: 0, place: 0 };
}

/// Where what is.
#[derive(Debug)]
pub(super) struct Layout {
    letters: Letters,
    order: usize,
    counts: [usize; MAX_ORDER],
    hashes: usize,
    tables: [Table; MAX_ORDER],
}

/// Offsets of what is known of the n-grams of one order.
#[derive(Debug, Clone, Copy, Default)]
struct Table {
    words: usize,
    probabilities: usize,
    back_offs: usize,
    children: usize,
}

impl Layout {
    /// Checks everything: sizes, and the order that look-ups rely on.
    pub(super) fn check(bytes: &[u8], path: &Path) -> Result<Self, LmError> {
        if !bytes.starts_with(MAGIC) {
            return Err(LmError::Foreign {
                path: path.to_owned(),
            });
        }
        if let Some(found) = u32_at(bytes, 8)
            && found != VERSION
        {
            return Err(LmError::Format {
                path: path.to_owned(),
                found,
                expected: VERSION,
            });
        }
        let layout = Self::read(bytes).and_then(|layout| {
            layout.check_tables(bytes)?;
            Ok(layout)
        });
        layout.map_err(|reason| LmError::Damaged {
            path: path.to_owned(),
            reason,
        })
    }

    /// The header, which gives the size of the whole.
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let field = |index: usize| {
            u32_at(bytes, 8 + 4 * index).ok_or_else(|| "it ends within its header".to_owned())
        };
        let order = field(1)? as usize;
        if !(1..=MAX_ORDER).contains(&order) {
            return Err(format!(
                "expected an order of 1 to {MAX_ORDER}, found {order}"
            ));
        }
        let letters = match field(2)? {
            0 => Letters::Any,
            1 => Letters::Small,
            2 => Letters::Capital,
            other => return Err(format!("expected letters of kind 0 to 2, found {other}")),
        };
        let mut counts = [0; MAX_ORDER];
        for (index, count) in counts[..order].iter_mut().enumerate() {
            *count = field(3 + index)? as usize;
        }

        // In 64 bits no sum of these overflows; once it is the size of `bytes` it fits a usize.
        let mut size = 8 + 4 * (3 + order as u64);
        let mut place = |count: usize, width: u64| {
            let start = size;
            size += count as u64 * width;
            start as usize
        };
        let hashes = place(counts[0], 8);
        let mut tables = [Table::default(); MAX_ORDER];
        for (index, table) in tables[..order].iter_mut().enumerate() {
            let count = counts[index];
            if index > 0 {
                table.words = place(count, word_width(counts[0]));
            }
            table.probabilities = place(count, 2);
            if index + 1 < order {
                table.back_offs = place(count, 2);
                table.children = place(count + 1, 4);
            }
        }
        if size != bytes.len() as u64 {
            return Err(format!("expected {size} bytes, found {}", bytes.len()));
        }
        Ok(Self {
            letters,
            order,
            counts,
            hashes,
            tables,
        })
    }

    fn check_tables(&self, bytes: &[u8]) -> Result<(), String> {
        let hash = |place| self.hash(bytes, place);
        if (1..self.counts[0]).any(|place| hash(place - 1) >= hash(place)) {
            return Err("its words are out of order".to_owned());
        }
        for order in 1..self.order {
            let wrong = || format!("its n-grams of order {} are out of order", order + 1);
            let mut next = 0;
            for place in 0..self.counts[order - 1] {
                let (start, end) = self.children(bytes, Ngram { order, place });
                if start != next || end < start || end > self.counts[order] {
                    return Err(wrong());
                }
                let mut least = 0;
                for child in start..end {
                    let word = self.last_word(bytes, order + 1, child) as usize;
                    if word < least || word >= self.counts[0] {
                        return Err(wrong());
                    }
                    least = word + 1;
                }
                next = end;
            }
            if next != self.counts[order] {
                return Err(wrong());
            }
        }
        Ok(())
    }

    pub(super) fn letters(&self) -> Letters {
        self.letters
    }

    pub(super) fn counts(&self) -> &[usize] {
        &self.counts[..self.order]
    }

    pub(super) fn word(&self, bytes: &[u8], word: WordHash) -> Option<WordId> {
        let found = search(0, self.counts[0], |place| {
            WordHash(self.hash(bytes, place)).cmp(&word)
        });
        found.map(|place| place as WordId)
    }

    /// The n-gram that is one word longer.
    pub(super) fn child(&self, bytes: &[u8], ngram: Ngram, word: WordId) -> Option<Ngram> {
        let order = ngram.order + 1;
        let place = if order == 1 {
            Some(word as usize).filter(|&place| place < self.counts[0])
        } else if order <= self.order {
            let (start, end) = self.children(bytes, ngram);
            search(start, end, |place| {
                self.last_word(bytes, order, place).cmp(&word)
            })
        } else {
            None
        };
        place.map(|place| Ngram { order, place })
    }

    /// Log10 of the probability of `word` after `context`, if the model has them together.
    pub(super) fn probability(&self, bytes: &[u8], context: Ngram, word: WordId) -> Option<f32> {
        let ngram = self.child(bytes, context, word)?;
        let offset = self.tables[ngram.order - 1].probabilities + 2 * ngram.place;
        Some(-f32::from(u16::from_le_bytes(read(bytes, offset))) / SCALE)
    }

    /// Log10 of the weight of what `context` backs off to.
    pub(super) fn back_off(&self, bytes: &[u8], context: Ngram) -> f32 {
        if context.order == 0 || context.order >= self.order {
            return 0.0;
        }
        let offset = self.tables[context.order - 1].back_offs + 2 * context.place;
        f32::from(i16::from_le_bytes(read(bytes, offset))) / SCALE
    }

    fn hash(&self, bytes: &[u8], place: usize) -> u64 {
        u64::from_le_bytes(read(bytes, self.hashes + 8 * place))
    }

    /// The first n-gram that begins with this one, and the first after them.
    fn children(&self, bytes: &[u8], ngram: Ngram) -> (usize, usize) {
        let offset = self.tables[ngram.order - 1].children + 4 * ngram.place;
        let place = |offset| u32::from_le_bytes(read(bytes, offset)) as usize;
        (place(offset), place(offset + 4))
    }

    fn last_word(&self, bytes: &[u8], order: usize, place: usize) -> WordId {
        let words = self.tables[order - 1].words;
        if self.counts[0] <= NARROW {
            u16::from_le_bytes(read(bytes, words + 2 * place)).into()
        } else {
            u32::from_le_bytes(read(bytes, words + 4 * place))
        }
    }
}

fn word_width(words: usize) -> u64 {
    if words <= NARROW { 2 } else { 4 }
}

/// Zeros beyond the end, where nobody reads unless the file was changed after it was checked.
fn read<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let rest = bytes.get(offset..).unwrap_or_default();
    rest.first_chunk().copied().unwrap_or([0; N])
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let rest = bytes.get(offset..)?;
    rest.first_chunk().copied().map(u32::from_le_bytes)
}

/// Binary search among `start..end`.
fn search(
    mut start: usize,
    mut end: usize,
    compare: impl Fn(usize) -> std::cmp::Ordering,
) -> Option<usize> {
    while start < end {
        let middle = start + (end - start) / 2;
        match compare(middle) {
            std::cmp::Ordering::Less => start = middle + 1,
            std::cmp::Ordering::Equal => return Some(middle),
            std::cmp::Ordering::Greater => end = middle,
        }
    }
    None
}

/// Writes a model down.
pub(super) fn write(arpa: &Arpa) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    let words = arpa.words.iter().map(|word| &**word);
    let letters = words
        .filter(|word| ![BEGIN, END, UNKNOWN].contains(word))
        .flat_map(str::chars);
    let order = arpa.orders.len();
    for field in [VERSION, order as u32, Letters::of(letters) as u32] {
        bytes.extend(field.to_le_bytes());
    }
    for ngrams in &arpa.orders {
        bytes.extend((ngrams.len() as u32).to_le_bytes());
    }
    for word in &arpa.words {
        bytes.extend(WordHash::of(word).0.to_le_bytes());
    }
    for (index, ngrams) in arpa.orders.iter().enumerate() {
        for words in ngrams.words.chunks_exact(index + 1).filter(|_| index > 0) {
            let word = words[index];
            if arpa.words.len() <= NARROW {
                bytes.extend((word as u16).to_le_bytes());
            } else {
                bytes.extend(word.to_le_bytes());
            }
        }
        for probability in &ngrams.probabilities {
            // The cast saturates.
            bytes.extend(((-probability * SCALE).round() as u16).to_le_bytes());
        }
        let Some(longer) = arpa.orders.get(index + 1) else {
            break;
        };
        for back_off in &ngrams.back_offs {
            bytes.extend(((back_off * SCALE).round() as i16).to_le_bytes());
        }
        let mut longer = longer.words.chunks_exact(index + 2);
        let mut ended = 0_u32;
        bytes.extend(ended.to_le_bytes());
        let mut next = longer.next();
        for words in ngrams.words.chunks_exact(index + 1) {
            while next.is_some_and(|longer| longer.starts_with(words)) {
                ended += 1;
                next = longer.next();
            }
            bytes.extend(ended.to_le_bytes());
        }
    }
    bytes
}
