//! A word-level back-off n-gram model: how probable a word is after those before it.
//!
//! [`LanguageModel::from_arpa`] turns an ARPA file, as SRILM, KenLM, IRSTLM and OpenGrm write them,
//! into compact bytes, which [`LanguageModel::open`] maps into memory.
//!
//! # File format
//! Little-endian, nothing is padded. `n[k]` is the number of n-grams of order `k`, `N` the highest
//! order, at most 5.
//!
//! | field | type | what |
//! |---|---|---|
//! | magic | 8 bytes | `sori-lm` and a zero |
//! | version | u32 | 1 |
//! | order | u32 | `N` |
//! | letters | u32 | of the words: 1 small ones only, 2 capitals only, 0 otherwise |
//! | `n` | u32 × N | |
//! | hashes | u64 × `n[1]` | of the words (FNV-1a of their UTF-8), increasing; a word's id is its place |
//!
//! then for each order `k` from 1 to `N`, its n-grams in the order of their words' ids (the n-grams
//! that begin alike are together, so that they form a trie):
//!
//! | field | type | what |
//! |---|---|---|
//! | words | u16 × `n[k]` | id of the last word; u32 where `n[1]` is above 65,536; absent for `k` = 1 |
//! | probabilities | u16 × `n[k]` | -log10 p × 4096, down to 10^-16 |
//! | back-offs | i16 × `n[k]` | log10 of the back-off weight × 4096, from -8 to 8; absent for `k` = `N` |
//! | children | u32 × (`n[k]` + 1) | first n-gram of order `k + 1` that begins with this one; absent for `k` = `N` |

mod arpa;
mod error;
mod format;

pub use error::LmError;

use std::io::{self, Read};
use std::path::Path;

use format::Layout;
pub(crate) use format::Letters;
use memmap2::Mmap;

use crate::mapped;

/// Highest order of a model.
pub const MAX_ORDER: usize = 5;

/// A word of a [`LanguageModel`]: its place among the model's words.
pub type WordId = u32;

/// How much a language model counts in a search. Logarithms are natural.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LmOptions {
    /// What the log-probability of each word is multiplied by. Default 0.5.
    pub weight: f32,
    /// Added for each word: without it a language model prefers few words. Default 1.
    pub word_bonus: f32,
    /// Taken off for a word that the model does not know, in the place of its weighted log-probability.
    /// Default 10.
    pub unknown_penalty: f32,
    /// What the log-probability that the sentence ends is multiplied by at the end of an utterance.
    /// Speakers pause within sentences, too. Default 0.
    pub end_weight: f32,
}

impl Default for LmOptions {
    fn default() -> Self {
        Self {
            weight: 0.5,
            word_bonus: 1.0,
            unknown_penalty: 10.0,
            end_weight: 0.0,
        }
    }
}

/// A back-off n-gram model of words (Katz 1987). Reading is cheap, and all threads may do it.
///
/// # Examples
/// ```
/// use sori::lm::LanguageModel;
///
/// let arpa = "\\data\\\nngram 1=3\nngram 2=1\n\n\
///     \\1-grams:\n-0.6\tgood -0.3\n-0.5\tmorning\n-1 \tevening\n\n\
///     \\2-grams:\n-0.2 good morning\n\n\\end\\\n";
/// let model = LanguageModel::from_arpa(arpa.as_bytes(), "model.arpa")?;
/// let word = |word| model.word(word).unwrap();
/// let (_, good) = model.score(model.begin(), word("good"));
/// assert!((model.score(good, word("morning")).0 - -0.2).abs() < 1e-3);
/// assert!((model.score(good, word("evening")).0 - -1.3).abs() < 1e-3);
/// # Ok::<(), sori::lm::LmError>(())
/// ```
#[derive(Debug)]
pub struct LanguageModel {
    bytes: Bytes,
    layout: Layout,
    begin: Option<WordId>,
    end: Option<WordId>,
    unknown: Option<WordId>,
}

#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// What was said last: as many words as the model looks back on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct History {
    /// Oldest first.
    words: [WordId; MAX_ORDER - 1],
    len: u8,
}

