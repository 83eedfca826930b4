use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;

use crate::audio::{Resampler, i16_to_f32};
use crate::decode::{Beam, Decoder, Fusion, Grammar, Greedy, Phrases};
use crate::engine::{Engine, Session};
use crate::error::Error;
use crate::features::LogMel;
use crate::model::{Calibration, Config, Package};
use crate::options::{Options, Search};
use crate::prose::Prose;
use crate::segment::{
    Clock, Endpoint, EndpointRule, EndpointRules, Segment, Silence, Speller, alternatives, segment,
    word_starts,
};

/// What all streams of a recognizer have in common.
pub(crate) struct Shared {
    pub(crate) package: Package,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) options: Options,
    /// What new streams ask.
    pub(crate) fusion: Option<Arc<Fusion>>,
}

/// What a [`Stream`] has to say. Times are seconds from the start of the stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// The utterance so far. Each replaces the one before it; one without words takes it back.
    Partial(Segment),
    /// A finished utterance; it does not change any more.
    Final(Segment),
    /// The utterance is over, after its [`Event::Final`] if it had words.
    Endpoint(Endpoint),
}

/// One source of audio on its way to words.
///
/// Samples go in by [`accept`](Stream::accept), in pieces of any size: events are the same for all.
/// Once warm, a piece that brings no new token allocates nothing here (what the engine does inside
/// a step is its own).
pub struct Stream {
    pub(crate) shared: Arc<Shared>,
    resampler: Resampler,
    /// 16 kHz samples of the piece at hand.
    samples: Vec<f32>,
    /// Integer samples of the piece at hand as floats.
    floats: Vec<f32>,
    log_mel: LogMel,
    /// Log-mel frames that no chunk has shifted past yet, row-major.
    frames: Vec<f32>,
    session: Box<dyn Session>,
    decoder: Decoder,
    /// Elements of `frames` that a step reads, and by which it advances.
    window: usize,
    shift: usize,
    clock: Clock,
    rules: EndpointRules,
    /// Output frame at which the utterance began.
    utterance: u64,
    /// Output frame at which what was given out ends.
    spoken: u64,
    /// 16 kHz samples heard.
    heard: u64,
    /// Feature frames that steps have shifted past.
    processed: u64,
    /// Whether the last partial is still the last word on the utterance.
    shown: bool,
    events: VecDeque<Event>,
    prose: Option<Prose>,
}

impl Stream {
    /// From the first sample on.
    pub(crate) fn open(shared: Arc<Shared>) -> Result<Self, Error> {
        let Config {
            geometry, features, ..
        } = shared.package.config();
        let window = geometry.window_size * LogMel::BINS;
        let blank = shared.package.tokens().blank();
        let mut decoder = match shared.options.search {
            Search::Greedy => Decoder::Greedy(Greedy::new(blank)),
            Search::Beam(options) => Decoder::Beam(Box::new(Beam::new(blank, options))),
        };
        if let Some(fusion) = &shared.fusion {
            decoder.set_language_model(Some(Arc::clone(fusion)));
        }
        Ok(Self {
            resampler: Resampler::new(LogMel::SAMPLE_RATE)?,
            samples: Vec::new(),
            floats: Vec::new(),
            log_mel: LogMel::new(),
            frames: Vec::with_capacity(2 * window),
            session: shared.engine.session()?,
            decoder,
            window,
            shift: geometry.chunk_shift * LogMel::BINS,
            clock: Clock {
                frame_ms: geometry.subsampling_factor as u64 * u64::from(features.frame_shift_ms),
            },
            rules: shared.options.endpoint,
            utterance: 0,
            spoken: 0,
            heard: 0,
            processed: 0,
            shown: false,
            events: VecDeque::new(),
            prose: (shared.options.prose)
                .then(|| Prose::new(&shared.package.config().language))
                .flatten(),
            shared,
        })
    }

