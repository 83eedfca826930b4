use serde::Serialize;

/// When an utterance is over: the rules of Kaldi's online decoders (`online-endpoint.h`), reduced
/// to those that make sense without a grammar. The first that holds ends the utterance.
///
/// All durations are seconds; any may be infinite, which turns its rule off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EndpointRules {
    /// Silence after which an utterance without a word is over. Nothing is said then: the rule
    /// lets a caller stop waiting. Default 2.4.
    pub silence: f64,
    /// Silence after a word that ends the utterance. Default 1.2.
    pub silence_after_speech: f64,
    /// Length, from its first word on, at which an utterance is cut at its last word boundary. Default 20.
    pub longest: f64,
}

impl Default for EndpointRules {
    fn default() -> Self {
        Self {
            silence: 2.4,
            silence_after_speech: 1.2,
            longest: 20.0,
        }
    }
}

/// The rule that ended an utterance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EndpointRule {
    /// [`EndpointRules::silence`].
    Silence,
    /// [`EndpointRules::silence_after_speech`].
    SilenceAfterSpeech,
    /// [`EndpointRules::longest`].
    Longest,
}

/// The end of an utterance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Endpoint {
    /// Seconds from the start of the stream.
    #[serde(serialize_with = "super::words::milliseconds")]
    pub time: f64,
    /// Why.
    pub rule: EndpointRule,
}

/// What the rules look at, in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Silence {
    /// Since the last token, or since the utterance began.
    pub(crate) trailing: f64,
    /// Length of the utterance so far, from its first word on.
    pub(crate) utterance: f64,
    /// Whether the utterance has a word.
    pub(crate) speech: bool,
}

impl EndpointRules {
    pub(crate) fn apply(&self, heard: Silence) -> Option<EndpointRule> {
        if heard.speech {
            if heard.trailing >= self.silence_after_speech {
                return Some(EndpointRule::SilenceAfterSpeech);
            }
            return (heard.utterance >= self.longest).then_some(EndpointRule::Longest);
        }
        (heard.trailing >= self.silence).then_some(EndpointRule::Silence)
    }
}