impl History {
    fn words(&self) -> &[WordId] {
        &self.words[..usize::from(self.len)]
    }

    /// With one more word; of all, the last `most` are kept.
    fn then(mut self, word: WordId, most: usize) -> Self {
        let len = usize::from(self.len);
        if most == 0 {
            return self;
        }
        if len >= most {
            self.words.copy_within(len + 1 - most..len, 0);
            self.len = most as u8 - 1;
        }
        self.words[usize::from(self.len)] = word;
        self.len += 1;
        self
    }
}

/// What a model says of a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SentenceScore {
    /// Log10 of the sentence's probability, its end included. Words that are unknown to the model count
    /// as its `<unk>`, and not at all if it has none.
    pub log10: f64,
    /// The part of `log10` that unknown words make.
    pub unknown_log10: f64,
    /// Words, unknown ones included, the end of the sentence not.
    pub words: usize,
    /// Words that the model does not know.
    pub unknown: usize,
}

impl LanguageModel {
    /// Maps a file that [`bytes`](Self::bytes) were written to into memory and checks it whole. The
    /// file must not be changed while it is in use: replace it by another instead.
    ///
    /// # Errors
    /// [`LmError`] when the file cannot be read, is something else, of another version, or damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LmError> {
        let path = path.as_ref();
        let cannot_read = |reason| LmError::Read {
            path: path.to_owned(),
            reason,
        };
        let bytes = mapped::map(path).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => LmError::Foreign {
                path: path.to_owned(),
            },
            _ => cannot_read(error),
        })?;
        Self::check(Bytes::Mapped(bytes), path)
    }

    /// The same from memory, for callers whose model is not on a file system. `name` is only named in
    /// errors.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn from_bytes(bytes: Vec<u8>, name: impl AsRef<Path>) -> Result<Self, LmError> {
        Self::check(Bytes::Owned(bytes), name.as_ref())
    }

    /// Reads an ARPA file. `name` is only named in errors.
    ///
    /// Probabilities keep three places of their logarithm; those below 10^-16 are raised to that. All
    /// n-grams are held in memory on the way, at most 100 million of them.
    ///
    /// # Errors
    /// [`LmError::Arpa`] with the line for what is not as the format asks, [`LmError::Read`] when
    /// reading fails.
    pub fn from_arpa(arpa: impl Read, name: impl AsRef<Path>) -> Result<Self, LmError> {
        let path = name.as_ref();
        let bytes = format::write(&arpa::parse(arpa, path)?);
        Self::check(Bytes::Owned(bytes), path)
    }

    fn check(bytes: Bytes, path: &Path) -> Result<Self, LmError> {
        let layout = Layout::check(&bytes, path)?;
        let word = |word: &str| layout.word(&bytes, WordHash::of(word));
        Ok(Self {
            begin: word(BEGIN),
            end: word(END),
            unknown: word(UNKNOWN),
            layout,
            bytes,
        })
    }

    /// The model as a file holds it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Words in the longest n-grams.
    #[must_use]
    pub fn order(&self) -> usize {
        self.layout.counts().len()
    }

    /// Number of n-grams of each order, single words first.
    #[must_use]
    pub fn counts(&self) -> &[usize] {
        self.layout.counts()
    }

    /// The id of a word; `None` if the model does not know it. Capitals matter.
    #[must_use]
    pub fn word(&self, word: &str) -> Option<WordId> {
        self.hashed(WordHash::of(word))
    }

    /// The id of a word that was hashed piece by piece.
    pub(crate) fn hashed(&self, word: WordHash) -> Option<WordId> {
        self.layout.word(&self.bytes, word)
    }

    /// What letters the words are written with.
    pub(crate) fn letters(&self) -> Letters {
        self.layout.letters()
    }

    /// The id of `</s>`, the end of a sentence, if the model has one.
    #[must_use]
    pub fn end(&self) -> Option<WordId> {
        self.end
    }

    /// What goes before the first word of a sentence: `<s>`, if the model has one.
    #[must_use]
    pub fn begin(&self) -> History {
        let nothing = History::default();
        self.begin
            .map_or(nothing, |begin| nothing.then(begin, self.order() - 1))
    }

    /// Log10 of the probability of a word after `history`, and the history that ends with it.
    #[must_use]
    pub fn score(&self, history: History, word: WordId) -> (f32, History) {
        let next = history.then(word, self.order() - 1);
        let mut backed_off = 0.0;
        for start in 0..=history.words().len() {
            // A history that was never seen has nothing to back off from.
            let Some(context) = self.find(&history.words()[start..]) else {
                continue;
            };
            if let Some(probability) = self.layout.probability(&self.bytes, context, word) {
                return (backed_off + probability, next);
            }
            backed_off += self.layout.back_off(&self.bytes, context);
        }
        // Only an id of another model comes here.
        (backed_off + format::LOWEST, next)
    }

    /// The same for a word that the model does not know: what it says of `<unk>`, if it has that.
    #[must_use]
    pub fn score_unknown(&self, history: History) -> (Option<f32>, History) {
        match self.unknown {
            Some(unknown) => {
                let (log10, next) = self.score(history, unknown);
                (Some(log10), next)
            }
            None => (None, History::default()),
        }
    }

    /// Scores a sentence from `<s>` to `</s>`, whose words stand between white space.
    #[must_use]
    pub fn sentence(&self, sentence: &str) -> SentenceScore {
        let mut history = self.begin();
        let mut score = SentenceScore::default();
        for word in sentence.split_whitespace() {
            score.words += 1;
            if let Some(word) = self.word(word) {
                let (log10, next) = self.score(history, word);
                (score.log10, history) = (score.log10 + f64::from(log10), next);
            } else {
                let (log10, next) = self.score_unknown(history);
                let log10 = f64::from(log10.unwrap_or(0.0));
                score.unknown += 1;
                score.unknown_log10 += log10;
                (score.log10, history) = (score.log10 + log10, next);
            }
        }
        if let Some(end) = self.end {
            score.log10 += f64::from(self.score(history, end).0);
        }
        score
    }

    /// The n-gram that has these words; the root of all has none.
    fn find(&self, words: &[WordId]) -> Option<format::Ngram> {
        let root = format::Ngram::ROOT;
        words.iter().try_fold(root, |ngram, &word| {
            self.layout.child(&self.bytes, ngram, word)
        })
    }
}

