//! Which containers and codecs are read, and what an input is that is none of them.

use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

use symphonia::core::audio::Channels;
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::well_known as codec;
use symphonia::core::codecs::audio::{
    AudioCodecId, AudioCodecParameters, AudioDecoder, AudioDecoderOptions,
};
use symphonia::core::codecs::registry::CodecRegistry;
use symphonia::core::errors::Error as MediaError;
use symphonia::core::formats::probe::{Hint, Probe, ProbeOptions};
use symphonia::core::formats::well_known::{FORMAT_ID_MP1, FORMAT_ID_MP2};
use symphonia::core::formats::{FormatOptions, FormatReader, Track};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::MetadataOptions;
use symphonia_adapter_libopus::OpusDecoder;

use super::{AudioError, MAX_CHANNELS};

/// Bytes before which a format has to begin. An MP3 stream may begin in the middle of a frame, or
/// after some padding; the further one looks, the more likely noise looks like MP3.
const PROBE_DEPTH: u32 = 64 * 1024;

/// Most frames in one packet. Decoders make room for what the header claims; the largest packets
/// in use are FLAC's and ADPCM's, up to half of this.
const MAX_PACKET: u64 = 1 << 18;

static PROBE: LazyLock<Probe> = LazyLock::new(|| {
    let mut probe = Probe::new_with_options(&ProbeOptions {
        max_probe_depth: PROBE_DEPTH,
        ..ProbeOptions::default()
    });
    symphonia::default::register_enabled_formats(&mut probe);
    probe
});

static CODECS: LazyLock<CodecRegistry> = LazyLock::new(|| {
    let mut registry = CodecRegistry::new();
    symphonia::default::register_enabled_codecs(&mut registry);
    registry.register_audio_decoder::<OpusDecoder>();
    registry
});

/// Runs a part of the decoding and turns a panic in it into an error: where arithmetic is checked
/// (debug builds), some readers and decoders overflow on hostile input.
pub(super) fn guard<T>(run: impl FnOnce() -> Result<T, MediaError>) -> Result<T, MediaError> {
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or(Err(MediaError::DecodeError("value out of range")))
}

/// Finds the container of `source`, which begins with the bytes `head`.
pub(super) fn open_container(
    input: &str,
    source: Box<dyn MediaSource>,
    head: &[u8],
) -> Result<Box<dyn FormatReader>, AudioError> {
    let stream = MediaSourceStream::new(source, Default::default());
    let (format, metadata) = (FormatOptions::default(), MetadataOptions::default());
    let reader = guard(|| PROBE.probe(&Hint::new(), stream, format, metadata))
        .map_err(|error| container_error(input, head, error))?;
    // Machine code is full of what looks like the first bytes of these two.
    let format = reader.format_info().format;
    if [FORMAT_ID_MP1, FORMAT_ID_MP2].contains(&format) && head.first() != Some(&0xff) {
        return Err(unknown_format(input, head));
    }
    Ok(reader)
}

/// A track of sound and its decoder.
pub(super) struct DecodedTrack {
    pub(super) id: u32,
    pub(super) decoder: Box<dyn AudioDecoder>,
    /// Seconds of one tick of the packets' times.
    pub(super) tick: f64,
    /// Length in seconds that the header claims.
    pub(super) duration: Option<f64>,
    /// The encoder's padding is still in the decoded sound.
    pub(super) padded: bool,
}

