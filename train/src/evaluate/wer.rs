//! Word and character error rate.

use std::iter::Sum;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Errors of hypotheses against references, in words or in characters: those of the alignment with
/// the fewest (Levenshtein 1966).
///
/// Counts of several utterances add up to the counts of the set, whose rate is thereby weighted by
/// the length of the references.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ErrorCounts {
    /// Words or characters of the references.
    pub reference: u64,
    /// Those that another one was heard for.
    pub substitutions: u64,
    /// Those that were not heard.
    pub deletions: u64,
    /// Words or characters that were heard and are not in the references.
    pub insertions: u64,
}

/// Counts the errors in words, which spaces part.
///
/// ```
/// use sori_train::evaluate::word_errors;
///
/// let errors = word_errors("the cat sat", "a cat sat down");
/// assert_eq!((errors.substitutions, errors.deletions, errors.insertions), (1, 0, 1));
/// assert_eq!(errors.rate(), Some(2.0 / 3.0));
/// ```
#[must_use]
pub fn word_errors(reference: &str, hypothesis: &str) -> ErrorCounts {
    let words = |text| str::split_whitespace(text).collect::<Vec<_>>();
    ErrorCounts::of(&words(reference), &words(hypothesis))
}

/// Which words of the hypothesis are right, in an alignment with the fewest errors.
///
/// ```
/// use sori_train::evaluate::right_words;
///
/// assert_eq!(right_words("the cat sat", "a cat sat down"), [false, true, true, false]);
/// ```
#[must_use]
pub fn right_words(reference: &str, hypothesis: &str) -> Vec<bool> {
    let words = |text| str::split_whitespace(text).collect::<Vec<_>>();
    let (said, heard) = (words(reference), words(hypothesis));
    let width = said.len() + 1;
    // `errors[h * width + s]`: of the words from `h` on that were heard, against those from `s` on.
    let mut errors = vec![0_usize; (heard.len() + 1) * width];
    for h in (0..=heard.len()).rev() {
        for s in (0..=said.len()).rev() {
            let (heard_left, said_left) = (heard.len() - h, said.len() - s);
            errors[h * width + s] = if heard_left == 0 || said_left == 0 {
                heard_left + said_left
            } else if heard[h] == said[s] {
                errors[(h + 1) * width + s + 1]
            } else {
                let [next, inserted, deleted] = [(1, 1), (1, 0), (0, 1)]
                    .map(|(more, other)| errors[(h + more) * width + s + other]);
                1 + next.min(inserted).min(deleted)
            };
        }
    }
    let mut right = vec![false; heard.len()];
    let (mut h, mut s) = (0, 0);
    while h < heard.len() && s < said.len() {
        if heard[h] == said[s] {
            right[h] = true;
            (h, s) = (h + 1, s + 1);
            continue;
        }
        let left = errors[h * width + s] - 1;
        (h, s) = [(h + 1, s + 1), (h + 1, s), (h, s + 1)]
            .into_iter()
            .find(|(h, s)| errors[h * width + s] == left)
            .unwrap_or((h + 1, s + 1));
    }
    right
}

/// Counts the errors in characters, the spaces between words included.
#[must_use]
pub fn character_errors(reference: &str, hypothesis: &str) -> ErrorCounts {
    let characters = |text: &str| text.chars().collect::<Vec<_>>();
    ErrorCounts::of(&characters(reference), &characters(hypothesis))
}

impl ErrorCounts {
    /// Errors in all.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.substitutions + self.deletions + self.insertions
    }

    /// Errors for each word or character of the references, `(S + D + I) / N`; may be above 1. `None`
    /// if the references are empty.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        (self.reference > 0).then(|| self.errors() as f64 / self.reference as f64)
    }

    /// Of alignments with equally few errors, the one is counted that the library behind jiwer finds, so that
    /// substitutions, deletions and insertions are those of jiwer.
    fn of<T: PartialEq>(reference: &[T], hypothesis: &[T]) -> Self {
        let (said, heard) = differing_part(reference, hypothesis);
        // `row[i]`: errors of what was heard so far against the first `i` that were said. Memory is
        // for two rows, as texts may be long.
        let mut row: Vec<Edits> = (0..=said.len()).map(|i| Edits([0, i as u64, 0])).collect();
        let mut next = row.clone();
        for heard in heard {
            next[0] = row[0].and(Edits::INSERTION);
            for (i, said) in said.iter().enumerate() {
                let deletion = next[i].and(Edits::DELETION);
                let insertion = row[i + 1].and(Edits::INSERTION);
                let substitution = if said == heard {
                    row[i]
                } else {
                    row[i].and(Edits::SUBSTITUTION)
                };
                let fewest = deletion
                    .total()
                    .min(insertion.total())
                    .min(substitution.total());
                next[i + 1] = if deletion.total() == fewest {
                    deletion
                } else if row[i + 1].total() < row[i].total() {
                    insertion
                } else {
                    substitution
                };
            }
            std::mem::swap(&mut row, &mut next);
        }
        let Edits([substitutions, deletions, insertions]) = row[said.len()];
        Self {
            reference: reference.len() as u64,
            substitutions,
            deletions,
            insertions,
        }
    }
}

impl AddAssign for ErrorCounts {
    fn add_assign(&mut self, other: Self) {
        self.reference += other.reference;
        self.substitutions += other.substitutions;
        self.deletions += other.deletions;
        self.insertions += other.insertions;
    }
}

impl Sum for ErrorCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |mut sum, counts| {
            sum += counts;
            sum
        })
    }
}

/// Substitutions, deletions and insertions.
#[derive(Clone, Copy)]
struct Edits([u64; 3]);

impl Edits {
    const SUBSTITUTION: Self = Self([1, 0, 0]);
    const DELETION: Self = Self([0, 1, 0]);
    const INSERTION: Self = Self([0, 0, 1]);

    fn and(self, other: Self) -> Self {
        let (Self([s, d, i]), Self([t, e, j])) = (self, other);
        Self([s + t, d + e, i + j])
    }

    fn total(self) -> u64 {
        self.0.iter().sum()
    }
}

/// What lies between the common beginning and the common end.
fn differing_part<'a, T: PartialEq>(a: &'a [T], b: &'a [T]) -> (&'a [T], &'a [T]) {
    let start = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[start..], &b[start..]);
    let end = a
        .iter()
        .rev()
        .zip(b.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    (&a[..a.len() - end], &b[..b.len() - end])
}