const BEGIN: &str = "<s>";
const END: &str = "</s>";
const UNKNOWN: &str = "<unk>";

/// FNV-1a over the bytes of a word (Fowler, Noll, Vo), piece by piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WordHash(u64);

impl Default for WordHash {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl WordHash {
    pub(crate) const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325);

    fn of(word: &str) -> Self {
        Self::EMPTY.then(word.as_bytes())
    }

    #[must_use]
    pub(crate) fn then(self, bytes: &[u8]) -> Self {
        let hash = bytes.iter().fold(self.0, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_fnv_1a() {
        // From the draft that defines it (draft-eastlake-fnv, appendix C).
        assert_eq!(WordHash::of("").0, 0xcbf2_9ce4_8422_2325);
        assert_eq!(WordHash::of("a").0, 0xaf63_dc4c_8601_ec8c);
        assert_eq!(WordHash::of("foobar").0, 0x8594_4171_f739_67e8);
        assert_eq!(WordHash::of("foo").then(b"bar"), WordHash::of("foobar"));
    }

    #[test]
    fn a_history_keeps_the_last_words() {
        let after = |words: &[WordId], most| {
            let history = words.iter().fold(History::default(), |history, &word| {
                history.then(word, most)
            });
            history.words().to_vec()
        };
        assert_eq!(after(&[1, 2, 3], 4), [1, 2, 3]);
        assert_eq!(after(&[1, 2, 3, 4, 5, 6], 4), [3, 4, 5, 6]);
        assert_eq!(after(&[1, 2, 3], 2), [2, 3]);
        assert_eq!(after(&[1, 2], 1), [2]);
        assert_eq!(after(&[1, 2], 0), [0; 0]);
    }
}
