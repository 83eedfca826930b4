//! Attention with relative positions, as plain loops that a compiler turns into vectors.
//!
//! A vector's lanes are queries: eight of them look at a key at a time, so nothing is ever added up across a vector, and what is
//! looked at is read once.

#[cfg(target_arch = "x86_64")]
use crate::engine::tract::operators::processor::Fma;

/// Queries that are computed at a time.
const LANES: usize = 8;
type Lanes = [f32; LANES];

/// Sizes of one stream's attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) heads: usize,
    /// Frames of the chunk.
    pub(super) queries: usize,
    /// Frames of the past.
    pub(super) past: usize,
    /// Of a head.
    pub(super) width: usize,
}

impl Sizes {
    pub(super) fn keys(self) -> usize {
        self.past + self.queries
    }

    /// From the last query to the first key, down to the first query and the last key.
    pub(super) fn distances(self) -> usize {
        self.keys() + self.queries - 1
    }
}

/// What one stream's attention reads. Row-major, each.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    /// (heads, queries, width), as are the two that follow.
    pub(super) query: &'a [f32],
    pub(super) new_keys: &'a [f32],
    pub(super) new_values: &'a [f32],
    /// (heads, past, width), as is what follows.
    pub(super) past_keys: &'a [f32],
    pub(super) past_values: &'a [f32],
    /// What is added to the scores of each key.
    pub(super) mask: &'a [f32],
    /// (heads, distances, width).
    pub(super) positions: &'a [f32],
    /// What turns a query by content into one by position: (heads, width).
    pub(super) difference: &'a [f32],
}

/// What is computed on the way, for some queries of one head: kept from one stream's attention to the next.
#[derive(Default)]
pub(super) struct Room {
    /// For each number of a query.
    by_content: Vec<Lanes>,
    by_position: Vec<Lanes>,
    /// For each distance.
    distances: Vec<Lanes>,
    /// For each key.
    scores: Vec<Lanes>,
}

/// Writes what each query finds, (queries, heads * width), to `out`.
pub(super) fn attend(sizes: Sizes, inputs: Inputs<'_>, room: &mut Room, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(fma) = Fma::detect() {
        return with_fma(fma, sizes, inputs, room, out);
    }
    heads::<{ cfg!(target_arch = "aarch64") }>(sizes, inputs, room, out);
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "instructions that not every processor has")]
fn with_fma(_: Fma, sizes: Sizes, inputs: Inputs<'_>, room: &mut Room, out: &mut [f32]) {
    #[target_feature(enable = "avx2,fma")]
    fn compiled(sizes: Sizes, inputs: Inputs<'_>, room: &mut Room, out: &mut [f32]) {
        heads::<true>(sizes, inputs, room, out);
    }
    // SAFETY: an `Fma` is only had where the processor has it.
    unsafe { compiled(sizes, inputs, room, out) }
}

/// `FMA`: whether to multiply and add in one, which is a slow call where the processor cannot.
#[inline(always)]
fn heads<const FMA: bool>(sizes: Sizes, inputs: Inputs<'_>, room: &mut Room, out: &mut [f32]) {
    let Sizes {
        heads,
        queries,
        past,
        width,
    } = sizes;
    let Room {
        by_content,
        by_position,
        distances,
        scores,
    } = room;
    by_content.resize(width, [0.0; LANES]);
    by_position.resize(width, [0.0; LANES]);
    distances.resize(sizes.distances(), [0.0; LANES]);
    scores.resize(sizes.keys(), [0.0; LANES]);
    for head in 0..heads {
        let of_head = |rows: usize| head * rows * width..(head + 1) * rows * width;
        let (chunk, before) = (of_head(queries), of_head(past));
        let query = &inputs.query[chunk.clone()];
        let difference = &inputs.difference[of_head(1)];
        let places = &inputs.positions[of_head(sizes.distances())];
        for first in (0..queries).step_by(LANES) {
            let count = LANES.min(queries - first);
            for lane in 0..count {
                let query = &query[(first + lane) * width..][..width];
                for at in 0..width {
                    by_content[at][lane] = query[at];
                    by_position[at][lane] = query[at] + difference[at];
                }
            }
            products::<FMA>(places, by_position, distances);
            let (of_past, of_new) = scores.split_at_mut(past);
            products::<FMA>(&inputs.past_keys[before.clone()], by_content, of_past);
            products::<FMA>(&inputs.new_keys[chunk.clone()], by_content, of_new);
            // The keys' distances, as they stand side by side: the last query's begin with the first.
            let nearest = queries - first - count;
            for (key, (scores, mask)) in scores.iter_mut().zip(inputs.mask).enumerate() {
                for lane in 0..count {
                    scores[lane] += distances[nearest + count - 1 - lane + key][lane] + mask;
                }
            }
            softmax(scores);
            let values = [
                (&inputs.past_values[before.clone()], 0),
                (&inputs.new_values[chunk.clone()], past),
            ];
            for column in (0..width).step_by(LANES) {
                let mut sums = [[0.0; LANES]; LANES];
                let columns = LANES.min(width - column);
                for (values, start) in values {
                    let rows = values.chunks_exact(width).zip(&scores[start..]);
                    for (row, shares) in rows {
                        let values = eight(&row[column..]);
                        for lane in 0..LANES {
                            add_scaled::<FMA>(&mut sums[lane], shares[lane], &values);
                        }
                    }
                }
                for (lane, sums) in sums.iter().enumerate().take(count) {
                    let at = (first + lane) * heads * width + head * width + column;
                    out[at..at + columns].copy_from_slice(&sums[..columns]);
                }
            }
        }
    }
}

