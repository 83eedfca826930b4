//! Files that are damaged, cut off, or lie.

use std::io::Cursor;
use std::panic;
use std::sync::Once;

use proptest::prelude::*;
use sori::audio::{AudioError, AudioFile};
use sori_tests::memory::most;

use super::{TONES, as_file, bounds, bytes_of, data, drain, from_bytes, read, wav};

/// Most memory that reading a small file may take, whatever its header claims.
const MEMORY: usize = 16 << 20;

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
fn sound_behind_a_gap_keeps_its_time() {
    for name in ["tone.flac"] {
        let mut bytes = bytes_of(name);
        let whole = read(from_bytes(&bytes)).len();
        let middle = bytes.len() * 2 / 5;
        for (n, byte) in bytes[middle..middle + 300].iter_mut().enumerate() {
            *byte = (n * 37 + 11) as u8;
        }
        let mut file = from_bytes(&bytes).unwrap();
        let (samples, end) = drain(&mut file);
        end.unwrap();
        let rate = f64::from(file.sample_rate());
        let apart = (samples.len() as f64 - whole as f64).abs() / rate;
        assert!(apart < 0.1, "{name}: {apart} s");
        assert!(file.skipped_packets() > 0, "{name}");
        let (_, end) = bounds(&samples, file.sample_rate());
        assert!((end - 0.75).abs() < 0.1, "{name}: ends at {end} s");
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
        // Nothing of these is damaged; an MP3's second header is no sound.
        if name != "tone.mp3" {
            assert_eq!(file.skipped_packets(), 0, "{name}");
        }
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
