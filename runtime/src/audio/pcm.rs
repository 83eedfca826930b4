use std::fmt;
use std::io::{ErrorKind, Read};
use std::str::FromStr;

use super::mono::mean;
use super::{AudioError, MAX_CHANNELS, check_rate};

/// Bytes asked of the reader at once: 128 ms of 16-bit mono at 16 kHz.
const BUFFER: usize = 4096;

/// How one raw sample is written. All are little-endian, as `ffmpeg` and `sox` name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PcmFormat {
    /// `u8`: unsigned 8-bit integer, silence is 128.
    U8,
    /// `s16le`: signed 16-bit integer.
    S16Le,
    /// `s24le`: signed 24-bit integer in three bytes.
    S24Le,
    /// `s32le`: signed 32-bit integer.
    S32Le,
    /// `f32le`: 32-bit float in `[-1, 1]`.
    F32Le,
}

impl PcmFormat {
    /// Every format with its name.
    pub const ALL: [Self; 5] = [Self::U8, Self::S16Le, Self::S24Le, Self::S32Le, Self::F32Le];

    /// The name, as in `ffmpeg -f s16le`.
    pub fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::S16Le => "s16le",
            Self::S24Le => "s24le",
            Self::S32Le => "s32le",
            Self::F32Le => "f32le",
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::S16Le => 2,
            Self::S24Le => 3,
            Self::S32Le | Self::F32Le => 4,
        }
    }

    /// The value of one sample of `self.bytes()` bytes.
    fn decode(self, sample: &[u8]) -> f32 {
        match (self, sample) {
            (Self::U8, &[a]) => (f32::from(a) - 128.0) / 128.0,
            (Self::S16Le, &[a, b]) => f32::from(i16::from_le_bytes([a, b])) * I16_SCALE,
            (Self::S24Le, &[a, b, c]) => i32::from_le_bytes([0, a, b, c]) as f32 * I32_SCALE,
            (Self::S32Le, &[a, b, c, d]) => i32::from_le_bytes([a, b, c, d]) as f32 * I32_SCALE,
            (Self::F32Le, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
            _ => 0.0,
        }
    }
}

impl fmt::Display for PcmFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for PcmFormat {
    type Err = AudioError;

    fn from_str(name: &str) -> Result<Self, AudioError> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == name)
            .ok_or_else(|| AudioError::UnknownPcmFormat {
                found: name.to_owned(),
                expected: Self::ALL.map(Self::name).join(", "),
            })
    }
}

const I16_SCALE: f32 = 1.0 / 32_768.0;
const I32_SCALE: f32 = 1.0 / 2_147_483_648.0;

/// Appends 16-bit samples to `out` as floats in `[-1, 1)`: divided by 32768.
pub fn i16_to_f32(samples: &[i16], out: &mut Vec<f32>) {
    out.extend(samples.iter().map(|&sample| f32::from(sample) * I16_SCALE));
}

/// Raw samples without a header, from a pipe, a socket or any other reader.
///
/// What the reader gives is passed on at once, so a pipe that is fed in real time is heard in real
/// time. A last frame that is not whole is left out.
///
/// ```
/// use sori::audio::{PcmFormat, PcmReader};
///
/// let bytes: &[u8] = &[0, 64, 0, 192]; // 16384 to the left, -16384 to the right
/// let mut pcm = PcmReader::new(bytes, "example", PcmFormat::S16Le, 48_000, 2)?;
/// let mut samples = Vec::new();
/// while pcm.read(&mut samples)? {}
/// assert_eq!(samples, [0.0]);
/// # Ok::<(), sori::audio::AudioError>(())
/// ```
#[derive(Debug)]
pub struct PcmReader<R> {
    reader: R,
    input: String,
    format: PcmFormat,
    rate: u32,
    /// Bytes of one frame.
    frame: usize,
    /// The first `filled` bytes are a frame that has not come whole yet.
    buffer: Vec<u8>,
    filled: usize,
}

impl<R: Read> PcmReader<R> {
    /// Reads frames of `channels` samples in `format`, `rate` frames per second. `input` names the
    /// reader in errors.
    ///
    /// # Errors
    ///
    /// [`AudioError::UnsupportedRate`] and [`AudioError::UnsupportedChannels`] for numbers that
    /// cannot be meant.
    pub fn new(
        reader: R,
        input: &str,
        format: PcmFormat,
        rate: u32,
        channels: u16,
    ) -> Result<Self, AudioError> {
        check_rate(input, rate)?;
        if !(1..=MAX_CHANNELS).contains(&channels) {
            return Err(AudioError::UnsupportedChannels {
                input: input.to_owned(),
                found: channels,
            });
        }
        Ok(Self {
            reader,
            input: input.to_owned(),
            format,
            rate,
            frame: format.bytes() * usize::from(channels),
            buffer: vec![0; BUFFER],
            filled: 0,
        })
    }

    /// Frames per second, which is the rate of the samples that [`read`](Self::read) gives.
    pub fn sample_rate(&self) -> u32 {
        self.rate
    }

    /// The reader, to fill one up that is a buffer: after its end it is read again.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.reader
    }

    /// Waits for the reader once and appends the samples to `out`; `false` at the end.
    ///
    /// # Errors
    ///
    /// [`AudioError::Read`] when the reader fails.
    pub fn read(&mut self, out: &mut Vec<f32>) -> Result<bool, AudioError> {
        let count = loop {
            match self.reader.read(&mut self.buffer[self.filled..]) {
                Ok(count) => break count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(AudioError::from_io(&self.input, error)),
            }
        };
        if count == 0 {
            if self.filled > 0 {
                tracing::debug!("{}: {} bytes after the last frame", self.input, self.filled);
            }
            return Ok(false);
        }
        // A reader may claim more than it was offered.
        let end = (self.filled + count).min(self.buffer.len());
        let frames = self.buffer[..end].chunks_exact(self.frame);
        self.filled = frames.remainder().len();
        out.extend(frames.map(|frame| {
            let samples = frame.chunks_exact(self.format.bytes());
            mean(samples.map(|sample| self.format.decode(sample)))
        }));
        self.buffer.copy_within(end - self.filled..end, 0);
        Ok(true)
    }
}