/// The first eight of a row's values, or what is there and zeros.
#[inline(always)]
fn eight(values: &[f32]) -> Lanes {
    if let Some(eight) = values.first_chunk() {
        return *eight;
    }
    let mut padded = [0.0; LANES];
    for (padded, value) in padded.iter_mut().zip(values) {
        *padded = *value;
    }
    padded
}

/// The products of rows (count, width) with queries, number by number.
#[inline(always)]
fn products<const FMA: bool>(rows: &[f32], queries: &[Lanes], out: &mut [Lanes]) {
    let width = queries.len();
    // Four rows at a time, so that none waits for its own last sum.
    let mut fours = rows.chunks_exact(4 * width);
    let (outs, left) = out.as_chunks_mut::<4>();
    for (rows, out) in fours.by_ref().zip(outs) {
        let mut sums = [[0.0; LANES]; 4];
        let (ab, cd) = rows.split_at(2 * width);
        let ((a, b), (c, d)) = (ab.split_at(width), cd.split_at(width));
        for ((((query, a), b), c), d) in queries.iter().zip(a).zip(b).zip(c).zip(d) {
            for (sums, number) in sums.iter_mut().zip([a, b, c, d]) {
                add_scaled::<FMA>(sums, *number, query);
            }
        }
        *out = sums;
    }
    for (row, out) in fours.remainder().chunks_exact(width).zip(left) {
        let mut sums = [0.0; LANES];
        for (number, query) in row.iter().zip(queries) {
            add_scaled::<FMA>(&mut sums, *number, query);
        }
        *out = sums;
    }
}

#[inline(always)]
fn add_scaled<const FMA: bool>(sums: &mut Lanes, factor: f32, values: &Lanes) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum = match FMA {
            true => factor.mul_add(*value, *sum),
            false => *sum + factor * value,
        };
    }
}

/// Turns each query's scores into shares of 1.
#[inline(always)]
fn softmax(scores: &mut [Lanes]) {
    let mut largest = [f32::NEG_INFINITY; LANES];
    for scores in scores.iter() {
        for (largest, &score) in largest.iter_mut().zip(scores) {
            *largest = if score > *largest { score } else { *largest };
        }
    }
    for scores in scores.iter_mut() {
        for (score, largest) in scores.iter_mut().zip(largest) {
            *score -= largest;
        }
    }
    for score in scores.as_flattened_mut() {
        *score = exp(*score);
    }
    let mut sums = [0.0; LANES];
    for scores in scores.iter() {
        for (sum, score) in sums.iter_mut().zip(scores) {
            *sum += score;
        }
    }
    let scales = sums.map(|sum| 1.0 / sum);
    for scores in scores {
        for (score, scale) in scores.iter_mut().zip(scales) {
            *score *= scale;
        }
    }
}

