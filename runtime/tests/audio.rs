//! Sound from files, raw samples and slices, at any rate, as a user of the library meets it.

#![allow(clippy::unwrap_used, missing_docs)]

use std::f64::consts::TAU;
use std::io::{self, Read};

use proptest::prelude::*;
use sori::audio::{AudioError, PcmFormat, PcmReader, Resampler, i16_to_f32};
use sori_tests::memory::{Counting, allocations, most};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn tone(hertz: f64, rate: u32, seconds: f64) -> Vec<f32> {
    (0..(seconds * f64::from(rate)) as usize)
        .map(|n| (0.5 * (TAU * hertz * n as f64 / f64::from(rate)).sin()) as f32)
        .collect()
}

fn resample(samples: &[f32], rate: u32) -> Vec<f32> {
    let mut resampler = Resampler::new(rate).unwrap();
    let mut out = Vec::new();
    resampler.accept(samples, &mut out);
    resampler.finish(&mut out);
    out
}

/// Root mean square of the middle half, in decibels relative to `tone`.
fn level(samples: &[f32]) -> f64 {
    let middle = &samples[samples.len() / 4..samples.len() * 3 / 4];
    let power = middle.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / middle.len() as f64;
    10.0 * (power / 0.125).max(1e-20).log10()
}

/// Hertz of a pure tone, from its upward zero crossings.
fn pitch(samples: &[f32], rate: u32) -> f64 {
    let crossings: Vec<usize> = (1..samples.len())
        .filter(|&n| samples[n - 1] < 0.0 && samples[n] >= 0.0)
        .collect();
    let periods = (crossings.len() - 1) as f64;
    let length = (crossings[crossings.len() - 1] - crossings[0]) as f64;
    periods * f64::from(rate) / length
}

mod resampling {
    use super::*;

    const RATES: [u32; 12] = [
        8_000, 11_025, 12_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 176_400,
        192_000,
    ];

    #[test]
    fn sixteen_kilohertz_pass_untouched() {
        let samples = tone(440.0, 16_000, 0.1);
        assert_eq!(resample(&samples, 16_000), samples);
        assert_eq!(Resampler::new(16_000).unwrap().latency(), 0.0);
    }

    #[test]
    fn the_pass_band_is_flat() {
        for rate in RATES {
            let top = (f64::from(rate) * 0.45).min(7_600.0);
            for hertz in [101.0, 1_003.0, 3_407.0, top * 0.95, top] {
                let out = resample(&tone(hertz, rate, 2.0), rate);
                let level = level(&out);
                assert!(level.abs() < 0.5, "{hertz} Hz at {rate}: {level} dB");
                let pitch = pitch(&out, 16_000);
                assert!(
                    (pitch / hertz - 1.0).abs() < 0.005,
                    "{hertz} Hz at {rate}: {pitch} Hz"
                );
            }
        }
    }

    #[test]
    fn what_is_above_eight_kilohertz_does_not_come_back_below() {
        for rate in RATES {
            for hertz in [
                8_201.0, 9_013.0, 10_000.0, 12_345.0, 19_999.0, 40_007.0, 90_001.0,
            ] {
                if hertz < f64::from(rate) / 2.0 {
                    let level = level(&resample(&tone(hertz, rate, 2.0), rate));
                    assert!(level < -80.0, "{hertz} Hz at {rate}: {level} dB");
                }
            }
        }
    }

    #[test]
    fn images_of_low_rates_are_removed() {
        // 3 kHz at 8 kHz would also be seen as 5 kHz.
        let out = resample(&tone(3_000.0, 8_000, 2.0), 8_000);
        let middle = &out[8_000..24_000];
        let project = |hertz: f64| {
            let (mut re, mut im) = (0.0, 0.0);
            for (n, &x) in middle.iter().enumerate() {
                let angle = TAU * hertz * n as f64 / 16_000.0;
                re += f64::from(x) * angle.cos();
                im += f64::from(x) * angle.sin();
            }
            (re * re + im * im).sqrt() * 2.0 / middle.len() as f64
        };
        assert!((project(3_000.0) - 0.5).abs() < 0.01);
        assert!(project(5_000.0) < 0.5e-4);
    }

