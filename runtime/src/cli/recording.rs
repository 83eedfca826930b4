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
}

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
        })
    }

    pub(super) fn write(&mut self, samples: &[f32]) -> anyhow::Result<()> {
        for sample in samples {
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
