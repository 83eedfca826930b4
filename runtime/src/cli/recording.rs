//! What the microphone heard, kept in a file.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::Context;
use sori::audio::Resampler;

/// A WAV file that is complete whenever the process ends: its header is renewed every second.
pub(super) struct Recording<'a> {
    path: &'a Path,
    rate: u32,
    /// From the rate of what is heard now to the file's.
    resampler: Resampler,
    resampled: Vec<f32>,
    writer: hound::WavWriter<BufWriter<File>>,
    unflushed: usize,
    /// Samples that the file can still take.
    room: usize,
}

/// The sizes in a WAV file have 32 bits: no more than this fits, 12 hours at 48 kHz.
const MOST_SAMPLES: usize = (u32::MAX as usize - 1024) / 2;

impl<'a> Recording<'a> {
    pub(super) fn create(path: &'a Path, rate: u32) -> anyhow::Result<Self> {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: rate,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        // What is there may be another recording, which nobody can make again; a device is no file.
        let is_device = path.metadata().is_ok_and(|there| !there.is_file());
        let file = File::options()
            .write(true)
            .create(is_device)
            .create_new(!is_device)
            .open(path)
            .with_context(|| cannot_write(path))?;
        let writer = hound::WavWriter::new(BufWriter::new(file), spec)
            .with_context(|| cannot_write(path))?;
        Ok(Self {
            path,
            rate,
            resampler: Resampler::between(rate, rate)?,
            resampled: Vec::new(),
            writer,
            unflushed: 0,
            room: MOST_SAMPLES,
        })
    }

    /// Writes what there is room for; what was written is a whole file after an error, too, if the disk
    /// can take it. The file keeps its rate, whatever that of the `samples` is.
    pub(super) fn write(&mut self, samples: &[f32], rate: u32) -> anyhow::Result<()> {
        self.resampled.clear();
        if rate != self.resampler.rate() {
            let next = Resampler::between(rate, self.rate)?;
            self.resampler.finish(&mut self.resampled);
            self.resampler = next;
        }
        self.resampler.accept(samples, &mut self.resampled);
        self.write_resampled()
    }

    fn write_resampled(&mut self) -> anyhow::Result<()> {
        let samples = &self.resampled;
        let fitting = samples.len().min(self.room);
        self.room -= fitting;
        for sample in &samples[..fitting] {
            let integer = (sample * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16;
            self.writer
                .write_sample(integer)
                .with_context(|| cannot_write(self.path))?;
        }
        self.unflushed += samples.len();
        if self.unflushed >= self.rate as usize {
            self.unflushed = 0;
            self.writer
                .flush()
                .with_context(|| cannot_write(self.path))?;
        }
        anyhow::ensure!(
            fitting == samples.len(),
            "{}: full: a WAV file holds 4 GB at most",
            self.path.display()
        );
        Ok(())
    }

    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        self.resampled.clear();
        self.resampler.finish(&mut self.resampled);
        self.write_resampled()?;
        let Self { path, writer, .. } = self;
        writer.finalize().with_context(|| cannot_write(path))
    }
}

fn cannot_write(path: &Path) -> String {
    format!("{}: cannot be written", path.display())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::Recording;

    #[test]
    fn a_full_wav_file_is_said_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full.wav");
        let mut recording = Recording::create(&path, 16_000).unwrap();
        recording.room = 1000;
        recording.write(&[0.5; 900], 16_000).unwrap();
        let error = recording
            .write(&[0.5; 900], 16_000)
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with("full.wav: full: a WAV file holds 4 GB at most"),
            "{error}"
        );
        drop(recording);
        assert_eq!(hound::WavReader::open(&path).unwrap().len(), 1000);
    }
    /// A microphone may come back with another rate.
    #[test]
    fn the_file_keeps_its_rate_and_the_time_that_passed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("saved.wav");
        let mut recording = Recording::create(&path, 48_000).unwrap();
        for rate in [48_000, 16_000, 44_100, 48_000] {
            let sine = |at| (at as f32 * 440.0 * std::f32::consts::TAU / rate as f32).sin();
            let second: Vec<f32> = (0..rate).map(sine).collect();
            for piece in second.chunks(1111) {
                recording.write(piece, rate).unwrap();
            }
        }
        recording.finish().unwrap();
        let mut wav = hound::WavReader::open(&path).unwrap();
        assert_eq!((wav.spec().sample_rate, wav.len()), (48_000, 4 * 48_000));
        let heard: Vec<i16> = wav.samples().map(Result::unwrap).collect();
        for (second, heard) in heard.chunks(48_000).enumerate() {
            let pairs = heard.windows(2);
            let rises = pairs.filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
            assert!((438..=441).contains(&rises), "second {second}: {rises} Hz");
        }
    }
}
