//! What a line of a manifest costs in memory, by counting every byte that is allocated: the reason for a
//! test process of its own.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use sori_tests::memory::{Counting, most_of_process};
use sori_train::data::{
    Augmentation, Batching, Corpus, Loader, LoaderConfig, Position, Sampler, Shard, Source,
    Strictness, Tokenizer, TokenizerKind,
};

/// The most bytes that a line may take, whatever it says.
const MOST: f64 = 200.0;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TEXT: &str = "and though the prince was well aware that she had been for many years the mistress of the \
                    house in which his fathers had lived he had never yet asked himself what she thought of it";

/// Where the one clip of all lines is.
const AUDIO: &str = "LibriSpeech/train-other-500/8297/275154/8297-275154-0012.wav";

/// A manifest of lines as long as LibriSpeech's, all about one clip.
fn write_manifest(path: &Path, lines: usize) {
    let mut file = BufWriter::new(fs::File::create(path).unwrap());
    for index in 0..lines {
        let (duration, shard) = (12.0 + (index % 100) as f64 / 100.0, index * 4 / lines);
        let line = format!(
            r#"{{"audio_filepath": "{AUDIO}", "duration": {duration}, "text": "{TEXT}", "speaker": "8297", "shard_id": {shard}}}"#
        );
        writeln!(file, "{line}").unwrap();
    }
    file.flush().unwrap();
}

fn write_clip(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut wav = hound::WavWriter::create(path, spec).unwrap();
    for n in 0..13 * 16_000 {
        let sample = 8000.0 * (f64::from(n) * 0.2).sin();
        wav.write_sample(sample as i16).unwrap();
    }
    wav.finalize().unwrap();
}

fn tokenizer() -> Arc<Tokenizer> {
    let words = TEXT.split_whitespace();
    Arc::new(Tokenizer::train(words, TokenizerKind::Bpe, 28).unwrap())
}

/// The bytes of each line, from the peaks of few lines and of many.
fn bytes_a_line(few: usize, many: usize, mut peak_of: impl FnMut(usize) -> usize) -> f64 {
    // What is made once and kept is made before.
    peak_of(few);
    let (a, b) = (peak_of(few), peak_of(many));
    (b as f64 - a as f64) / (many - few) as f64
}

/// One test, as what others allocate meanwhile would be counted too.
#[test]
fn a_line_of_a_manifest_takes_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let tokenizer = tokenizer();
    let batching = Batching {
        max_seconds: 60.0,
        ..Batching::default()
    };
    for archives in [false, true] {
        for index in 0..4 {
            fs::write(path(&format!("audio_{index}.tar")), "").unwrap();
        }
        let tars = path("audio_{0..3}.tar").to_str().unwrap().to_owned();
        let bytes = bytes_a_line(4_000, 24_000, |lines| {
            let manifest = path("manifest.jsonl");
            write_manifest(&manifest, lines);
            let source = Source {
                tars: archives.then(|| tars.clone()),
                ..Source::once(manifest)
            };
            most_of_process(|| {
                let corpus = Corpus::read(&[source], Strictness::Strict).unwrap();
                assert_eq!(corpus.len(), lines);
                let start = Position::start_of(0);
                let none = Augmentation::default();
                let mut sampler = Sampler::new(
                    &corpus,
                    &tokenizer,
                    1,
                    &batching,
                    &none,
                    Shard::WHOLE,
                    start,
                )
                .unwrap();
                assert_eq!(sampler.left_out().total(), 0);
                // Into the second epoch: one plan is gone when the next is made.
                while sampler.next_batch().unwrap().next.epoch == 0 {}
            })
            .1
        });
        eprintln!("planning, in archives {archives}: {bytes:.1} bytes a line");
        // Less than its place and duration cannot be: then nothing is counted.
        assert!((24.0..MOST).contains(&bytes), "{bytes}");
    }

    write_clip(&path(AUDIO));
    let config = LoaderConfig {
        workers: 1,
        batching,
        augmentation: Augmentation::none(),
        ..LoaderConfig::default()
    };
    let bytes = bytes_a_line(4_000, 24_000, |lines| {
        let manifest = path("manifest.jsonl");
        write_manifest(&manifest, lines);
        most_of_process(|| {
            let strict = Strictness::Strict;
            let corpus = Corpus::read(&[Source::once(&manifest)], strict).unwrap();
            let start = Position::start_of(0);
            let tokenizer = tokenizer.clone();
            let loader =
                Loader::start(&corpus, tokenizer, &config, strict, Shard::WHOLE, start).unwrap();
            for batch in loader.take(2) {
                assert_eq!(batch.unwrap().utterances(), 4);
            }
        })
        .1
    });
    eprintln!("loading: {bytes:.1} bytes a line");
    assert!((24.0..MOST).contains(&bytes), "{bytes}");
}