    #[test]
    fn sound_keeps_its_time() {
        for rate in RATES {
            for at in [0.0, 0.1234, 0.5, 0.99] {
                let mut samples = vec![0.0; rate as usize];
                let position = (at * f64::from(rate)) as usize;
                samples[position] = 1.0;
                let out = resample(&samples, rate);
                let peak = (0..out.len())
                    .max_by(|&a, &b| out[a].total_cmp(&out[b]))
                    .unwrap();
                let expected = position as f64 * 16_000.0 / f64::from(rate);
                let error = peak as f64 - expected;
                assert!(error.abs() <= 1.0, "{rate}: at {peak}, expected {expected}");
            }
        }
    }

    #[test]
    fn the_length_is_rounded_to_the_nearest_sample() {
        for rate in RATES {
            for length in [0, 1, 2, 3, 100, 441, 1_001, 44_099] {
                let expected = (length as f64 * 16_000.0 / f64::from(rate)).round() as usize;
                let out = resample(&vec![0.1; length], rate);
                assert_eq!(out.len(), expected, "{length} at {rate}");
            }
        }
    }

    #[test]
    fn sound_comes_out_within_the_latency() {
        for (rate, latency) in [
            (48_000, 0.0225),
            (44_100, 0.03),
            (8_000, 0.045),
            (96_000, 0.0225),
        ] {
            let mut resampler = Resampler::new(rate).unwrap();
            assert_eq!(resampler.latency(), latency, "{rate}");
            let (mut taken, mut out, mut worst) = (0, Vec::new(), 0.0f64);
            for _ in 0..2_000 {
                // Before each piece is when most has been taken for what is out.
                let behind = f64::from(taken) / f64::from(rate) - out.len() as f64 / 16_000.0;
                worst = worst.max(behind);
                resampler.accept(&[0.0; 37], &mut out);
                taken += 37;
            }
            assert!(worst <= latency, "{rate}: {worst} s");
            assert!(worst > latency * 0.9, "{rate}: {worst} s");
        }
    }

    #[test]
    fn a_rate_that_divides_by_nothing_works() {
        let out = resample(&tone(1_000.0, 47_999, 3.0), 47_999);
        assert_eq!(out.len(), 48_000);
        assert!(level(&out).abs() < 0.1);
        assert!((pitch(&out, 16_000) - 1_000.0).abs() < 1.0);
    }

    #[test]
    fn after_the_end_it_begins_anew() {
        let samples = tone(700.0, 44_100, 0.3);
        let mut resampler = Resampler::new(44_100).unwrap();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        resampler.accept(&samples, &mut first);
        resampler.finish(&mut first);
        resampler.accept(&samples, &mut second);
        resampler.finish(&mut second);
        assert_eq!(first, second);
    }

    #[test]
    fn nothing_is_allocated_once_warm() {
        for rate in [8_000, 44_100, 48_000] {
            let mut resampler = Resampler::new(rate).unwrap();
            let samples = tone(500.0, rate, 1.0);
            let mut out = Vec::with_capacity(20_000);
            let before = allocations();
            for piece in samples.chunks(333) {
                resampler.accept(piece, &mut out);
            }
            resampler.finish(&mut out);
            assert_eq!(allocations(), before, "{rate}");
        }
    }

    #[test]
    fn rates_out_of_range_are_refused() {
        for rate in [0, 1, 7_999, 192_001, u32::MAX] {
            let error = Resampler::new(rate).unwrap_err();
            assert!(matches!(error, AudioError::UnsupportedRate { found, .. } if found == rate));
            let message = error.to_string();
            assert!(message.contains(&rate.to_string()), "{message}");
            assert!(message.contains("8000 to 192000 Hz"), "{message}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn pieces_of_any_size_give_the_same_bits(
            rate in prop::sample::select(&RATES[..]),
            samples in prop::collection::vec(-1.0f32..1.0, 0..6_000),
            sizes in prop::collection::vec(1usize..2_000, 1..20),
        ) {
            let whole = resample(&samples, rate);
            let mut resampler = Resampler::new(rate).unwrap();
            let (mut pieces, mut rest) = (Vec::new(), &samples[..]);
            for size in sizes.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at(size.min(rest.len()));
                resampler.accept(now, &mut pieces);
                rest = later;
            }
            resampler.finish(&mut pieces);
            prop_assert_eq!(whole, pieces);
        }
    }
}

mod raw_samples {
    use super::*;