/// The first track that has a decoder.
pub(super) fn first_decodable(input: &str, tracks: &[Track]) -> Result<DecodedTrack, AudioError> {
    let mut first_error = None;
    for track in tracks {
        let Some(CodecParameters::Audio(params)) = &track.codec_params else {
            continue;
        };
        match decode_track(input, track, params) {
            Ok(decoded) => return Ok(decoded),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Err(first_error.unwrap_or(AudioError::NoAudioTrack {
        input: input.to_owned(),
        tracks: tracks.len(),
    }))
}

fn decode_track(
    input: &str,
    track: &Track,
    params: &AudioCodecParameters,
) -> Result<DecodedTrack, AudioError> {
    let channels = params.channels.as_ref().map_or(0, Channels::count);
    if channels > usize::from(MAX_CHANNELS) {
        return Err(AudioError::UnsupportedChannels {
            input: input.to_owned(),
            found: u16::try_from(channels).unwrap_or(u16::MAX),
        });
    }
    if let Some(frames) = params
        .max_frames_per_packet
        .filter(|&frames| frames > MAX_PACKET)
    {
        return Err(AudioError::Broken {
            input: input.to_owned(),
            seconds: 0.0,
            reason: format!("packets of {frames} samples, expected at most {MAX_PACKET}"),
        });
    }
    let mut params = params.clone();
    if [codec::CODEC_ID_PCM_ALAW, codec::CODEC_ID_PCM_MULAW].contains(&params.codec) {
        // CAF tells the 8 bits that are stored, the decoder expects the 16 that they stand for.
        params.bits_per_sample = None;
        params.bits_per_coded_sample = None;
    }
    // Decoders trust the end that the header tells. That of MP3 is often wrong (files joined end to
    // end), so it is left to the caller.
    let padded = params.codec == codec::CODEC_ID_MP3;
    let options = AudioDecoderOptions::default().gapless(!padded);
    let decoder = guard(|| CODECS.make_audio_decoder(&params, &options)).map_err(|error| {
        let name = codec_name(params.codec);
        AudioError::UnsupportedCodec {
            input: input.to_owned(),
            codec: match error {
                MediaError::Unsupported(reason) if reason.starts_with("core (codec)") => name,
                MediaError::Unsupported(reason) => format!("{name} ({reason})"),
                error => format!("{name} ({error})"),
            },
        }
    })?;
    let tick = track.time_base.map_or(0.0, |base| {
        f64::from(base.numer.get()) / f64::from(base.denom.get())
    });
    let seconds = track.duration.map(|ticks| ticks.get() as f64 * tick);
    Ok(DecodedTrack {
        id: track.id,
        decoder,
        tick,
        duration: seconds.filter(|&seconds| seconds > 0.0),
        padded,
    })
}

fn codec_name(id: AudioCodecId) -> String {
    let name = match id {
        codec::CODEC_ID_AAC => "AAC",
        codec::CODEC_ID_AC3 => "Dolby Digital (AC-3)",
        codec::CODEC_ID_ALAC => "ALAC",
        codec::CODEC_ID_DCA => "DTS",
        codec::CODEC_ID_EAC3 => "Dolby Digital Plus (E-AC-3)",
        codec::CODEC_ID_FLAC => "FLAC",
        codec::CODEC_ID_MP1 => "MPEG audio layer 1",
        codec::CODEC_ID_MP2 => "MPEG audio layer 2",
        codec::CODEC_ID_OPUS => "Opus",
        codec::CODEC_ID_SPEEX => "Speex",
        codec::CODEC_ID_TRUEHD => "Dolby TrueHD",
        codec::CODEC_ID_VORBIS => "Vorbis",
        codec::CODEC_ID_WAVPACK => "WavPack",
        codec::CODEC_ID_WMA => "Windows Media Audio",
        _ => return format!("codec {id}"),
    };
    name.to_owned()
}

/// Why no container was found, or why it cannot be read.
fn container_error(input: &str, head: &[u8], error: MediaError) -> AudioError {
    const SPEEX: &[u8] = b"Speex   ";
    if head.starts_with(b"OggS") && head.windows(SPEEX.len()).any(|bytes| bytes == SPEEX) {
        return AudioError::UnsupportedCodec {
            input: input.to_owned(),
            codec: codec_name(codec::CODEC_ID_SPEEX),
        };
    }
    let reason = match error {
        MediaError::Unsupported(reason) if reason.starts_with("core (probe)") => {
            return unknown_format(input, head);
        }
        MediaError::Unsupported(reason) if reason.contains("missing moov") => {
            return AudioError::UnsupportedFeature {
                input: input.to_owned(),
                feature:
                    "its index is missing or at its end (an M4A is read as a file, not from a \
                          pipe)"
                        .to_owned(),
            };
        }
        MediaError::Unsupported(reason) => {
            return AudioError::UnsupportedFeature {
                input: input.to_owned(),
                feature: reason.to_owned(),
            };
        }
        MediaError::IoError(error) if is_from_content(&error) && head.starts_with(b"caff") => {
            "it is cut short (a CAF is read as a file, not from a pipe)".to_owned()
        }
        MediaError::IoError(error) if is_from_content(&error) => {
            "it stops in its header".to_owned()
        }
        MediaError::IoError(error) => return AudioError::from_io(input, error),
        MediaError::DecodeError(reason) => reason.to_owned(),
        error => error.to_string(),
    };
    AudioError::Broken {
        input: input.to_owned(),
        seconds: 0.0,
        reason,
    }
}

/// Whether the content led to a place that is not there; else the system itself failed.
pub(super) fn is_from_content(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::InvalidInput | ErrorKind::OutOfMemory
    )
}

fn unknown_format(input: &str, head: &[u8]) -> AudioError {
    AudioError::UnknownFormat {
        input: input.to_owned(),
        found: describe(head),
    }
}

/// What an input that is not audio seems to be.
fn describe(head: &[u8]) -> String {
    const KNOWN: [(&[u8], &str); 13] = [
        (b"RF64", "64-bit WAV (RF64)"),
        (b"BW64", "64-bit WAV (BW64)"),
        (b"riff", "Sony Wave64"),
        (b"\x30\x26\xb2\x75", "Windows Media"),
        (b"#!AMR", "AMR"),
        (b"wvpk", "WavPack"),
        (b"%PDF", "a PDF document"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"\x89PNG", "a PNG picture"),
        (b"\xff\xd8\xff", "a JPEG picture"),
        (b"\x7fELF", "a program"),
        (
            b"sori-lm",
            "a language model of sori, which is named as --lm=FILE",
        ),
    ];
    if let Some((_, name)) = KNOWN.iter().find(|(magic, _)| head.starts_with(magic)) {
        return (*name).to_owned();
    }
    // The last character may be cut.
    let text = match str::from_utf8(head) {
        Err(error) if error.error_len().is_none() => {
            str::from_utf8(&head[..error.valid_up_to()]).ok()
        }
        text => text.ok(),
    };
    let printable = |c: char| !c.is_control() || c.is_whitespace();
    if text.is_some_and(|text| text.chars().all(printable)) {
        return "plain text".to_owned();
    }
    let bytes: Vec<String> = head
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!(
        "unknown content that begins with the bytes {}",
        bytes.join(" ")
    )
}
