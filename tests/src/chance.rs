//! Chance that comes out the same on every machine and in every release of every library.

use std::ops::Range;

/// `SplitMix64` (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
///
/// ```
/// use sori_tests::chance::Chance;
///
/// let mut chance = Chance::new(1);
/// assert!((3..7).contains(&chance.within(3..7)));
/// assert_eq!(Chance::new(1).next(), Chance::new(1).next());
/// ```
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Another seed, another sequence.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number in `range`.
    ///
    /// # Panics
    ///
    /// If `range` is empty.
    pub fn within(&mut self, range: Range<usize>) -> usize {
        assert!(!range.is_empty(), "{range:?} has no number");
        range.start + (self.next() % range.len() as u64) as usize
    }

    /// One of `choices`.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn among<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.within(0..choices.len())]
    }

    /// Yes, once in `times` on average.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.within(0..times) == 0
    }
}
