//! Audio and manifests for tests.

use std::f32::consts::TAU;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sori_train::data::{Corpus, Source, Strictness, Tokenizer, TokenizerKind};

pub(crate) const RATE: u32 = 16_000;

pub(crate) fn tone(hertz: f32, seconds: f32, rate: u32) -> Vec<f32> {
    (0..(seconds * rate as f32).round() as u32)
        .map(|n| 0.3 * (TAU * hertz * n as f32 / rate as f32).sin())
        .collect()
}

/// Writes float samples, the same in each channel.
pub(crate) fn write_wav(path: &Path, samples: &[f32], rate: u32, channels: u16) {
    let spec = hound::WavSpec {
        channels,
        sample_rate: rate,
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut wav = hound::WavWriter::create(path, spec).unwrap();
    for &sample in samples {
        (0..channels).for_each(|_| wav.write_sample(sample).unwrap());
    }
    wav.finalize().unwrap();
}

/// A folder of tones with a manifest.
pub(crate) struct Folder {
    pub(crate) folder: tempfile::TempDir,
    lines: Vec<String>,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            lines: Vec::new(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Adds a tone; its pitch tells it from the others.
    pub(crate) fn tone(&mut self, seconds: f32, text: &str) -> &mut Self {
        let index = self.lines.len();
        let name = format!("{index}.wav");
        let tone = tone(200.0 + 50.0 * index as f32, seconds, RATE);
        write_wav(&self.path(&name), &tone, RATE, 1);
        self.line(&name, seconds, text)
    }

    pub(crate) fn line(&mut self, audio: &str, seconds: f32, text: &str) -> &mut Self {
        self.lines.push(format!(
            r#"{{"audio_filepath": "{audio}", "duration": {seconds}, "text": "{text}"}}"#
        ));
        self
    }

    pub(crate) fn manifest(&self) -> PathBuf {
        let path = self.path("manifest.jsonl");
        fs::write(&path, self.lines.join("\n")).unwrap();
        path
    }

    pub(crate) fn corpus(&self) -> Corpus {
        Corpus::read(&[Source::once(self.manifest())], Strictness::Strict).unwrap()
    }
}

/// Some text with more than enough variety: many words, few of them frequent, `ban` the most.
pub(crate) fn text() -> Vec<String> {
    let mut rng = StdRng::seed_from_u64(1);
    let mut pick = |parts: &'static [&'static str]| parts[rng.random_range(0..parts.len())];
    let mut words: Vec<String> = ["ban", "stain", "leck", "steen"].map(String::from).into();
    for index in 0..800 {
        let syllables = (0..=index % 3).map(|_| {
            let onset = pick(&[
                "b", "tr", "s", "m", "st", "l", "k", "w", "d", "gr", "ch", "p",
            ]);
            let nucleus = pick(&["a", "ee", "o", "ai", "u", "i", "ou"]);
            let coda = pick(&["n", "ll", "t", "ck", "st", "m", "r", ""]);
            format!("{onset}{nucleus}{coda}")
        });
        words.push(syllables.collect());
    }
    let occurrences = |(rank, word): (usize, &String)| vec![word.clone(); 1 + 300 / (rank + 1)];
    let words: Vec<String> = words.iter().enumerate().flat_map(occurrences).collect();
    words.chunks(7).map(|words| words.join(" ")).collect()
}

/// 128 pieces of [`text`].
pub(crate) static UNIGRAMS: LazyLock<Arc<Tokenizer>> =
    LazyLock::new(|| Arc::new(tokenizer(TokenizerKind::Unigram, 128)));

pub(crate) fn tokenizer(kind: TokenizerKind, pieces: usize) -> Tokenizer {
    let text = text();
    Tokenizer::train(text.iter().map(String::as_str), kind, pieces).unwrap()
}
