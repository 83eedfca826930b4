//! What graphs are given to hear.

use std::io::{Cursor, Read};
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sori::audio::Resampler;
use sori::features::{LogMel, log_mel};
use tch::Tensor;

use crate::ExportError;
use crate::graph::Streaming;

/// Eleven seconds of J. F. Kennedy's inaugural address, 1961, in the public domain.
const SPEECH: &[u8] = include_bytes!("jfk.wav");
/// More than this is not listened to: half a minute.
const MAX_SAMPLES: usize = 30 * LogMel::SAMPLE_RATE as usize;
/// Chunks of noise, at least.
const MIN_CHUNKS: i64 = 20;

/// Log-mel frames of whole chunks.
#[derive(Debug)]
pub(crate) struct Signal {
    pub(crate) name: &'static str,
    /// (frames, features).
    pub(crate) log_mel: Tensor,
}

impl Signal {
    /// The speech in a WAV file, or the speech that is built in.
    pub(crate) fn speech(wav: Option<&Path>, streaming: Streaming) -> Result<Self, ExportError> {
        let samples = match wav {
            None => read_wav(Cursor::new(SPEECH), Path::new("built-in speech"))?,
            Some(path) => {
                let file = std::fs::File::open(path).map_err(|reason| ExportError::Io {
                    path: path.into(),
                    reason,
                })?;
                read_wav(std::io::BufReader::new(file), path)?
            }
        };
        Ok(Self::new("speech", samples, streaming))
    }

    /// White noise that swells and fades, over so many chunks that the caches are overwritten.
    pub(crate) fn noise(streaming: Streaming) -> Self {
        let chunks = MIN_CHUNKS.max(2 * (streaming.left() / streaming.chunk() + 1));
        let count = (chunks * streaming.window()) as usize * LogMel::SHIFT;
        let mut random = StdRng::seed_from_u64(1);
        let swell = |i: usize| (i as f32 / LogMel::SAMPLE_RATE as f32).sin().powi(2);
        let samples = (0..count).map(|i| 0.3 * swell(i) * random.random_range(-1.0..1.0_f32));
        Self::new("noise", samples.collect(), streaming)
    }

    /// A last chunk that is not full is filled with silence.
    fn new(name: &'static str, mut samples: Vec<f32>, streaming: Streaming) -> Self {
        let chunk = streaming.window() as usize * LogMel::SHIFT;
        samples.resize(samples.len().max(1).next_multiple_of(chunk), 0.0);
        let log_mel = log_mel(&samples);
        let log_mel = Tensor::from_slice(&log_mel).reshape([-1, LogMel::BINS as i64]);
        Self { name, log_mel }
    }
}

/// At most [`MAX_SAMPLES`] samples, mono, at the rate of the features.
fn read_wav(reader: impl Read, path: &Path) -> Result<Vec<f32>, ExportError> {
    let wav = |reason| ExportError::Wav {
        path: path.into(),
        reason,
    };
    let mut reader = hound::WavReader::new(reader).map_err(wav)?;
    let spec = reader.spec();
    let mut resampler = Resampler::new(spec.sample_rate)?;
    let channels = usize::from(spec.channels.max(1));
    let seconds = MAX_SAMPLES / LogMel::SAMPLE_RATE as usize;
    let most = seconds
        .saturating_mul(spec.sample_rate as usize)
        .saturating_mul(channels);
    let interleaved: Vec<f32> = match spec.sample_format {
        hound::SampleFormat::Float => reader.samples::<f32>().take(most).collect::<Result<_, _>>(),
        hound::SampleFormat::Int => {
            let full = 2_f32.powi(i32::from(spec.bits_per_sample) - 1);
            reader
                .samples::<i32>()
                .take(most)
                .map(|sample| Ok(sample? as f32 / full))
                .collect()
        }
    }
    .map_err(wav)?;
    let mono: Vec<_> = interleaved
        .chunks_exact(channels)
        .map(|frame| frame.iter().sum::<f32>() / channels as f32)
        .collect();
    let mut samples = Vec::new();
    resampler.accept(&mono, &mut samples);
    resampler.finish(&mut samples);
    Ok(samples)
}
