//! Transcripts to tokens and back.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::Path;

use rand::RngExt;
use rand::rngs::StdRng;
use sori::model::{Tokens, WORD_START};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::unigram::{Unigram, UnigramTrainer};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{ModelWrapper, Trainer};

use super::error::DataError;
use super::sentencepiece;
use super::text::LETTERS;
use crate::whole_file;

const TOKENS: &str = "tokens.txt";
const TOKENIZER: &str = "tokenizer.json";
/// What models that have one call the piece for letters that no other has.
const UNKNOWN: &str = "<unk>";
/// The CTC blank in `tokens.txt`.
const BLANK: &str = "<blk>";

/// Most bytes of each of a tokenizer's files.
const FILE_LIMIT: u64 = 64 << 20;

/// How pieces are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TokenizerKind {
    /// The pieces under which the text is most likely (Kudo 2018, "Subword regularization").
    #[default]
    Unigram,
    /// The most frequent pair of pieces becomes a piece, again and again (Sennrich et al. 2016,
    /// "Neural machine translation of rare words with subword units").
    Bpe,
}

/// Splits transcripts into pieces of words, the tokens of a CTC model.
///
/// A piece that begins a word starts with `▁`. Token ids are the pieces' order; the blank follows
/// them and is no piece. All of [`LETTERS`] are pieces of their own, so that every normalised text
/// has a spelling.
///
/// ```
/// use sori_train::data::{Tokenizer, TokenizerKind};
///
/// let text = ["the cat sat on the mat", "the hat that the cat had"];
/// let tokenizer = Tokenizer::train(text, TokenizerKind::Bpe, 32)?;
/// let tokens = tokenizer.encode("that mat")?;
/// assert_eq!(tokenizer.decode(&tokens), "that mat");
/// # Ok::<(), sori_train::data::DataError>(())
/// ```
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// By id.
    pieces: Vec<String>,
    /// The piece for letters that no other has, in models that have one.
    unknown: Option<i64>,
    unigrams: Option<Unigrams>,
}