    /// Hears mono samples in `[-1, 1]` at `sample_rate` Hz and returns what there is to say now.
    ///
    /// The rate may be any that [`Resampler`] accepts; when it changes, what the old resampler
    /// still held is heard first. Events left in the iterator are returned by the next call.
    ///
    /// # Errors
    /// [`Error::Audio`] for a rate that cannot be resampled, [`Error::Engine`] when a step fails.
    /// After an error [`reset`](Stream::reset) the stream.
    pub fn accept(&mut self, sample_rate: u32, samples: &[f32]) -> Result<Events<'_>, Error> {
        self.switch_rate(sample_rate)?;
        // A second at a time, so that memory follows the rate and not the length of the piece.
        for piece in samples.chunks(sample_rate.max(1) as usize) {
            self.samples.clear();
            self.resampler.accept(piece, &mut self.samples);
            self.hear()?;
        }
        Ok(Events {
            events: &mut self.events,
        })
    }

    /// Hears 16-bit samples: [`accept`](Stream::accept) for sources that have no floats.
    ///
    /// # Errors
    /// As for [`accept`](Stream::accept).
    pub fn accept_i16(&mut self, sample_rate: u32, samples: &[i16]) -> Result<Events<'_>, Error> {
        let mut floats = std::mem::take(&mut self.floats);
        floats.clear();
        i16_to_f32(samples, &mut floats);
        let result = self.accept(sample_rate, &floats).map(drop);
        self.floats = floats;
        result.map(|()| Events {
            events: &mut self.events,
        })
    }

    /// Ends the audio: flushes every stage with the tail of [`Options::tail`], gives the last
    /// words out and starts over at time 0, ready for other audio.
    ///
    /// # Errors
    /// [`Error::Engine`] when a step fails; the stream has started over all the same, and
    /// [`events`](Stream::events) has the words from before it.
    pub fn finish(&mut self) -> Result<Events<'_>, Error> {
        let flushed = self.flush();
        if flushed.is_err() {
            self.give_out(usize::MAX);
        }
        self.start_over();
        flushed?;
        Ok(Events {
            events: &mut self.events,
        })
    }

    /// Drops everything heard and every event not taken, and starts over at time 0.
    pub fn reset(&mut self) {
        self.start_over();
        self.events.clear();
    }

    /// Ends the utterance here and now: its words come as [`Event::Final`], with no [`Event::Endpoint`]. What the
    /// model remembers of the audio stays, and sound that does not fill a chunk yet is heard with the next one: it
    /// belongs to the next utterance. Where the source pauses, as behind a button that was let go,
    /// [`finish`](Self::finish) hears it all.
    pub fn end_utterance(&mut self) -> Events<'_> {
        self.give_out(usize::MAX);
        self.utterance = self.decoder.frames();
        Events {
            events: &mut self.events,
        }
    }

    /// Changes the endpoint rules from here on.
    pub fn set_endpoint_rules(&mut self, rules: EndpointRules) {
        self.rules = rules;
    }

    /// [Ends the utterance](Self::end_utterance), then boosts other phrases, or none. A stream that searches greedily
    /// turns to a beam of default width, since phrases need one.
    ///
    /// # Panics
    /// If they were made with another model's tokens than this one's ([`Package::tokens`]), as far as their number tells.
    pub fn set_phrases(&mut self, phrases: Option<Arc<Phrases>>) -> Events<'_> {
        self.check_tokens(phrases.as_ref().map(|phrases| phrases.tokens()));
        self.end_utterance();
        self.decoder.set_phrases(phrases);
        Events {
            events: &mut self.events,
        }
    }

    /// [Ends the utterance](Self::end_utterance), then asks another language model, or none; the package may bring one
    /// along ([`Package::language_model`]). Every utterance is a sentence of its own. A stream that searches
    /// greedily turns to a beam of default width.
    ///
    /// # Panics
    /// If it was put to work with another model's tokens, as [`set_phrases`](Self::set_phrases).
    pub fn set_language_model(&mut self, fusion: Option<Arc<Fusion>>) -> Events<'_> {
        self.check_tokens(fusion.as_ref().map(|fusion| fusion.tokens()));
        self.end_utterance();
        self.decoder.set_language_model(fusion);
        Events {
            events: &mut self.events,
        }
    }

    /// [Ends the utterance](Self::end_utterance), then hears sentences of another grammar only, or anything
    /// again. Every utterance is a sentence, or none ([`Segment::out_of_grammar`]); phrases and a language model
    /// choose among sentences. A stream that searches greedily turns to a beam of default width.
    ///
    /// # Panics
    /// If it was made with another model's tokens, as [`set_phrases`](Self::set_phrases).
    pub fn set_grammar(&mut self, grammar: Option<Arc<Grammar>>) -> Events<'_> {
        self.check_tokens(grammar.as_ref().map(|grammar| grammar.tokens()));
        self.end_utterance();
        self.decoder.set_grammar(grammar);
        Events {
            events: &mut self.events,
        }
    }

    /// The events that no call has returned yet, for callers who ask for them apart from giving audio.
    pub fn events(&mut self) -> Events<'_> {
        Events {
            events: &mut self.events,
        }
    }

    /// Seconds of audio heard so far.
    #[must_use]
    pub fn time(&self) -> f64 {
        self.heard as f64 / f64::from(LogMel::SAMPLE_RATE)
    }

    /// What leads the search indexes its tables with the model's tokens.
    fn check_tokens(&self, theirs: Option<usize>) {
        let own = self.shared.package.tokens().blank();
        if let Some(theirs) = theirs {
            assert!(
                theirs == own,
                "made for a model with {theirs} tokens, this one has {own}: make it anew with the tokens of this package"
            );
        }
    }

    fn switch_rate(&mut self, rate: u32) -> Result<(), Error> {
        if rate != self.resampler.rate() {
            let next = Resampler::new(rate)?;
            self.drain_resampler()?;
            self.resampler = next;
        }
        Ok(())
    }

    /// Hears what the resampler still holds.
    fn drain_resampler(&mut self) -> Result<(), Error> {
        self.samples.clear();
        self.resampler.finish(&mut self.samples);
        self.hear()
    }

    /// Takes `samples`, at 16 kHz, through features and every chunk they complete.
    fn hear(&mut self) -> Result<(), Error> {
        self.heard += self.samples.len() as u64;
        self.log_mel.accept(&self.samples, &mut self.frames);
        self.run_chunks()
    }

    fn run_chunks(&mut self) -> Result<(), Error> {
        let mut start = 0;
        let mut result = Ok(());
        while self.frames.len() >= start + self.window {
            match self.session.step(&self.frames[start..start + self.window]) {
                Ok(log_probs) => {
                    let news = self.decoder.accept(log_probs);
                    start += self.shift;
                    self.processed += (self.shift / LogMel::BINS) as u64;
                    self.speak(news);
                }
                Err(error) => {
                    result = Err(error.into());
                    break;
                }
            }
        }
        self.frames.drain(..start);
        result
    }

    /// Says what a chunk brought: an endpoint, or a partial when there are new tokens.
    fn speak(&mut self, news: bool) {
        let hits = self.decoder.heard();
        let now = self.decoder.frames();
        let last = hits.last().map_or(self.utterance, |hit| hit.end);
        // From its first word: the silence before it makes nothing too long.
        let first = hits
            .first()
            .map_or(now, |hit| hit.onset.max(self.utterance));
        let heard = Silence {
            trailing: self.clock.seconds(now - last),
            utterance: self.clock.seconds(now - first),
            speech: !hits.is_empty(),
        };
        match self.rules.apply(heard) {
            None => self.partial(news),
            Some(EndpointRule::Longest) => self.cut(heard, news),
            Some(rule) => {
                self.give_out(usize::MAX);
                self.utterance = now;
                self.events.push_back(Event::Endpoint(Endpoint {
                    time: self.clock.seconds(now).min(self.time()),
                    rule,
                }));
            }
        }
    }

    /// Cuts a long utterance before its last word, which may still be growing. An utterance of one
    /// word waits for the next one, but not for ever.
    fn cut(&mut self, heard: Silence, news: bool) {
        let hits = self.decoder.hits();
        let boundary = word_starts(hits, self.shared.package.tokens())
            .next_back()
            .filter(|_| self.decoder.has_parts())
            .unwrap_or(0);
        let (count, end) = if boundary > 0 {
            (boundary, hits[boundary].frame)
        } else if !self.decoder.has_parts() || heard.utterance >= 2.0 * self.rules.longest {
            (usize::MAX, self.decoder.frames())
        } else {
            return self.partial(news);
        };
        self.give_out(count);
        self.utterance = end;
        let endpoint = Endpoint {
            time: self.clock.seconds(end).min(self.time()),
            rule: EndpointRule::Longest,
        };
        self.events.push_back(Event::Endpoint(endpoint));
        self.partial(true);
    }

    fn partial(&mut self, news: bool) {
        if !news {
            return;
        }
        match segment(self.decoder.hits(), self.speller()) {
            Some(segment) => {
                self.events.push_back(Event::Partial(segment));
                self.shown = true;
            }
            None => self.take_back(),
        }
    }

    /// Tells that what the last partial said was nothing, as a search may find.
    fn take_back(&mut self) {
        if std::mem::take(&mut self.shown) {
            let nothing = Segment::empty(self.clock.seconds(self.utterance));
            self.events.push_back(Event::Partial(nothing));
        }
    }

    fn speller(&self) -> Speller<'_> {
        let package = &self.shared.package;
        Speller {
            tokens: package.tokens(),
            calibration: package.config().confidence.unwrap_or(Calibration::NONE),
            clock: self.clock,
            floor: self.clock.seconds(self.spoken),
            limit: self.time(),
        }
    }

    /// Gives out the first `count` tokens as a final segment.
    fn give_out(&mut self, count: usize) {
        if count == usize::MAX {
            self.decoder.finish();
        }
        if let Some(hits) = self.decoder.unmatched() {
            let segment = segment(hits, self.speller());
            if let Some(segment) = segment {
                let unmatched = Event::Final(segment.into_unmatched());
                self.events.push_back(unmatched);
                self.shown = false;
            }
        }
        let hits = self.decoder.hits();
        let count = count.min(hits.len());
        let whole = count == hits.len();
        let segment = segment(&hits[..count], self.speller());
        if let Some(mut segment) = segment {
            let wanted = self.shared.options.alternatives;
            if whole && wanted > 0 {
                let tokens = self.shared.package.tokens();
                segment.alternatives = alternatives(&self.decoder, wanted, tokens);
            }
            if let Some(prose) = &mut self.prose {
                prose.write(&mut segment, !whole);
            }
            self.events.push_back(Event::Final(segment));
            self.shown = false;
        } else if whole {
            self.take_back();
            if let Some(prose) = &mut self.prose {
                prose.reset();
            }
        }
        let heard = self
            .decoder
            .unmatched()
            .unwrap_or(&self.decoder.hits()[..count]);
        if let Some(last) = heard.last() {
            self.spoken = self.spoken.max(last.end);
        }
        self.decoder.take(count);
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.drain_resampler()?;
        if self.heard == 0 {
            return Ok(());
        }
        let tail =
            (self.shared.options.tail.clamp(0.0, 10.0) * f64::from(LogMel::SAMPLE_RATE)) as u64;
        let needed = (self.heard + tail).div_ceil(LogMel::SHIFT as u64);
        while self.processed < needed {
            self.log_mel.accept(&[0.0; LogMel::SHIFT], &mut self.frames);
            self.run_chunks()?;
        }
        self.give_out(usize::MAX);
        Ok(())
    }

    fn start_over(&mut self) {
        self.samples.clear();
        self.resampler.finish(&mut self.samples);
        self.log_mel.reset();
        self.frames.clear();
        self.session.reset();
        self.decoder.reset();
        if let Some(prose) = &mut self.prose {
            prose.reset();
        }
        (self.utterance, self.spoken) = (0, 0);
        (self.heard, self.processed) = (0, 0);
        self.shown = false;
    }
}

/// The events that a call brought, in order; taken out of the stream as they are read.
pub struct Events<'a> {
    events: &'a mut VecDeque<Event>,
}

impl Iterator for Events<'_> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}

#[cfg(all(test, feature = "tract"))]
mod tests;
