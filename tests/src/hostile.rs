//! Input made to harm, on any toolchain: what the fuzzer starts from and what it once found, and
//! damage to these by chance.
//!
//! The bodies are those of the fuzz targets (`fuzz/bodies`); each takes any bytes and must neither
//! panic nor take more memory or time than its [`Bounds`].

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::chance::Chance;
use crate::memory;

/// What one input may cost.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes beyond 64 for each byte of the input.
    pub memory: usize,
    /// Wall time, generous for busy machines.
    pub time: Duration,
}

impl Default for Bounds {
    /// 32 MB and ten seconds.
    fn default() -> Self {
        Self {
            memory: 32 << 20,
            time: Duration::from_secs(10),
        }
    }
}

/// Bytes for each byte of the input that every body may take.
const GROWTH: usize = 64;

/// Files up to here are damaged, too; larger ones are only replayed.
const DAMAGED_UP_TO: usize = 1 << 20;

/// Gives `body` every file in `fuzz/corpus/TARGET` and `fuzz/crashes/TARGET`, then `count` damaged
/// copies of them, the same on every run; with the environment variable `HOSTILE_SECONDS` as many as
/// fit into that time, with a seed of the moment.
///
/// # Panics
///
/// If there is no corpus, or `body` panics or exceeds `bounds`; what did it is then kept in a file
/// that the message names, ready to be moved to `fuzz/crashes/TARGET`.
pub fn replay(target: &str, count: usize, bounds: Bounds, body: impl Fn(&[u8])) {
    let seeds = seeds(target);
    assert!(!seeds.is_empty(), "fuzz/corpus/{target}: no file in it");
    for seed in &seeds {
        survive(target, seed, bounds, &body);
    }
    let small: Vec<&Vec<u8>> = seeds
        .iter()
        .filter(|seed| seed.len() <= DAMAGED_UP_TO)
        .collect();
    if small.is_empty() {
        return;
    }
    let seconds = std::env::var("HOSTILE_SECONDS").ok();
    let seconds: Option<u64> = seconds.and_then(|text| text.parse().ok());
    let (mut chance, deadline) = match seconds {
        None => (Chance::new(1), None),
        Some(seconds) => {
            let moment = std::time::SystemTime::UNIX_EPOCH.elapsed();
            let moment = moment.unwrap_or_default().as_nanos() as u64;
            let deadline = Instant::now() + Duration::from_secs(seconds);
            (Chance::new(moment), Some(deadline))
        }
    };
    let mut done = 0;
    while deadline.map_or(done < count, |deadline| Instant::now() < deadline) {
        let mut input = small[chance.within(0..small.len())].clone();
        damage(&mut input, &small, &mut chance);
        survive(target, &input, bounds, &body);
        done += 1;
    }
    println!("{target}: {} files, {done} damaged", seeds.len());
}

/// Files of a corpus and kept crashes, in the order of their names.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let mut paths: Vec<PathBuf> = ["corpus", "crashes"]
        .iter()
        .filter_map(|kind| fs::read_dir(fuzz.join(kind).join(target)).ok())
        .flat_map(|files| files.filter_map(|file| Some(file.ok()?.path())))
        .collect();
    paths.sort();
    paths
        .iter()
        .filter_map(|path| fs::read(path).ok())
        .collect()
}

/// One to eight changes of the kinds that find most: bytes, numbers at their edges, pieces left out,
/// doubled, moved, and taken from another file.
fn damage(input: &mut Vec<u8>, seeds: &[&Vec<u8>], chance: &mut Chance) {
    const EDGES: [u32; 8] = [
        0,
        1,
        0x7f,
        0xff,
        0xffff,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
    ];
    for _ in 0..chance.within(1..9) {
        let length = input.len();
        // Headers are small and decide most.
        let reach = if chance.once_in(2) {
            length.min(200)
        } else {
            length
        };
        if reach == 0 {
            input.push(chance.next() as u8);
            continue;
        }
        let at = chance.within(0..reach);
        let end = (at + chance.within(1..65)).min(length);
        match chance.within(0..8) {
            0 => input[at] ^= 1 << chance.within(0..8),
            1 => input[at] = chance.next() as u8,
            2 | 3 => {
                let number = chance.among(&EDGES);
                let bytes = if chance.once_in(2) {
                    number.to_le_bytes()
                } else {
                    number.to_be_bytes()
                };
                let width = chance.among(&[1, 2, 4]).min(length - at);
                input[at..at + width].copy_from_slice(&bytes[..width]);
            }
            4 => drop(input.drain(at..end)),
            5 => {
                let piece = input[at..end].to_vec();
                for _ in 0..chance.among(&[1, 1, 1, 100]) {
                    input.splice(at..at, piece.iter().copied());
                }
            }
            6 => input.truncate(at),
            _ => {
                let other = seeds[chance.within(0..seeds.len())];
                if !other.is_empty() {
                    let from = chance.within(0..other.len());
                    let to = (from + chance.within(1..257)).min(other.len());
                    input.splice(at..end, other[from..to].iter().copied());
                }
            }
        }
    }
}

fn survive(target: &str, input: &[u8], bounds: Bounds, body: &impl Fn(&[u8])) {
    let start = Instant::now();
    let (result, bytes) = memory::most(|| catch_unwind(AssertUnwindSafe(|| body(input))));
    let time = start.elapsed();
    let most = bounds.memory + GROWTH * input.len();
    let fault = if result.is_err() {
        "a panic".to_owned()
    } else if bytes > most {
        format!("{bytes} bytes of memory, expected at most {most}")
    } else if time > bounds.time {
        format!("{time:?}, expected at most {:?}", bounds.time)
    } else {
        return;
    };
    let name = format!("sori-hostile-{target}-{:016x}", fingerprint(input));
    let path = std::env::temp_dir().join(name);
    let kept = fs::write(&path, input);
    panic!(
        "{target}: {fault} for {} bytes, kept in {} ({kept:?})",
        input.len(),
        path.display()
    );
}

/// FNV-1a.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
