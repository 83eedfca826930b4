//! The package on disk.

use std::io;
use std::path::Path;

use prost::Message as _;

use super::graph::{CACHE_LAST_CHANNEL, CACHE_LAST_TIME};
use super::{
    BLANK, HISTORY, MEL_BINS, Precision, SAMPLE, SUBSAMPLING, TOKENS, ToneModel, speak, transcript,
};

impl ToneModel {
    /// Writes the model package into `directory`, which is created if it is missing. With it comes
    /// `sample.wav`, the audio of [`SAMPLE`].
    ///
    /// # Errors
    ///
    /// If the directory or a file in it cannot be written.
    pub fn write_package(&self, directory: &Path) -> io::Result<()> {
        std::fs::create_dir_all(directory)?;
        let write = |name: &str, bytes: &[u8]| std::fs::write(directory.join(name), bytes);
        write("model.onnx", &self.graph(Precision::Fp32).encode_to_vec())?;
        write(
            "model.int8.onnx",
            &self.graph(Precision::Int8).encode_to_vec(),
        )?;
        write("tokens.txt", tokens().as_bytes())?;
        write("config.json", self.config().as_bytes())?;
        write("README.md", self.card().as_bytes())?;
        write_sample(&directory.join("sample.wav"))
    }

    /// Writes the model package, and in it the float graph for so many streams at once.
    ///
    /// # Errors
    ///
    /// If the directory or a file in it cannot be written.
    pub fn write_batched_package(&self, directory: &Path, streams: usize) -> io::Result<()> {
        self.write_package(directory)?;
        let file = format!("model.batch{streams}.onnx");
        let graph = self.batched_graph(streams).encode_to_vec();
        std::fs::write(directory.join(&file), graph)?;
        let batched =
            format!("{{\n  \"batched\": {{ \"file\": \"{file}\", \"streams\": {streams} }},");
        let config = self.config().replacen('{', &batched, 1);
        std::fs::write(directory.join("config.json"), config)
    }

    /// The text of `config.json`.
    #[must_use]
    pub fn config(&self) -> String {
        format!(
            r#"{{
  "format": 1,
  "name": "tone",
  "language": "x-tone",
  "description": "a test model, written by hand, that hears pure tones as words",
  "license": "MIT OR Apache-2.0",
  "features": {{
    "kind": "slaney-log-mel",
    "sample_rate": 16000,
    "mel_bins": {MEL_BINS},
    "frame_length_ms": 25,
    "frame_shift_ms": 10
  }},
  "geometry": {{
    "window_size": {window},
    "chunk_shift": {shift},
    "subsampling_factor": {SUBSAMPLING},
    "cache_last_channel": {CACHE_LAST_CHANNEL:?},
    "cache_last_time": {CACHE_LAST_TIME:?}
  }},
  "streaming": {{ "chunk_ms": {chunk_ms}, "left_context_ms": {left_context_ms} }},
  "tokens": {{ "file": "tokens.txt", "count": {count}, "blank_id": {BLANK} }},
  "graphs": {{
    "fp32": {{ "file": "model.onnx" }},
    "int8": {{ "file": "model.int8.onnx" }}
  }},
  "training": {{
    "recipe": "none: every weight is written by hand",
    "data": "none",
    "made_by": "cargo run -p sori-tests --bin make-tone-package"
  }},
  "measured": []
}}
"#,
            window = self.window_frames(),
            shift = self.chunk_frames,
            chunk_ms = 10 * self.chunk_frames,
            left_context_ms = 10 * SUBSAMPLING * HISTORY,
            count = TOKENS.len(),
        )
    }

    /// The model card.
    fn card(&self) -> String {
        let mut card = format!(
            "# tone: a test model\n\n\
             It hears pure tones as words, so that tests know to the frame what a recogniser must say.\n\
             It recognises no speech. No data went into it: `sori-tests` writes every weight by hand\n\
             (`cargo run -p sori-tests --bin make-tone-package -- DIRECTORY`).\n\n\
             - Features: log-mels of 80 bins on Slaney's scale, 16 kHz.\n\
             - Chunk: {} ms, looking {} ms ahead.\n\
             - Licence: MIT OR Apache-2.0.\n\
             - `sample.wav` says \"{}\".\n\n\
             | id | token | tone (Hz) |\n|---|---|---|\n",
            10 * self.chunk_frames,
            10 * self.overlap_frames,
            transcript(SAMPLE),
        );
        for (id, symbol) in TOKENS.iter().enumerate().take(BLANK) {
            card += &format!("| {id} | `{symbol}` | {:.1} |\n", super::frequency(id));
        }
        card + &format!("| {BLANK} | `{}` | |\n", TOKENS[BLANK])
    }
}

/// Writes the audio of [`SAMPLE`]: 16 kHz, 16 bits, mono.
fn write_sample(path: &Path) -> io::Result<()> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let write = || {
        let mut file = hound::WavWriter::create(path, spec)?;
        for sample in speak(SAMPLE) {
            file.write_sample((sample * 32_768.0).round() as i16)?;
        }
        file.finalize()
    };
    write().map_err(|error| match error {
        hound::Error::IoError(error) => error,
        error => io::Error::other(error),
    })
}

/// The text of `tokens.txt`: a symbol and its id on each line.
fn tokens() -> String {
    TOKENS
        .iter()
        .enumerate()
        .map(|(id, symbol)| format!("{symbol} {id}\n"))
        .collect()
}
