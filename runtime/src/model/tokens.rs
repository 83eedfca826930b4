use std::path::Path;

use super::PackageError;

/// Index of a token in the model's output, `0..V`.
pub type TokenId = usize;

/// The mark that opens a token which begins a word (U+2581, as in SentencePiece).
pub const WORD_START: char = '\u{2581}';

/// The token inventory of a model: `tokens.txt`, one `symbol id` per line.
///
/// Ids run from 0 without holes, in any order of lines; exactly one symbol is the CTC blank, which
/// holds the last id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    symbols: Vec<Box<str>>,
}

/// The spellings of the CTC blank that exporters use.
const BLANK_SYMBOLS: [&str; 3] = ["<blk>", "<blank>", "<eps>"];

impl Tokens {
    /// Parses the text of a `tokens.txt`; `path` is only named in errors.
    ///
    /// # Errors
    /// [`PackageError::Token`] with the line for a line that is not `symbol id`, an id given twice,
    /// a symbol with control characters, a hole in the ids, or a blank that is absent, doubled or not last.
    pub fn parse(text: &str, path: &Path) -> Result<Self, PackageError> {
        let error = |line: usize, reason: String| PackageError::Token {
            path: path.to_owned(),
            line,
            reason,
        };
        let lines = || {
            text.lines()
                .enumerate()
                .filter(|(_, line)| !line.is_empty())
        };
        let count = lines().count();
        // As many slots as lines, and no slot taken twice: no id can be missing.
        let mut slots: Vec<Option<Box<str>>> = vec![None; count];
        let mut blank = None;
        for (index, line) in lines() {
            let number = index + 1;
            // The symbol itself may be a space, so the id is what follows the last one.
            let Some((symbol, id)) = line.rsplit_once([' ', '\t']) else {
                return Err(error(
                    number,
                    format!("expected \"symbol id\", found {line:?}"),
                ));
            };
            let id: usize = id.parse().map_err(|_| {
                error(
                    number,
                    format!("expected a whole number as the id, found {id:?}"),
                )
            })?;
            if symbol.is_empty() {
                return Err(error(number, "the symbol is empty".to_owned()));
            }
            // It would go on to a terminal, or break the lines of subtitles.
            if symbol
                .contains(|letter: char| letter.is_control() || "\u{2028}\u{2029}".contains(letter))
            {
                return Err(error(
                    number,
                    format!("the symbol {symbol:?} has a control character"),
                ));
            }
            let Some(slot) = slots.get_mut(id) else {
                return Err(error(
                    number,
                    format!(
                        "id {id} leaves a hole: the file has {count} tokens, so ids end at {}",
                        count - 1
                    ),
                ));
            };
            if let Some(other) = slot {
                return Err(error(
                    number,
                    format!("id {id} is given twice, to {other:?} and to {symbol:?}"),
                ));
            }
            if BLANK_SYMBOLS.contains(&symbol)
                && let Some(first) = blank.replace((id, number))
            {
                return Err(error(
                    number,
                    format!("a second blank; the first is on line {}", first.1),
                ));
            }
            *slot = Some(symbol.into());
        }
        let Some((blank, line)) = blank else {
            return Err(error(
                text.lines().count().max(1),
                format!("no blank; expected a line \"<blk> {count}\""),
            ));
        };
        if blank + 1 != count {
            return Err(error(
                line,
                format!(
                    "the blank has id {blank}, expected the last id, {}",
                    count - 1
                ),
            ));
        }
        Ok(Self {
            symbols: slots.into_iter().flatten().collect(),
        })
    }

    /// Number of tokens V, the blank included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.symbols.len()
    }

    /// Always false: a valid inventory has at least the blank.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    /// Id of the CTC blank: the last.
    #[must_use]
    pub fn blank(&self) -> TokenId {
        self.symbols.len() - 1
    }

    /// The symbol of a token, with its [`WORD_START`] mark; empty for an id that does not exist.
    #[must_use]
    pub fn symbol(&self, id: TokenId) -> &str {
        self.symbols.get(id).map_or("", |s| s)
    }

    /// The symbols of the tokens that spell something, which a name in brackets as `<unk>` does not.
    pub(crate) fn spelling(&self) -> impl Iterator<Item = &str> {
        let is_name = |symbol: &str| {
            symbol.starts_with('<') && symbol.ends_with('>')
                || symbol.starts_with('[') && symbol.ends_with(']')
        };
        let symbols = self.symbols[..self.blank()].iter().map(|symbol| &**symbol);
        symbols.filter(move |symbol| symbol.chars().count() == 1 || !is_name(symbol))
    }

    /// Whether the token begins a new word.
    #[must_use]
    pub fn starts_word(&self, id: TokenId) -> bool {
        self.symbol(id).starts_with(WORD_START)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Tokens, String> {
        Tokens::parse(text, Path::new("tokens.txt")).map_err(|e| e.to_string())
    }

    #[test]
    fn symbols_keep_their_ids_whatever_the_order_of_lines() {
        let tokens = parse("b 1\n▁a 0\n<blk> 2\n").unwrap();
        assert_eq!(tokens.len(), 3);
        assert_eq!(tokens.symbol(0), "▁a");
        assert_eq!(tokens.blank(), 2);
        assert!(tokens.starts_word(0) && !tokens.starts_word(1) && !tokens.starts_word(99));
    }

    #[test]
    fn names_in_brackets_spell_nothing() {
        let tokens = parse("▁A 0\nB 1\n<unk> 2\n[UNK] 3\n< 4\n<blk> 5\n").unwrap();
        assert_eq!(tokens.spelling().collect::<Vec<_>>(), ["▁A", "B", "<"]);
    }

    #[test]
    fn every_defect_names_its_line() {
        assert_eq!(
            parse("a 0\nb 2\n<blk> 3\n").unwrap_err(),
            "tokens.txt:3: id 3 leaves a hole: the file has 3 tokens, so ids end at 2"
        );
        assert_eq!(
            parse("a 0\nb 0\n<blk> 2\n").unwrap_err(),
            "tokens.txt:2: id 0 is given twice, to \"a\" and to \"b\""
        );
        assert_eq!(
            parse("a 0\nb 1\n").unwrap_err(),
            "tokens.txt:2: no blank; expected a line \"<blk> 2\""
        );
        assert_eq!(
            parse("<blk> 0\nb 1\n").unwrap_err(),
            "tokens.txt:1: the blank has id 0, expected the last id, 1"
        );
        assert_eq!(
            parse("a 0\nb\n<blk> 2\n").unwrap_err(),
            "tokens.txt:2: expected \"symbol id\", found \"b\""
        );
        assert_eq!(
            parse("a x\n<blk> 1\n").unwrap_err(),
            "tokens.txt:1: expected a whole number as the id, found \"x\""
        );
        assert_eq!(
            parse("a 0\n\u{1b}[2J 1\n<blk> 2\n").unwrap_err(),
            "tokens.txt:2: the symbol \"\\u{1b}[2J\" has a control character"
        );
        assert_eq!(
            parse("").unwrap_err(),
            "tokens.txt:1: no blank; expected a line \"<blk> 0\""
        );
        assert_eq!(
            parse("a 0\n\n<blk> 2\n").unwrap_err(),
            "tokens.txt:3: id 2 leaves a hole: the file has 2 tokens, so ids end at 1"
        );
        assert_eq!(
            parse("<blk> 0\n<blk> 1\n").unwrap_err(),
            "tokens.txt:2: a second blank; the first is on line 1"
        );
    }
}
