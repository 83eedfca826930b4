//! The spelling of transcripts: what may stand in them, and how other text becomes so.
//!
//! Training and evaluation share these rules, so that a model is never marked wrong for a capital
//! letter or a comma.

/// The characters of a normalised text besides the space between words.
pub const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz'";

/// A text holds a character that has no spelling in [`LETTERS`]: a digit, say, which could be read
/// in several ways. Write it out in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{character:?} at character {position} cannot be spelled in a-z and '; write it in words")]
pub struct UnknownCharacter {
    /// The first such character.
    pub character: char,
    /// Its place in the text, from 1.
    pub position: usize,
}

/// Spells a text in lower case, `[a-z']` and single spaces.
///
/// Typographic apostrophes become `'`. Punctuation, dashes and hyphens part words; an apostrophe
/// stays, wherever in its word it stands.
///
/// ```
/// use sori_train::data::text::normalise;
///
/// assert_eq!(normalise("“Well-known”, isn’t it?")?, "well known isn't it");
/// # Ok::<(), sori_train::data::text::UnknownCharacter>(())
/// ```
///
/// # Errors
/// If a character is neither a letter nor punctuation.
pub fn normalise(text: &str) -> Result<String, UnknownCharacter> {
    let mut spelled = String::with_capacity(text.len());
    for (index, character) in text.chars().enumerate() {
        match character {
            'a'..='z' | '\'' => spelled.push(character),
            'A'..='Z' => spelled.push(character.to_ascii_lowercase()),
            '‘' | '’' => spelled.push('\''),
            '.' | ',' | ';' | ':' | '!' | '?' | '…' | '"' | '“' | '”' | '(' | ')' | '-' | '‐'
            | '‑' | '–' | '—' => spelled.push(' '),
            space if space.is_whitespace() => spelled.push(' '),
            character => {
                return Err(UnknownCharacter {
                    character,
                    position: index + 1,
                });
            }
        }
    }
    let words = spelled
        .split_whitespace()
        .filter(|word| word.contains(|letter| letter != '\''));
    Ok(words.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn spelling_rules() {
        let same = |from: &str, to: &str| assert_eq!(normalise(from).unwrap(), to);
        same("HE'D GO", "he'd go");
        same("  two\t words\n", "two words");
        same("rock ' n ' roll, 'tis", "rock n roll 'tis");
        same(
            "well\u{2011}known\u{2014}so \u{2018}they\u{2019} say",
            "well known so 'they' say",
        );
        same("...", "");
    }

    #[test]
    fn a_character_without_a_spelling_is_named() {
        let error = normalise("ab 3").unwrap_err();
        assert_eq!((error.character, error.position), ('3', 4));
        assert!(normalise("café").is_err());
        assert!(normalise("[noise]").is_err());
    }
}
