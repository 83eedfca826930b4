use std::io;

use super::{MAX_CHANNELS, SAMPLE_RATES};

/// What `AudioFile` reads, for messages.
const READABLE: &str = "WAV, AIFF, CAF, FLAC, MP3, Ogg Vorbis, Opus, M4A or AAC, Matroska or WebM";

/// Why a source gives no sound.
///
/// `input` is the path or name that the caller gave, `device` the microphone's name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AudioError {
    /// There is no file of this name. Check the spelling and the folder.
    #[error("{input}: no such file; check the path")]
    NotFound {
        /// The path that was given.
        input: String,
    },
    /// The path is a folder. Give the files in it one by one.
    #[error("{input}: is a directory; give an audio file in it")]
    IsDirectory {
        /// The path that was given.
        input: String,
    },
    /// The input ends before its first byte. A recording or a copy that failed, most often.
    #[error("{input}: is empty; record or copy the audio again")]
    Empty {
        /// The path or name of the input.
        input: String,
    },
    /// The system refused to read the input. The cause says why (permissions, a broken disk).
    #[error("{input}: cannot be read: {source}")]
    Read {
        /// The path or name of the input.
        input: String,
        /// What the system said.
        source: io::Error,
    },
    /// The input is not in a format that is read here. Convert it to one that is.
    #[error(
        "{input}: not an audio file that can be read: found {found}, expected {READABLE}; \
         convert it, for example with `ffmpeg -i INPUT OUTPUT.wav`"
    )]
    UnknownFormat {
        /// The path or name of the input.
        input: String,
        /// What the first bytes look like.
        found: String,
    },
    /// The file is well formed but holds no sound (a film without sound, subtitles).
    #[error("{input}: no audio track among its {tracks} tracks; give a file with sound")]
    NoAudioTrack {
        /// The path or name of the input.
        input: String,
        /// How many tracks it has.
        tracks: usize,
    },
    /// The file is in a known format and uses a part of it that is not read here. Convert the file.
    #[error(
        "{input}: cannot be decoded: {feature}; convert it, for example with \
         `ffmpeg -i INPUT OUTPUT.wav`"
    )]
    UnsupportedFeature {
        /// The path or name of the input.
        input: String,
        /// What is missing.
        feature: String,
    },
    /// The container is known, the way in which its sound is coded is not. Convert the file.
    #[error(
        "{input}: its sound is coded as {codec}, which cannot be decoded; convert it, for example \
         with `ffmpeg -i INPUT OUTPUT.wav`"
    )]
    UnsupportedCodec {
        /// The path or name of the input.
        input: String,
        /// The codec or the property of it that is missing.
        codec: String,
    },
    /// The file contradicts its own format. Copy or record it again; what was read before the
    /// error is good.
    #[error("{input}: broken{}: {reason}; copy or record it again", after(*seconds))]
    Broken {
        /// The path or name of the input.
        input: String,
        /// How much sound was decoded before.
        seconds: f64,
        /// What the decoder met.
        reason: String,
    },
    /// The sample rate changes inside of the file, as in joined recordings. Convert the file.
    #[error(
        "{input}: the sample rate changes from {before} to {after} Hz after {seconds:.1} s; \
         convert it to one rate, for example with `ffmpeg -i INPUT -ar 16000 OUTPUT.wav`"
    )]
    RateChanged {
        /// The path or name of the input.
        input: String,
        /// How much sound was decoded before.
        seconds: f64,
        /// The rate so far, in Hz.
        before: u32,
        /// The rate from here on, in Hz.
        after: u32,
    },
    /// The rate is outside of what is resampled: a wrong argument, a broken header, or a
    /// recording that is not of sound.
    #[error(
        "{input}: sample rate {found} Hz, expected {} to {} Hz; convert the audio, for example \
         with `ffmpeg -i INPUT -ar 16000 OUTPUT.wav`",
        SAMPLE_RATES.start(),
        SAMPLE_RATES.end()
    )]
    UnsupportedRate {
        /// The path or name of the input.
        input: String,
        /// The rate in Hz.
        found: u32,
    },
    /// No recording has this many channels: a wrong argument, or a broken header.
    #[error("{input}: {found} channels, expected 1 to {MAX_CHANNELS}")]
    UnsupportedChannels {
        /// The path or name of the input.
        input: String,
        /// The number of channels.
        found: u16,
    },
    /// No raw sample format has this name: a wrong argument.
    #[error("`{found}` is not a raw sample format; expected one of {expected}")]
    UnknownPcmFormat {
        /// The name that was given.
        found: String,
        /// The names there are.
        expected: String,
    },
    /// The sound system is not there. On Linux without ALSA's configuration, for example.
    #[error(
        "no sound system: {reason}; check that the system's sound service is installed and runs"
    )]
    NoSoundSystem {
        /// What the sound system said.
        reason: String,
    },
    /// There is no microphone to open by default: none is connected, or no sound service is
    /// there to offer one (in a container, for example).
    #[error(
        "no microphone: {reason}; check that one is connected, that the system's sound settings \
         show it as an input, and that this program may use it"
    )]
    NoMicrophone {
        /// What the sound system said.
        reason: String,
    },
    /// No input device has this name. The message lists the names there are.
    #[error("no microphone is called `{wanted}`; there are: {available}")]
    DeviceNotFound {
        /// The name or id that was given.
        wanted: String,
        /// The ids of the input devices.
        available: String,
    },
    /// Another program holds the microphone. Close that program.
    #[error("{device}: in use by another program; close that program or choose another microphone")]
    DeviceBusy {
        /// The microphone.
        device: String,
    },
    /// The system does not let this program hear the microphone. Allow it in the privacy settings;
    /// on Linux the user may have to be in the group `audio`.
    #[error(
        "{device}: the system does not allow its use; allow this program to use the microphone"
    )]
    DeviceDenied {
        /// The microphone.
        device: String,
    },
    /// The microphone is there and does not open, or offers nothing that can be used.
    #[error(
        "{device}: cannot be opened: {reason}; check it in the system's sound settings or choose another"
    )]
    DeviceFailed {
        /// The microphone.
        device: String,
        /// What the sound system said.
        reason: String,
    },
    /// The microphone was there and has gone: unplugged, or its sound service has stopped. Call
    /// `Microphone::reopen` when it is back.
    #[error("{device}: lost: {reason}; connect it again, or restart the sound service")]
    DeviceLost {
        /// The microphone.
        device: String,
        /// What the sound system said.
        reason: String,
    },
}

impl AudioError {
    pub(super) fn from_io(input: &str, source: io::Error) -> Self {
        let input = input.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { input },
            io::ErrorKind::IsADirectory => Self::IsDirectory { input },
            _ => Self::Read { input, source },
        }
    }
}

fn after(seconds: f64) -> String {
    if seconds > 0.0 {
        format!(" after {seconds:.1} s of sound")
    } else {
        String::new()
    }
}