    /// Gives one byte at a time, and an interruption before each.
    struct Drip<'a>(&'a [u8], bool);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            self.0.read(&mut buffer[..1])
        }
    }

    fn read(bytes: impl Read, format: PcmFormat, channels: u16) -> Vec<f32> {
        let mut reader = PcmReader::new(bytes, "test", format, 16_000, channels).unwrap();
        let mut samples = Vec::new();
        while reader.read(&mut samples).unwrap() {}
        samples
    }

    #[test]
    fn each_format_has_its_scale() {
        let half = [
            (PcmFormat::U8, vec![192, 64]),
            (PcmFormat::S16Le, vec![0, 0x40, 0, 0xc0]),
            (PcmFormat::S24Le, vec![0, 0, 0x40, 0, 0, 0xc0]),
            (PcmFormat::S32Le, vec![0, 0, 0, 0x40, 0, 0, 0, 0xc0]),
            (
                PcmFormat::F32Le,
                [0.5f32.to_le_bytes(), (-0.5f32).to_le_bytes()].concat(),
            ),
        ];
        for (format, bytes) in half {
            assert_eq!(read(&bytes[..], format, 1), [0.5, -0.5], "{format}");
            assert_eq!(format.name().parse::<PcmFormat>().unwrap(), format);
        }
        let error = "s16be".parse::<PcmFormat>().unwrap_err().to_string();
        assert!(
            error.contains("`s16be`") && error.contains("s16le"),
            "{error}"
        );
    }

    #[test]
    fn channels_are_averaged_and_a_part_of_a_frame_is_left_out() {
        // Three channels: 300, 600, 900 and then a frame that stops.
        let bytes = [300i16, 600, 900, -30, -60].map(i16::to_le_bytes).concat();
        assert_eq!(read(&bytes[..], PcmFormat::S16Le, 3), [600.0 / 32_768.0]);
        // An odd byte after whole frames.
        assert_eq!(read(&[0, 0, 7][..], PcmFormat::S16Le, 1), [0.0]);
        assert_eq!(read(&[][..], PcmFormat::S16Le, 1), [0.0f32; 0]);
    }

    #[test]
    fn frames_may_come_byte_by_byte() {
        let bytes: Vec<u8> = (0..6_000u32).map(|n| (n * 31 % 251) as u8).collect();
        for channels in [1, 2, 5] {
            let whole = read(&bytes[..], PcmFormat::S24Le, channels);
            assert_eq!(whole.len(), 2_000 / usize::from(channels));
            assert_eq!(read(Drip(&bytes, false), PcmFormat::S24Le, channels), whole);
        }
    }

    #[test]
    fn what_is_not_a_number_becomes_silence() {
        let bytes = [f32::NAN, f32::INFINITY, 0.25]
            .map(f32::to_le_bytes)
            .concat();
        assert_eq!(read(&bytes[..], PcmFormat::F32Le, 1), [0.0, 0.0, 0.25]);
    }

    #[test]
    fn wrong_arguments_are_refused() {
        let open = |rate, channels| {
            PcmReader::new(io::empty(), "stdin", PcmFormat::S16Le, rate, channels)
                .map(|_| ())
                .unwrap_err()
                .to_string()
        };
        assert!(open(0, 1).starts_with("stdin: sample rate 0 Hz"));
        assert!(open(16_000, 0).starts_with("stdin: 0 channels, expected 1 to 64"));
        assert!(open(16_000, 65).starts_with("stdin: 65 channels"));
    }

    #[test]
    fn a_reader_that_fails_is_named() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("no line"))
            }
        }
        let mut reader = PcmReader::new(Broken, "socket", PcmFormat::U8, 8_000, 1).unwrap();
        let error = reader.read(&mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "socket: cannot be read: no line");
    }

    #[test]
    fn sixteen_bits_are_divided_by_32768() {
        let mut out = vec![9.0];
        i16_to_f32(&[0, 16_384, i16::MIN, i16::MAX], &mut out);
        assert_eq!(out, [9.0, 0.0, 0.5, -1.0, 32_767.0 / 32_768.0]);
    }
}

#[cfg(feature = "files")]
mod files {
    use std::fs;
    use std::io::Cursor;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use sori::audio::AudioFile;

    use super::*;

    /// Most memory that reading a small file may take, whatever its header claims.
    const MEMORY: usize = 16 << 20;

    fn data(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/data/audio")
            .join(name)
    }

