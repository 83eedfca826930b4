use std::fmt;

use symphonia::core::audio::layouts::CHANNEL_LAYOUT_MONO;
use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::codecs::registry::RegisterableAudioDecoder;
use symphonia::core::errors::Error as MediaError;
use symphonia::core::packet::PacketRef;
use symphonia::core::units::{Duration, Timestamp};
use symphonia_adapter_libopus::OpusDecoder;

use super::formats::guard;
use super::{AudioError, SAMPLE_RATE};

/// Bare Opus packets, decoded one by one: what an encoder gives before a container is put around it, as
/// the `AudioEncoder` of browsers does, or what RTP carries.
///
/// Each packet says itself how long it is and how it was coded (RFC 6716, section 3). Whatever that was,
/// they are heard as mono at [`SAMPLE_RATE`]. The first 6.5 ms are the encoder's own as a rule; they stay.
///
/// ```
/// use sori::audio::OpusPackets;
///
/// let mut packets = OpusPackets::new("the call")?;
/// let mut samples = Vec::new();
/// // 20 ms of silence in mono.
/// packets.decode(&[0xf8, 0xff, 0xfe], &mut samples)?;
/// assert_eq!(samples.len(), 320);
/// # Ok::<(), sori::audio::AudioError>(())
/// ```
pub struct OpusPackets {
    input: String,
    decoder: Box<dyn AudioDecoder>,
    decoded: Vec<f32>,
    /// Samples of all packets so far.
    total: u64,
}

impl OpusPackets {
    /// A decoder at the start of a stream. `input` names it in errors.
    ///
    /// # Errors
    ///
    /// [`AudioError::UnsupportedCodec`] when the decoder has no memory.
    pub fn new(input: &str) -> Result<Self, AudioError> {
        let mut params = AudioCodecParameters::new();
        params
            .for_codec(CODEC_ID_OPUS)
            .with_sample_rate(SAMPLE_RATE)
            .with_channels(CHANNEL_LAYOUT_MONO);
        let options = AudioDecoderOptions::default();
        let decoder = guard(|| OpusDecoder::try_registry_new(&params, &options));
        Ok(Self {
            decoder: decoder.map_err(|_| AudioError::UnsupportedCodec {
                input: input.to_owned(),
                codec: "Opus".to_owned(),
            })?,
            input: input.to_owned(),
            decoded: Vec::new(),
            total: 0,
        })
    }

    /// Decodes a packet (2.5 to 120 ms) and appends its samples to `out`.
    ///
    /// # Errors
    ///
    /// [`AudioError::Broken`] when it is no Opus packet. The next one may be: what was heard stays
    /// heard.
    pub fn decode(&mut self, packet: &[u8], out: &mut Vec<f32>) -> Result<(), AudioError> {
        // To libopus no bytes are a lost packet, of which it makes up the longest that there can be.
        if packet.is_empty() {
            return Err(self.broken("an Opus packet without a byte"));
        }
        let packet = PacketRef::new(0, Timestamp::ZERO, Duration::ZERO, packet);
        let decoded = guard(|| {
            let buffer = self.decoder.decode_ref(&packet)?;
            buffer.copy_to_vec_interleaved(&mut self.decoded);
            Ok(())
        });
        match decoded {
            Ok(()) => {
                self.total += self.decoded.len() as u64;
                out.extend_from_slice(&self.decoded);
                Ok(())
            }
            Err(MediaError::DecodeError(reason)) => Err(self.broken(reason)),
            Err(error) => Err(self.broken(&error.to_string())),
        }
    }

    fn broken(&self, reason: &str) -> AudioError {
        AudioError::Broken {
            input: self.input.clone(),
            seconds: self.total as f64 / f64::from(SAMPLE_RATE),
            reason: reason.to_owned(),
        }
    }
}

impl fmt::Debug for OpusPackets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpusPackets")
            .field("input", &self.input)
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}
