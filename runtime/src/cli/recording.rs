//! What the microphone heard, kept in a file.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::Context;

/// A WAV file that is complete whenever the process ends: its header is renewed every second.
pub(super) struct Recording<'a> {
    path: &'a Path,
    rate: u32,
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
        let writer = hound::WavWriter::create(path, spec).with_context(|| cannot_write(path))?;
        Ok(Self {
            path,
            rate,
            writer,
            unflushed: 0,
            room: MOST_SAMPLES,
        })
    }

    /// Writes what there is room for; what was written is a whole file after an error, too, if the disk
    /// can take it.
    pub(super) fn write(&mut self, samples: &[f32]) -> anyhow::Result<()> {
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

    pub(super) fn finish(self) -> anyhow::Result<()> {
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
        recording.write(&[0.5; 900]).unwrap();
        let error = recording.write(&[0.5; 900]).unwrap_err().to_string();
        assert!(
            error.ends_with("full.wav: full: a WAV file holds 4 GB at most"),
            "{error}"
        );
        drop(recording);
        assert_eq!(hound::WavReader::open(&path).unwrap().len(), 1000);
    }
}