    fn bytes_of(name: &str) -> Vec<u8> {
        fs::read(data(name)).unwrap()
    }

    /// All samples, and how the reading ended.
    fn drain(file: &mut AudioFile) -> (Vec<f32>, Result<(), AudioError>) {
        let mut samples = Vec::new();
        loop {
            match file.read(&mut samples) {
                Ok(true) => {}
                Ok(false) => return (samples, Ok(())),
                Err(error) => return (samples, Err(error)),
            }
        }
    }

    fn read(file: Result<AudioFile, AudioError>) -> Vec<f32> {
        let (samples, end) = drain(&mut file.unwrap());
        end.unwrap();
        samples
    }

    fn from_bytes(bytes: &[u8]) -> Result<AudioFile, AudioError> {
        AudioFile::from_reader(Cursor::new(bytes.to_vec()), "test")
    }

    /// As a file, which is read in another way than a stream.
    fn as_file(bytes: &[u8], name: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    /// Seconds where a tone begins and ends.
    fn bounds(samples: &[f32], rate: u32) -> (f64, f64) {
        let first = samples
            .iter()
            .position(|x| x.abs() > 0.25)
            .expect("no tone");
        let last = samples.iter().rposition(|x| x.abs() > 0.25).unwrap();
        (
            first as f64 / f64::from(rate),
            last as f64 / f64::from(rate),
        )
    }

    /// One second with a tone of 1 kHz from 0.25 s to 0.75 s, at 16 kHz, with this delay.
    fn assert_is_the_tone(name: &str, samples: &[f32], delay: f64) {
        let (start, end) = bounds(samples, 16_000);
        assert!(
            (start - delay - 0.25).abs() < 0.003,
            "{name}: begins at {start} s"
        );
        assert!(
            (end - delay - 0.75).abs() < 0.003,
            "{name}: ends at {end} s"
        );
        let middle = &samples[(start * 16_000.0) as usize + 800..(end * 16_000.0) as usize - 800];
        let pitch = pitch(middle, 16_000);
        assert!((pitch - 1_000.0).abs() < 3.0, "{name}: {pitch} Hz");
        let level = level(middle);
        assert!(level.abs() < 1.0, "{name}: {level} dB");
    }

    /// Name, rate, length in seconds, delay in seconds that the file does not tell.
    const TONES: [(&str, u32, f64, f64); 15] = [
        ("adpcm-ima.wav", 8_000, 1.0205, 0.0),
        ("adpcm-ms.wav", 8_000, 1.018, 0.0),
        ("alac.m4a", 16_000, 1.0, 0.0),
        ("alaw.wav", 8_000, 1.0, 0.0),
        ("mulaw.wav", 8_000, 1.0, 0.0),
        ("tone.aac", 44_100, 1.0449, 0.0232),
        ("tone.aiff", 8_000, 1.0, 0.0),
        ("tone.caf", 8_000, 1.0, 0.0),
        ("tone.flac", 22_050, 1.0, 0.0),
        ("tone.m4a", 44_100, 1.0449, 0.0232),
        ("tone.mkv", 22_050, 1.0, 0.0),
        ("tone.mp3", 44_100, 1.0, 0.0),
        ("tone.ogg", 44_100, 1.0, 0.0),
        ("tone.opus", 48_000, 1.0, 0.0),
        ("tone.webm", 48_000, 1.0135, 0.0),
    ];

    #[test]
    fn every_format_gives_the_tone_in_its_place() {
        for (name, rate, length, delay) in TONES {
            let mut file = AudioFile::open(data(name)).unwrap();
            assert_eq!(file.sample_rate(), rate, "{name}");
            if let Some(duration) = file.duration() {
                assert!(
                    (duration - length).abs() < 0.03,
                    "{name}: {duration} s claimed"
                );
            }
            let (samples, end) = drain(&mut file);
            end.unwrap();
            let seconds = samples.len() as f64 / f64::from(rate);
            assert!((seconds - length).abs() < 0.001, "{name}: {seconds} s");
            assert_eq!(file.skipped_packets(), 0, "{name}");
            assert_is_the_tone(name, &resample(&samples, rate), delay);
        }
    }

    #[test]
    fn a_stream_gives_the_same_as_the_file() {
        for (name, ..) in TONES {
            let stream = from_bytes(&bytes_of(name));
            // These two are read from their ends, where a stream does not go.
            if name.ends_with(".m4a") || name.ends_with(".caf") {
                let error = stream.unwrap_err().to_string();
                assert!(error.contains("not from a pipe"), "{error}");
            } else {
                assert_eq!(read(stream), read(AudioFile::open(data(name))), "{name}");
            }
        }
    }

    #[test]
    fn memory_gives_the_same_as_the_file_whole_or_not() {
        for (name, ..) in TONES {
            let bytes = bytes_of(name);
            for part in [&bytes[..], &bytes[..bytes.len() * 2 / 3]] {
                let (_folder, path) = as_file(part, "file");
                let from = |file: Result<AudioFile, AudioError>| {
                    file.map(|mut file| (file.duration(), drain(&mut file).0))
                        .map_err(|error| std::mem::discriminant(&error))
                };
                let memory = AudioFile::from_bytes(Arc::<[u8]>::from(part), "test");
                assert_eq!(from(memory), from(AudioFile::open(path)), "{name}");
            }
        }
    }

    #[test]
    fn the_name_of_a_file_means_nothing() {
        let (_folder, path) = as_file(&bytes_of("tone.flac"), "speech.mp3");
        assert_eq!(
            read(AudioFile::open(path)),
            read(AudioFile::open(data("tone.flac")))
        );
    }

    #[test]
    fn the_first_track_that_can_be_decoded_is_heard() {
        let heard = read(AudioFile::open(data("two-tracks.mkv")));
        assert_eq!(heard, read(AudioFile::open(data("tone.mkv"))));
    }

    mod wav {
        use super::*;

        fn write<S: hound::Sample + Copy>(
            sample_format: hound::SampleFormat,
            bits_per_sample: u16,
            channels: u16,
            samples: &[S],
        ) -> Vec<u8> {
            let mut bytes = Cursor::new(Vec::new());
            let spec = hound::WavSpec {
                channels,
                sample_rate: 48_000,
                bits_per_sample,
                sample_format,
            };
            let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
            for &sample in samples {
                writer.write_sample(sample).unwrap();
            }
            writer.finalize().unwrap();
            bytes.into_inner()
        }

        fn integers(bits: u16, samples: &[i32]) -> Vec<u8> {
            write(hound::SampleFormat::Int, bits, 1, samples)
        }

        fn floats(channels: u16, samples: &[f32]) -> Vec<u8> {
            write(hound::SampleFormat::Float, 32, channels, samples)
        }

        #[test]
        fn all_depths_have_the_same_scale() {
            let original = tone(440.0, 48_000, 0.1);
            for bits in [8u16, 16, 24, 32] {
                let scale = f64::from(2u32.pow(u32::from(bits) - 1));
                let rounded: Vec<i32> = original
                    .iter()
                    .map(|&x| (f64::from(x) * scale).round() as i32)
                    .collect();
                let samples = read(from_bytes(&integers(bits, &rounded)));
                assert_eq!(samples.len(), original.len());
                for (found, expected) in samples.iter().zip(&original) {
                    let error = f64::from((found - expected).abs());
                    assert!(
                        error <= 0.5 / scale + 1e-7,
                        "{bits} bits: {found}, {expected}"
                    );
                }
            }
            assert_eq!(read(from_bytes(&floats(1, &original))), original);
        }

        #[test]
        fn doubles_are_read() {
            let samples = [0.5f64, -0.25, 0.0];
            let data: Vec<u8> = samples.iter().flat_map(|x| x.to_le_bytes()).collect();
            let bytes = header(3, 1, 16_000, 64, data.len() as u32, &data);
            assert_eq!(read(from_bytes(&bytes)), [0.5, -0.25, 0.0]);
        }

        #[test]
        fn channels_are_averaged() {
            let left = tone(440.0, 48_000, 0.1);
            let opposite: Vec<f32> = left.iter().flat_map(|&x| [x, -x]).collect();
            assert!(
                read(from_bytes(&floats(2, &opposite)))
                    .iter()
                    .all(|&x| x == 0.0)
            );
            let one_side: Vec<f32> = left.iter().flat_map(|&x| [x, 0.0]).collect();
            let half: Vec<f32> = left.iter().map(|x| x / 2.0).collect();
            assert_eq!(read(from_bytes(&floats(2, &one_side))), half);
            let six: Vec<f32> = left.iter().flat_map(|&x| [x; 6]).collect();
            for (found, expected) in read(from_bytes(&floats(6, &six))).iter().zip(&left) {
                assert!((found - expected).abs() < 1e-6);
            }
        }

        #[test]
        fn what_is_not_a_number_becomes_silence() {
            let samples = [0.5, f32::NAN, f32::NEG_INFINITY, 0.25];
            assert_eq!(
                read(from_bytes(&floats(1, &samples))),
                [0.5, 0.0, 0.0, 0.25]
            );
        }

        #[test]
        fn a_header_without_sound_is_a_file_of_no_length() {
            let mut file = from_bytes(&integers(16, &[])).unwrap();
            assert_eq!(file.sample_rate(), 48_000);
            assert!(!file.read(&mut Vec::new()).unwrap());
        }

        /// A WAV header that may lie, and the data after it.
        pub(super) fn header(
            format: u16,
            channels: u16,
            rate: u32,
            bits: u16,
            length: u32,
            data: &[u8],
        ) -> Vec<u8> {
            let frame = channels.wrapping_mul(bits / 8);
            let mut bytes = b"RIFF".to_vec();
            bytes.extend(length.saturating_add(36).to_le_bytes());
            bytes.extend(b"WAVEfmt ");
            bytes.extend(16u32.to_le_bytes());
            bytes.extend(format.to_le_bytes());
            bytes.extend(channels.to_le_bytes());
            bytes.extend(rate.to_le_bytes());
            bytes.extend(rate.wrapping_mul(u32::from(frame)).to_le_bytes());
            bytes.extend(frame.to_le_bytes());
            bytes.extend(bits.to_le_bytes());
            bytes.extend(b"data");
            bytes.extend(length.to_le_bytes());
            bytes.extend(data);
            bytes
        }
    }

    mod hostile {
        use std::panic;
        use std::sync::Once;

        use super::*;

        /// Leaves out the messages of panics in decoders, which come as errors; a backtrace would
        /// also take more memory than the decoder.
        fn be_quiet() {
            static QUIET: Once = Once::new();
            QUIET.call_once(|| {
                let default = panic::take_hook();
                panic::set_hook(Box::new(move |info| {
                    let place = info.location().map_or("", |location| location.file());
                    if !place.contains("symphonia") {
                        default(info);
                    }
                }));
            });
        }

        /// Reads to the end; whatever comes, it comes without a panic and in little memory.
        fn survive(bytes: &[u8]) -> Result<usize, AudioError> {
            be_quiet();
            let read_all = |file: Result<AudioFile, AudioError>| {
                let mut file = file?;
                let (mut count, mut samples) = (0, Vec::new());
                while file.read(&mut samples)? {
                    count += samples.len();
                    samples.clear();
                }
                Ok(count)
            };
            let (_folder, path) = as_file(bytes, "hostile");
            let stream = Cursor::new(bytes.to_vec());
            let (result, bytes) = most(|| {
                let result = read_all(AudioFile::open(&path));
                let _ = read_all(AudioFile::from_reader(stream, "test"));
                result
            });
            assert!(bytes < MEMORY, "{bytes} bytes");
            result
        }

        #[test]
        fn sound_shorter_than_the_header_claims_is_read_to_its_end() {
            // As recorders leave it that write to a pipe, or are killed.
            let samples = vec![1u8; 10_000 * 2 + 1];
            for length in [2_000_000_000, 0x7fff_ffff, u32::MAX - 36, u32::MAX] {
                let bytes = wav::header(1, 1, 16_000, 16, length, &samples);
                assert_eq!(survive(&bytes).unwrap(), 10_000, "{length}");
            }
        }

        #[test]
        fn impossible_numbers_are_told() {
            let told = |channels, rate, bits| {
                let bytes = wav::header(1, channels, rate, bits, 4_000, &[0; 4_000]);
                survive(&bytes).unwrap_err().to_string()
            };
            assert!(told(1, 0, 16).contains("sample rate 0 Hz, expected 8000"));
            assert!(told(1, u32::MAX, 16).contains("sample rate 4294967295 Hz"));
            assert!(told(1, 4_000, 16).contains("sample rate 4000 Hz"));
            for (channels, bits) in [(0, 16), (65_535, 16), (1, 0), (1, 17), (1, 65_535)] {
                let message = told(channels, 16_000, bits);
                assert!(
                    message.contains("broken: "),
                    "{channels}, {bits}: {message}"
                );
            }
        }

        #[test]
        fn aiff_with_too_many_channels_takes_no_memory() {
            let mut bytes = bytes_of("tone.aiff");
            let channels = bytes.windows(4).position(|w| w == b"COMM").unwrap() + 8;
            bytes[channels..channels + 2].copy_from_slice(&1_000u16.to_be_bytes());
            let error = survive(&bytes).unwrap_err().to_string();
            assert!(error.contains("1000 channels, expected 1 to 64"), "{error}");
        }

        #[test]
        fn caf_with_huge_packets_takes_no_memory() {
            let mut bytes = bytes_of("tone.caf");
            let description = bytes.windows(4).position(|w| w == b"desc").unwrap() + 12;
            let frames_per_packet = description + 20;
            bytes[frames_per_packet..frames_per_packet + 4].copy_from_slice(&[0x7f; 4]);
            assert!(survive(&bytes).is_err());
        }

        #[test]
        fn files_may_stop_anywhere() {
            for (name, ..) in TONES {
                let bytes = bytes_of(name);
                let dense = (0..bytes.len().min(600)).step_by(7);
                for length in dense.chain((600..bytes.len()).step_by(1_777)) {
                    let result = survive(&bytes[..length]);
                    assert!(length > 0 || matches!(result, Err(AudioError::Empty { .. })));
                }
            }
        }

        #[test]
        fn half_a_file_gives_half_of_the_sound() {
            for name in [
                "tone.flac",
                "tone.mp3",
                "tone.aac",
                "tone.mkv",
                "tone.webm",
                "tone.aiff",
            ] {
                let bytes = bytes_of(name);
                let (_folder, path) = as_file(&bytes[..bytes.len() * 6 / 10], name);
                let mut file = AudioFile::open(path).unwrap();
                let (samples, end) = drain(&mut file);
                end.unwrap();
                let seconds = samples.len() as f64 / f64::from(file.sample_rate());
                assert!(seconds > 0.3, "{name}: {seconds} s");
            }
        }

        #[test]
        fn damage_in_the_middle_is_stepped_over() {
            for (name, least) in [("tone.mp3", 0.75), ("tone.aac", 0.85), ("tone.flac", 0.85)] {
                let mut bytes = bytes_of(name);
                let middle = bytes.len() / 2;
                for (n, byte) in bytes[middle..middle + 400].iter_mut().enumerate() {
                    *byte = (n * 37 + 11) as u8;
                }
                let mut file = from_bytes(&bytes).unwrap();
                let (samples, end) = drain(&mut file);
                end.unwrap();
                let seconds = samples.len() as f64 / f64::from(file.sample_rate());
                assert!(seconds > least, "{name}: {seconds} s");
                let (start, _) = bounds(&samples, file.sample_rate());
                assert!(start < 0.28, "{name}: begins at {start} s");
            }
        }

        #[test]
        fn a_packet_that_does_not_decode_becomes_silence_of_its_length() {
            let mut bytes = bytes_of("tone.m4a");
            let middle = bytes.len() / 2;
            bytes[middle..middle + 200].fill(0xff);
            let (_folder, path) = as_file(&bytes, "damaged.m4a");
            let mut file = AudioFile::open(path).unwrap();
            let (samples, end) = drain(&mut file);
            end.unwrap();
            assert!(file.skipped_packets() > 0);
            assert_eq!(samples.len(), read(AudioFile::open(data("tone.m4a"))).len());
            let (_, end) = bounds(&samples, 44_100);
            assert!((end - 0.7732).abs() < 0.003, "ends at {end} s");
        }

        #[test]
        fn when_nothing_decodes_it_is_an_error() {
            let mut bytes = bytes_of("tone.m4a");
            let sound = bytes.windows(4).position(|w| w == b"mdat").unwrap() + 4;
            let index = bytes.windows(4).position(|w| w == b"moov").unwrap() - 4;
            bytes[sound..index].fill(0x55);
            let error = survive(&bytes).unwrap_err();
            assert!(
                matches!(
                    error,
                    AudioError::Broken { .. } | AudioError::UnsupportedFeature { .. }
                ),
                "{error}"
            );
        }

        #[test]
        fn files_joined_end_to_end_are_read_to_the_end() {
            // An MP3's header tells the length of the first part only.
            for name in ["tone.mp3", "tone.ogg", "tone.opus", "tone.aac"] {
                let bytes = bytes_of(name);
                let mut file = from_bytes(&[&bytes[..], &bytes[..]].concat()).unwrap();
                let (samples, end) = drain(&mut file);
                end.unwrap();
                let (start, end) = bounds(&samples, file.sample_rate());
                assert!((start - 0.25).abs() < 0.03, "{name}: begins at {start} s");
                assert!((end - 1.75).abs() < 0.1, "{name}: ends at {end} s");
            }
        }

        #[test]
        fn a_change_of_the_rate_is_told_after_the_sound_before() {
            let joined = [bytes_of("tone.opus"), bytes_of("tone.ogg")].concat();
            let (samples, end) = drain(&mut from_bytes(&joined).unwrap());
            assert_eq!(samples.len(), 48_000);
            assert_eq!(
                end.unwrap_err().to_string(),
                "test: the sample rate changes from 48000 to 44100 Hz after 1.0 s; convert it to \
                 one rate, for example with `ffmpeg -i INPUT -ar 16000 OUTPUT.wav`"
            );
        }

        proptest! {
            #![proptest_config(ProptestConfig::with_cases(256))]

            #[test]
            fn random_damage_never_panics(
                which in 0..TONES.len(),
                damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..30),
                head in any::<bool>(),
            ) {
                let mut bytes = bytes_of(TONES[which].0);
                // Half of the time only the headers.
                let reach = if head { bytes.len().min(200) } else { bytes.len() };
                for (at, value) in damage {
                    bytes[at.index(reach)] = value;
                }
                let _ = survive(&bytes);
            }
        }
    }