/// A unigram model's pieces.
struct Unigrams {
    /// Ids and log-probabilities.
    pieces: HashMap<String, (i64, f64)>,
    /// Letters of the longest piece.
    longest: usize,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("pieces", &self.pieces.len())
            .field("can_sample", &self.can_sample())
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Finds `pieces` pieces in normalised texts. The same texts give the same pieces on every
    /// machine.
    ///
    /// # Errors
    /// [`DataError::TooFewPieces`] if the texts have less variety than that.
    pub fn train<'a>(
        texts: impl IntoIterator<Item = &'a str>,
        kind: TokenizerKind,
        pieces: usize,
    ) -> Result<Self, DataError> {
        // In order, so that nothing depends on a hash map's.
        let mut counts = std::collections::BTreeMap::<String, u32>::new();
        for word in texts.into_iter().flat_map(str::split_whitespace) {
            let count = counts.entry(format!("{WORD_START}{word}")).or_default();
            *count = count.saturating_add(1);
        }
        let letters: Vec<char> = LETTERS.chars().chain([WORD_START]).collect();
        let too_few = |found| DataError::TooFewPieces {
            expected: pieces,
            found,
        };
        if pieces < letters.len() {
            return Err(DataError::Config {
                field: "pieces",
                expected: format!("at least {}, the letters and the word start", letters.len()),
                found: pieces.to_string(),
            });
        }
        let words = counts.into_iter().collect();
        // The order in which threads add up numbers would change the last digits of their sum.
        let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        let model = one_thread
            .map_err(|error| training(&error))?
            .install(|| match kind {
                TokenizerKind::Unigram => unigram(words, &letters, pieces),
                TokenizerKind::Bpe => bpe(&words, &letters, pieces),
            })?;

        let tokenizer = Self::of(model);
        match tokenizer.pieces.len() {
            found if found == pieces => Ok(tokenizer),
            found => Err(too_few(found)),
        }
    }

    /// The tokens of a `SentencePiece` unigram model, as NeMo's teachers have, by their ids. `bytes` are those of
    /// its `tokenizer.model`, which `path` names in errors.
    ///
    /// # Errors
    /// [`DataError::TokenizerFile`]: it is no such model, or of another kind.
    pub fn from_sentencepiece(bytes: &[u8], path: &Path) -> Result<Self, DataError> {
        let wrong = |reason| DataError::TokenizerFile {
            path: path.into(),
            reason,
        };
        let found = sentencepiece::read(bytes).map_err(wrong)?;
        let model = Unigram::from(found.pieces, found.unknown, false)
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Self::of(model.into()))
    }

    fn of(model: ModelWrapper) -> Self {
        let mut inner = tokenizers::Tokenizer::new(model);
        let words = Metaspace::new(WORD_START, PrependScheme::Always, true);
        inner.with_pre_tokenizer(Some(words.clone()));
        inner.with_decoder(Some(words));
        Self::new(inner)
    }

    fn new(inner: tokenizers::Tokenizer) -> Self {
        let pieces: Vec<_> = (0..inner.get_vocab_size(true) as u32)
            .map(|id| inner.id_to_token(id).unwrap_or_default())
            .collect();
        let unknown = pieces.iter().position(|piece| piece == UNKNOWN);
        let unigrams = match inner.get_model() {
            ModelWrapper::Unigram(model) => Some(Unigrams {
                pieces: model
                    .iter()
                    .zip(0..)
                    .map(|((piece, score), id)| (piece.clone(), (id, *score)))
                    .collect(),
                longest: model
                    .iter()
                    .map(|(piece, _)| piece.chars().count())
                    .max()
                    .unwrap_or(0),
            }),
            _ => None,
        };
        Self {
            inner,
            pieces,
            unknown: unknown.map(|id| id as i64),
            unigrams,
        }
    }

    /// Writes `tokenizer.json` into a folder, which is made if need be, and then `tokens.txt`, which goes into the
    /// model package: where that one is, both are whole.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub fn save(&self, folder: &Path) -> Result<(), DataError> {
        let mut tokens = String::new();
        for (id, piece) in self
            .pieces
            .iter()
            .map(String::as_str)
            .chain([BLANK])
            .enumerate()
        {
            let _ = writeln!(tokens, "{piece} {id}");
        }
        let json = self
            .inner
            .to_string(true)
            .map_err(|error| training(&error))?;
        for (name, contents) in [(TOKENIZER, json), (TOKENS, tokens)] {
            let path = folder.join(name);
            whole_file::write(&path, |part| fs::write(part, contents))
                .map_err(|reason| DataError::Io { path, reason })?;
        }
        Ok(())
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`DataError::Io`] and [`DataError::TokenizerFile`].
    pub fn load(folder: &Path) -> Result<Self, DataError> {
        let (tokens, json) = (folder.join(TOKENS), folder.join(TOKENIZER));
        let wrong = |path: &Path, reason: String| DataError::TokenizerFile {
            path: path.into(),
            reason,
        };
        let inner = tokenizers::Tokenizer::from_bytes(read_bounded(&json)?)
            .map_err(|error| wrong(&json, format!("no tokenizer: {error}")))?;
        let tokenizer = Self::new(inner);
        let text = read_bounded(&tokens)?;
        let listed = Tokens::parse(&String::from_utf8_lossy(&text), &tokens)?;
        let (expected, found) = (listed.len() - 1, tokenizer.pieces.len());
        if expected != found {
            let reason = format!("{found} pieces, but {TOKENS} beside it lists {expected}");
            return Err(wrong(&json, reason));
        }
        for (id, piece) in tokenizer.pieces.iter().enumerate() {
            let expected = listed.symbol(id);
            if expected != piece {
                let reason = format!("piece {id} is {piece:?}, but {TOKENS} lists {expected:?}");
                return Err(wrong(&json, reason));
            }
        }
        Ok(tokenizer)
    }

    /// The pieces, by token id.
    #[must_use]
    pub fn pieces(&self) -> &[String] {
        &self.pieces
    }

    /// The blank's id, which is also the number of pieces.
    #[must_use]
    pub fn blank(&self) -> i64 {
        self.pieces.len() as i64
    }

    /// Splits a normalised text into its best pieces.
    ///
    /// # Errors
    /// [`DataError::Unspellable`] if there are letters in it that no piece has.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>, DataError> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let unspellable = || DataError::Unspellable { text: text.into() };
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|_| unspellable())?;
        let tokens: Vec<_> = encoding.get_ids().iter().map(|&id| i64::from(id)).collect();
        // Byte-pair encoding silently drops letters that it does not know.
        let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).count();
        let unknown = tokens.iter().any(|&token| Some(token) == self.unknown);
        if unknown || letters(&self.decode(&tokens)) != letters(text) {
            return Err(unspellable());
        }
        Ok(tokens)
    }

    /// Whether [`sample`](Self::sample) can be used: for unigrams.
    #[must_use]
    pub fn can_sample(&self) -> bool {
        self.unigrams.is_some()
    }

    /// Splits a normalised text in a random way, with a probability proportional to the pieces' own
    /// to the power of `alpha`: 0 for any, large for the best (Kudo 2018). A regulariser.
    ///
    /// # Errors
    /// [`DataError::Unspellable`], also if the tokenizer is not of unigrams.
    pub fn sample(&self, text: &str, alpha: f64, rng: &mut StdRng) -> Result<Vec<i64>, DataError> {
        let mut tokens = Vec::new();
        for word in text.split_whitespace() {
            let unigrams = self.unigrams.as_ref();
            let pieces = unigrams.and_then(|unigrams| unigrams.sample(word, alpha, rng));
            tokens.extend(pieces.ok_or_else(|| DataError::Unspellable { text: word.into() })?);
        }
        Ok(tokens)
    }

    /// The text that tokens spell. What is no token spells nothing.
    #[must_use]
    pub fn decode(&self, tokens: &[i64]) -> String {
        let pieces = tokens
            .iter()
            .filter_map(|&id| self.pieces.get(usize::try_from(id).ok()?));
        let text: String = pieces.map(String::as_str).collect();
        let words = text.split(WORD_START).filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join(" ")
    }
}

