use crate::decode::BeamOptions;
use crate::engine::EngineOptions;
use crate::segment::EndpointRules;

/// How a [`Recognizer`](crate::Recognizer) works; the defaults suit dictation and captions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// What runs the graph.
    pub engine: EngineOptions,
    /// When an utterance is over, for new streams.
    pub endpoint: EndpointRules,
    /// Silence fed after the last sample at [`Stream::finish`](crate::Stream::finish), in seconds, before the last chunk
    /// is filled up with more of it. A streaming model fires a little after the sound: without a
    /// tail the last word would be lost. Default 0.4.
    pub tail: f64,
    /// How tokens are found, in new streams.
    pub search: Search,
    /// Alternatives that a finished segment brings along, at most; only a beam has any. Default 0.
    pub alternatives: usize,
    /// Final segments are written as [`Prose`](crate::Prose), if there are rules for the model's language: numbers in
    /// digits, capitals, full stops. Partial ones, and without this all, hold what was said and nothing
    /// else. Default `false`.
    pub prose: bool,
    /// Whether new streams ask the language model of the package, if it brings one along. Default no.
    pub language_model: bool,
}

/// How tokens are found in log-probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Search {
    /// The best token of each frame: the fastest, and the default.
    #[default]
    Greedy,
    /// Several hypotheses at once, which [`Phrases`](crate::decode::Phrases) and a language model may lead.
    Beam(BeamOptions),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            engine: EngineOptions::default(),
            endpoint: EndpointRules::default(),
            tail: 0.4,
            search: Search::Greedy,
            alternatives: 0,
            prose: false,
            language_model: false,
        }
    }
}
