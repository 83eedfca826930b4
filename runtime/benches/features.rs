//! How many times faster than real time log-mel features are computed, on one core.
//!
//!     cargo bench -p sori --bench features

#![allow(missing_docs)]

use std::hint::black_box;
use std::time::Instant;

use sori::features::LogMel;

const SECONDS: usize = 60;
const RUNS: usize = 21;

fn main() {
    // Noise of speech's loudness; the cost does not depend on the samples.
    let mut state = 1_u32;
    let signal: Vec<f32> = (0..SECONDS * LogMel::SAMPLE_RATE as usize)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            0.1 * (state as i32 as f32 / 2_147_483_648.0)
        })
        .collect();
    for (name, piece) in [
        ("20 ms pieces", 320),
        ("320 ms pieces", 5_120),
        ("one piece", signal.len()),
    ] {
        let mut log_mel = LogMel::new();
        let mut frames = Vec::new();
        let mut seconds: Vec<f64> = (0..RUNS)
            .map(|_| {
                frames.clear();
                let start = Instant::now();
                for piece in black_box(&signal).chunks(piece) {
                    log_mel.accept(piece, &mut frames);
                }
                log_mel.finish(&mut frames);
                black_box(&frames);
                start.elapsed().as_secs_f64()
            })
            .collect();
        seconds.sort_by(f64::total_cmp);
        let median = seconds[RUNS / 2];
        println!(
            "{name:>13}: {:6.0} x real time, {:.2} us per frame (median of {RUNS} runs over {SECONDS} s)",
            SECONDS as f64 / median,
            1e6 * median / (frames.len() / LogMel::BINS) as f64,
        );
    }
}
