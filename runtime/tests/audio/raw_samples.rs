//! Samples without a header.

use std::io::{self, Read};

use sori::audio::{PcmFormat, PcmReader, i16_to_f32};

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
