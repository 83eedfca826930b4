use std::fmt;

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _, WindowFunction};

use super::{AudioError, SAMPLE_RATE, check_rate};

/// Shortest filter, in samples at the lower of the two rates. With the Blackman-Harris window 240
/// keeps everything up to the 7.6 kHz where the mel filters end, and has nothing left at 8 kHz.
const FILTER: usize = 240;

/// Far above any sound, and far enough below where sums of a block overflow.
const LOUDEST: f32 = 1e9;

/// Brings mono samples of any rate in [`SAMPLE_RATES`](super::SAMPLE_RATES) to
/// [`SAMPLE_RATE`], or to another of them.
///
/// The output is the same to the bit however the input is cut into pieces, sound keeps its time
/// (the filter's delay is taken out), and `n` samples in become `round(n * to / rate)` samples
/// out once [`finish`](Self::finish) is called. At 16 kHz within 0.5 dB up to 7.6 kHz, or to 95 % of the
/// input's own band; what would alias is more than 80 dB down. Nothing is allocated after `new`,
/// except that `out` may grow.
///
/// Input that has the rate already passes through untouched; at other rates samples that are not finite count as 0.
pub struct Resampler {
    rate: u32,
    to: u32,
    /// `None` where the rate stays the same.
    filter: Option<Filter>,
}

struct Filter {
    rate: u32,
    to: u32,
    fft: Fft<f32>,
    /// One block at the input's rate, filled up to `filled`.
    block: Vec<f32>,
    filled: usize,
    /// One block at the output's rate.
    resampled: Vec<f32>,
    /// Samples of delay that the next blocks still begin with.
    delay_left: usize,
    /// Samples taken in and given out since the start.
    taken: u64,
    given: u64,
}

impl Resampler {
    /// A resampler for input at `rate` Hz, to 16 kHz.
    ///
    /// # Errors
    ///
    /// [`AudioError::UnsupportedRate`] outside [`SAMPLE_RATES`](super::SAMPLE_RATES).
    pub fn new(rate: u32) -> Result<Self, AudioError> {
        Self::between(rate, SAMPLE_RATE)
    }

    /// A resampler for input at `rate` Hz, to `to` Hz.
    ///
    /// # Errors
    ///
    /// [`AudioError::UnsupportedRate`] if either is outside [`SAMPLE_RATES`](super::SAMPLE_RATES).
    pub fn between(rate: u32, to: u32) -> Result<Self, AudioError> {
        check_rate("audio", rate)?;
        check_rate("audio", to)?;
        let filter = (rate != to).then(|| Filter::new(rate, to)).transpose()?;
        Ok(Self { rate, to, filter })
    }

    /// The rate of the input in Hz.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// The longest time in seconds that a sample waits inside before the output has its moment.
    ///
    /// 22.5 ms at 24, 32, 48, 96 and 192 kHz, 30 ms at 22.05 and 44.1 kHz, 45 ms at 8 kHz, 0 at
    /// 16 kHz. A rate that shares no divisor with 16 kHz has to wait for longer blocks, up to 1.5 s
    /// for a prime number: harmless for a file.
    pub fn latency(&self) -> f64 {
        self.filter.as_ref().map_or(0.0, |filter| {
            let block = filter.resampled.len();
            (block + filter.fft.output_delay()) as f64 / f64::from(self.to)
        })
    }

    /// As after so many samples of output, at the edge of a block.
    #[cfg(test)]
    pub(crate) fn start_at(&mut self, given: u64) {
        if let Some(filter) = &mut self.filter {
            let taken = u128::from(given) * u128::from(filter.rate) / u128::from(filter.to);
            filter.taken = taken as u64;
            filter.given = given;
        }
    }

    /// Takes the next samples of the input and appends to `out` what is ready.
    pub fn accept(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        match &mut self.filter {
            None => out.extend_from_slice(samples),
            Some(filter) => filter.accept(samples, out),
        }
    }

    /// Ends the input: appends to `out` what was still inside, and is ready for another input.
    pub fn finish(&mut self, out: &mut Vec<f32>) {
        if let Some(filter) = &mut self.filter {
            filter.finish(out);
        }
    }
}

impl fmt::Debug for Resampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resampler")
            .field("rate", &self.rate)
            .field("to", &self.to)
            .field("latency", &self.latency())
            .finish()
    }
}

impl Filter {
    fn new(rate: u32, to: u32) -> Result<Self, AudioError> {
        let (input, output) = (rate as usize, to as usize);
        let divisor = greatest_common_divisor(input, output);
        let (unit_in, unit_out) = (input / divisor, output / divisor);
        let units = FILTER.div_ceil(unit_in.min(unit_out));
        let fft = Fft::new_custom(
            input,
            output,
            units * unit_in,
            1,
            1,
            WindowFunction::BlackmanHarris,
            FixedSync::Both,
        )
        .map_err(|_| AudioError::UnsupportedRate {
            input: "audio".to_owned(),
            found: rate,
        })?;
        Ok(Self {
            rate,
            to,
            block: vec![0.0; fft.input_frames_next()],
            filled: 0,
            resampled: vec![0.0; fft.output_frames_next()],
            delay_left: fft.output_delay(),
            taken: 0,
            given: 0,
            fft,
        })
    }

    fn accept(&mut self, mut samples: &[f32], out: &mut Vec<f32>) {
        self.taken += samples.len() as u64;
        while !samples.is_empty() {
            let room = self.block.len() - self.filled;
            let (now, later) = samples.split_at(room.min(samples.len()));
            for (slot, &sample) in self.block[self.filled..].iter_mut().zip(now) {
                // One that is no number, or overflows in a sum, would spoil the whole block.
                *slot = if sample.is_finite() {
                    sample.clamp(-LOUDEST, LOUDEST)
                } else {
                    0.0
                };
            }
            self.filled += now.len();
            samples = later;
            if self.filled == self.block.len() {
                self.resample_block(u64::MAX, out);
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<f32>) {
        // Rounded to the nearest; u128 because a stream may run for years.
        let (taken, rate) = (u128::from(self.taken), u128::from(self.rate));
        let total = ((taken * u128::from(self.to) * 2 + rate) / (rate * 2)) as u64;
        while self.given < total {
            self.block[self.filled..].fill(0.0);
            self.resample_block(total, out);
        }
        self.fft.reset();
        self.filled = 0;
        self.delay_left = self.fft.output_delay();
        self.taken = 0;
        self.given = 0;
    }

    /// Resamples one whole block and appends the result to `out`, less the delay at the start and
    /// what goes beyond `total` samples.
    fn resample_block(&mut self, total: u64, out: &mut Vec<f32>) {
        self.filled = 0;
        let (frames_in, frames_out) = (self.block.len(), self.resampled.len());
        let input = InterleavedSlice::new(&self.block, 1, frames_in);
        let output = InterleavedSlice::new_mut(&mut self.resampled, 1, frames_out);
        let done = match (input, output) {
            (Ok(input), Ok(mut output)) => self
                .fft
                .process_into_buffer(&input, &mut output, None)
                .is_ok(),
            _ => false,
        };
        // The only error is a buffer of the wrong length, and these have the lengths asked for.
        debug_assert!(done, "the resampler's blocks have the wrong length");

        let skip = self.delay_left.min(frames_out);
        self.delay_left -= skip;
        let ready = &self.resampled[skip..];
        let wanted = usize::try_from(total - self.given).unwrap_or(usize::MAX);
        let ready = &ready[..ready.len().min(wanted)];
        self.given += ready.len() as u64;
        out.extend_from_slice(ready);
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}