fn unigram(
    mut words: Vec<(String, u32)>,
    letters: &[char],
    pieces: usize,
) -> Result<ModelWrapper, DataError> {
    // A letter that stands alone somewhere is never dropped.
    words.extend(letters.iter().map(|letter| (letter.to_string(), 1)));
    let trainer = UnigramTrainer::builder()
        .show_progress(false)
        .vocab_size(pieces as u32)
        .build()
        .map_err(|error| training(&error))?;
    let mut model = Unigram::default();
    trainer
        .do_train(words, &mut model)
        .map_err(|error| training(&error))?;
    // Pieces of equal probability come in any order.
    let mut pieces: Vec<_> = model.iter().cloned().collect();
    pieces.sort_by(|(a, x), (b, y)| y.total_cmp(x).then_with(|| a.cmp(b)));
    let model = Unigram::from(pieces, None, false).map_err(|error| training(&error))?;
    Ok(model.into())
}

fn bpe(
    words: &[(String, u32)],
    letters: &[char],
    pieces: usize,
) -> Result<ModelWrapper, DataError> {
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(pieces)
        .initial_alphabet(letters.iter().copied().collect())
        .build();
    let occurrences = words
        .iter()
        .flat_map(|(word, count)| std::iter::repeat_n(word.as_str(), *count as usize));
    trainer
        .feed(occurrences, |word| Ok(vec![word.to_owned()]))
        .map_err(|error| training(&error))?;
    let mut model = BPE::default();
    trainer
        .train(&mut model)
        .map_err(|error| training(&error))?;
    Ok(model.into())
}

fn training(error: &dyn std::fmt::Display) -> DataError {
    DataError::Training {
        reason: error.to_string(),
    }
}

impl Unigrams {
    /// Draws a split of one word: the weights of all splits are summed from the start, then pieces
    /// are drawn from the end.
    fn sample(&self, word: &str, alpha: f64, rng: &mut StdRng) -> Option<Vec<i64>> {
        let word = format!("{WORD_START}{word}");
        let starts = word.char_indices().map(|(at, _)| at);
        let bounds: Vec<usize> = starts.chain([word.len()]).collect();
        // By end: the logarithm of the summed weight of all splits up to there, and the last pieces
        // that they can have, each as (start, id, the logarithm of its part of that weight).
        let mut totals = vec![f64::NEG_INFINITY; bounds.len()];
        totals[0] = 0.0;
        let mut last_pieces: Vec<Vec<(usize, i64, f64)>> = vec![Vec::new(); bounds.len()];
        for end in 1..bounds.len() {
            for start in end.saturating_sub(self.longest)..end {
                let piece = self.pieces.get(&word[bounds[start]..bounds[end]]);
                if let Some(&(id, score)) = piece
                    && totals[start].is_finite()
                {
                    last_pieces[end].push((start, id, totals[start] + alpha * score));
                }
            }
            let weights = || last_pieces[end].iter().map(|&(_, _, weight)| weight);
            let highest = weights().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = weights().map(|weight| (weight - highest).exp()).sum();
            totals[end] = highest + sum.ln();
        }

        let mut tokens = Vec::new();
        let mut end = bounds.len() - 1;
        while end > 0 {
            let mut left = rng.random::<f64>();
            let pieces = &last_pieces[end];
            let drawn = pieces.iter().find(|&&(_, _, weight)| {
                left -= (weight - totals[end]).exp();
                left < 0.0
            });
            // Rounding may leave a little over.
            let &(start, id, _) = drawn.or(pieces.last())?;
            tokens.push(id);
            end = start;
        }
        tokens.reverse();
        Some(tokens)
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, DataError> {
    let read = || {
        let mut bytes = Vec::new();
        fs::File::open(path)?
            .take(FILE_LIMIT)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|reason| DataError::Io {
        path: path.into(),
        reason,
    })
}