    mod refused {
        use super::*;

        fn refuse(bytes: &[u8], name: &str) -> String {
            let (_folder, path) = as_file(bytes, name);
            let error = AudioFile::open(&path).unwrap_err().to_string();
            assert!(error.starts_with(&path.display().to_string()), "{error}");
            error
        }

        #[test]
        fn what_is_not_there() {
            let error = AudioFile::open("no/such/file.wav").unwrap_err().to_string();
            assert_eq!(error, "no/such/file.wav: no such file; check the path");
            let folder = tempfile::tempdir().unwrap();
            let error = AudioFile::open(folder.path()).unwrap_err();
            assert!(matches!(error, AudioError::IsDirectory { .. }), "{error}");
            assert!(refuse(&[], "empty.wav").contains("is empty; record"));
            let empty = from_bytes(&[]).unwrap_err();
            assert!(matches!(empty, AudioError::Empty { .. }), "{empty}");
        }

        #[test]
        fn what_is_not_audio() {
            for (bytes, found) in [
                (
                    &b"This is not a sound, it was only named so.\n"[..],
                    "found plain text,",
                ),
                (
                    "말소리를 글로 옮긴다\n".repeat(40).as_bytes(),
                    "found plain text,",
                ),
                (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "found a PNG picture,"),
                (b"PK\x03\x04\x14\0\0\0", "found a zip archive,"),
                (b"\x7fELF\x02\x01\x01\0\xff\xfe\0\0", "found a program,"),
                (b"RF64\xff\xff\xff\xffWAVEds64", "found 64-bit WAV (RF64),"),
                (b"\x01\x02\x03\x80", "begins with the bytes 01 02 03 80,"),
            ] {
                let error = refuse(bytes, "speech.wav");
                assert!(error.contains(found), "{error}");
                assert!(
                    error.contains("expected WAV, AIFF, CAF, FLAC, MP3"),
                    "{error}"
                );
            }
        }

        #[test]
        fn what_cannot_be_decoded() {
            let error = AudioFile::open(data("ac3.mkv")).unwrap_err().to_string();
            assert!(
                error.contains("coded as Dolby Digital (AC-3), which cannot"),
                "{error}"
            );
            let error = AudioFile::open(data("no-sound.mkv"))
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("no audio track among its 1 tracks"),
                "{error}"
            );
            // MP3 in a WAV.
            let error = refuse(&wav::header(0x55, 1, 16_000, 16, 4, &[0; 4]), "mp3.wav");
            assert!(
                error.contains("unsupported wave format; convert it"),
                "{error}"
            );
        }
    }
}