/// `e` to a power that is not above 0, within two units in the last place; 0 below -87. As Cephes' `expf` does it (Moshier,
/// netlib.org/cephes): two to the nearest whole power, times a polynomial of what is left.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Added and taken off again it leaves a whole number, which stands in the lowest bits meanwhile.
    const WHOLE: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let shifted = x * std::f32::consts::LOG2_E + WHOLE;
    let whole = shifted - WHOLE;
    let rest = x - whole * LN_2_HIGH - whole * LN_2_LOW;
    let mut sum = 1.987_569_1e-4;
    for term in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        5.0e-1,
    ] {
        sum = sum * rest + term;
    }
    let fraction = sum * rest * rest + rest + 1.0;
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if x < -87.0 { 0.0 } else { fraction * power }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tract::operators::sketch::noise;

    #[test]
    fn exp_is_that_of_the_library() {
        for step in 0..870_000 {
            let x = step as f32 * -1e-4;
            let (ours, theirs) = (exp(x), x.exp());
            assert!(
                (ours - theirs).abs() <= theirs * 2.5e-7,
                "{x}: {ours} {theirs}"
            );
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-10_000.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn shares_are_those_of_the_definition() {
        let value = |key: usize, lane: usize| ((key * 8 + lane) as f32 * 1.7).sin() * 9.0;
        for count in [1, 7, 143] {
            let scores = |key| std::array::from_fn(|lane| value(key, lane));
            let mut shares: Vec<Lanes> = (0..count).map(scores).collect();
            softmax(&mut shares);
            for lane in 0..LANES {
                let exp = |key| f64::from(value(key, lane)).exp();
                let all: f64 = (0..count).map(exp).sum();
                for (key, shares) in shares.iter().enumerate() {
                    let (found, expected) = (f64::from(shares[lane]), exp(key) / all);
                    assert!((found - expected).abs() < 1e-6, "{found} {expected}");
                }
            }
        }
    }

    /// Score by score, in doubles.
    fn expected(sizes: Sizes, of: Inputs<'_>, head: usize, query: usize) -> Vec<f64> {
        let Sizes { past, width, .. } = sizes;
        let row = |new: &[f32], before: &[f32], key: usize| -> Vec<f64> {
            let row = match key < past {
                true => &before[(head * past + key) * width..],
                false => &new[(head * sizes.queries + key - past) * width..],
            };
            row[..width].iter().map(|&value| f64::from(value)).collect()
        };
        let own = row(of.query, &[], past + query);
        let scores = (0..sizes.keys()).map(|key| {
            let key_row = row(of.new_keys, of.past_keys, key);
            let distance = head * sizes.distances() + sizes.queries - 1 - query + key;
            let place = &of.positions[distance * width..];
            let sums = (0..width).map(|at| {
                let difference = f64::from(of.difference[head * width + at]);
                own[at] * key_row[at] + (own[at] + difference) * f64::from(place[at])
            });
            (sums.sum::<f64>() + f64::from(of.mask[key])).exp()
        });
        let shares: Vec<f64> = scores.collect();
        let all: f64 = shares.iter().sum();
        let mut out = vec![0.0; width];
        for (key, share) in shares.iter().enumerate() {
            let values = row(of.new_values, of.past_values, key);
            for (out, value) in out.iter_mut().zip(values) {
                *out += share / all * value;
            }
        }
        out
    }

    #[test]
    fn what_is_found_is_that_of_the_definition_on_any_processor() {
        // Queries and widths that fill lanes, and that do not.
        for (heads_count, queries, past, width) in [(2, 8, 16, 8), (1, 3, 5, 11), (3, 13, 0, 4)] {
            let sizes = Sizes {
                heads: heads_count,
                queries,
                past,
                width,
            };
            let (new, before) = (heads_count * queries * width, heads_count * past * width);
            let mut mask = vec![0.0; sizes.keys()];
            mask[..past / 2].fill(-10_000.0);
            let inputs = Inputs {
                query: &noise(new, 1),
                new_keys: &noise(new, 2),
                new_values: &noise(new, 3),
                past_keys: &noise(before, 4),
                past_values: &noise(before, 5),
                mask: &mask,
                positions: &noise(heads_count * sizes.distances() * width, 6),
                difference: &noise(heads_count * width, 7),
            };
            let mut plain = vec![f32::NAN; new];
            let mut best = plain.clone();
            heads::<false>(sizes, inputs, &mut Room::default(), &mut plain);
            attend(sizes, inputs, &mut Room::default(), &mut best);
            for head in 0..heads_count {
                for query in 0..queries {
                    let at = (query * heads_count + head) * width;
                    let expected = expected(sizes, inputs, head, query);
                    for found in [&plain[at..], &best[at..]] {
                        for (found, expected) in found.iter().zip(&expected) {
                            let apart = (f64::from(*found) - expected).abs();
                            assert!(apart < 1e-5, "{sizes:?} {head} {query}: {found} {expected}");
                        }
                    }
                }
            }
        }
    }
}
