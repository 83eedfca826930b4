//! Log-mel features: samples in, one row of 80 log energies for every 10 ms out.
//!
//! Framing is that of [Kaldi](https://kaldi-asr.org)'s `fbank`, the mel filters are Slaney's, as in
//! librosa and NeMo: the features that [sherpa-onnx](https://github.com/k2-fsa/sherpa-onnx) computes
//! for streaming NeMo CTC models, so that a package says the same there as here. They come as the
//! stream does. Training, export and recognition all use this one implementation, so that a model
//! never hears features other than those it learnt from.
//!
//! | | |
//! |---|---|
//! | input | 16 kHz, mono, full scale is \[-1, 1\] |
//! | window | 25 ms, every 10 ms, periodic Hann window, pre-emphasis 0.97 |
//! | spectrum | power of a 512-point Fourier transform |
//! | filters | 80 triangles of equal area, evenly spaced on Slaney's mel scale from 0 to 8000 Hz |
//! | output | natural logarithm, floored at `ln(f32::EPSILON)`, -15.94 |
//! | edges | frame `f` is centred on sample `160 f + 80`; the signal is reflected at both ends |
//!
//! There is no dither, no energy term, no removal of a constant offset, and no normalisation of mean or
//! variance.

mod mel;
mod spectrum;

use std::fmt;

use spectrum::Spectrum;

/// Computes the log-mel frames of one stream, as its samples arrive.
///
/// The frames are the same to the last bit however the samples are cut into pieces. Nothing is
/// allocated after [`new`](Self::new), other than by `frames` as it grows, and no more than one
/// window of signal is kept.
///
/// Samples that are not finite count as 0: they spoil no other sample of their window. Every value
/// that comes out is finite, whatever goes in.
///
/// ```
/// use sori::features::LogMel;
///
/// let mut log_mel = LogMel::new();
/// let mut frames = Vec::new();
/// for piece in [0.0; 16_000].chunks(1_000) {
///     log_mel.accept(piece, &mut frames);
/// }
/// log_mel.finish(&mut frames);
/// assert_eq!(frames.len(), 100 * LogMel::BINS);
/// ```
#[derive(Clone)]
pub struct LogMel {
    /// The samples of the next frame: those before `start` are yet to be reflected, those from
    /// `end` on are yet to come.
    window: [f32; Self::WINDOW],
    start: usize,
    end: usize,
    spectrum: Spectrum,
}

impl LogMel {
    /// Values in a frame.
    pub const BINS: usize = 80;
    /// Samples per second of the input.
    pub const SAMPLE_RATE: u32 = 16_000;
    /// Samples from one frame to the next (10 ms).
    pub const SHIFT: usize = 160;
    /// Samples that a frame is computed from (25 ms).
    pub const WINDOW: usize = 400;

    /// Samples of the first window that lie before the signal.
    const LEAD: usize = (Self::WINDOW - Self::SHIFT) / 2;

    /// Starts a stream. Instances share their tables, so this is cheap.
    pub fn new() -> Self {
        Self {
            window: [0.0; Self::WINDOW],
            start: Self::LEAD,
            end: Self::LEAD,
            spectrum: Spectrum::new(),
        }
    }

    /// Appends every frame that `samples` completes, row by row, shape (frames, 80), to `frames`.
    ///
    /// Frame `f` is complete once `160 f + 280` samples have come: 7.5 ms after the 10 ms that it
    /// stands for.
    pub fn accept(&mut self, mut samples: &[f32], frames: &mut Vec<f32>) {
        while !samples.is_empty() {
            let missing = &mut self.window[self.end..];
            let (now, later) = samples.split_at(samples.len().min(missing.len()));
            for (slot, &sample) in missing.iter_mut().zip(now) {
                *slot = if sample.is_finite() { sample } else { 0.0 };
            }
            self.end += now.len();
            samples = later;
            if self.end == Self::WINDOW {
                self.complete_frame(frames);
            }
        }
    }

    /// Ends the stream: appends the frames whose windows reach past the last sample.
    ///
    /// In all, a stream has [`frame_count`] frames. The next sample starts a new stream.
    pub fn finish(&mut self, frames: &mut Vec<f32>) {
        // A frame belongs to the signal when its centre does.
        while self.end >= Self::WINDOW / 2 {
            self.complete_frame(frames);
        }
        self.reset();
    }

    /// Forgets the stream. The next sample starts a new one.
    pub fn reset(&mut self) {
        self.start = Self::LEAD;
        self.end = Self::LEAD;
    }

    fn complete_frame(&mut self, frames: &mut Vec<f32>) {
        self.reflect();
        frames.extend_from_slice(&mel::log_mel(self.spectrum.power(&self.window)));
        self.window.copy_within(Self::SHIFT.., 0);
        self.start = 0;
        self.end -= Self::SHIFT;
    }

    /// Fills what the window lacks by mirroring the signal at its ends, the end samples included;
    /// a signal shorter than that is mirrored again and again.
    fn reflect(&mut self) {
        let period = 2 * (self.end - self.start);
        for slot in (0..self.start).chain(self.end..Self::WINDOW) {
            let phase = (slot as isize - self.start as isize).rem_euclid(period as isize) as usize;
            let source = self.start + phase.min(period - 1 - phase);
            self.window[slot] = self.window[source];
        }
    }
}

impl Default for LogMel {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for LogMel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogMel").finish_non_exhaustive()
    }
}

/// Computes all frames of a signal, row by row, shape ([`frame_count`], 80).
///
/// The values are those of [`LogMel`], to the last bit.
pub fn log_mel(samples: &[f32]) -> Vec<f32> {
    let mut frames = Vec::with_capacity(frame_count(samples.len()) * LogMel::BINS);
    let mut log_mel = LogMel::new();
    log_mel.accept(samples, &mut frames);
    log_mel.finish(&mut frames);
    frames
}

/// The number of frames in a signal of so many samples: one for every 160, rounded to the nearest.
pub fn frame_count(samples: usize) -> usize {
    samples / LogMel::SHIFT + usize::from(samples % LogMel::SHIFT >= LogMel::SHIFT / 2)
}
