//! `/vosk`: the protocol of vosk-server, so that its clients work unchanged.
//!
//! Each message of sound gets one reply, as there: what was finished in it, else what is being said.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use sori::audio::{PcmFormat, PcmReader};
use sori::decode::Grammar;
use sori::model::Tokens;
use sori::{Event, Segment, Word};

use super::room::{Failure, Hearing, Pcm, Seat};
use super::socket::{self, Client, Fault, Given};
use super::{Server, rounded};

/// A message that is no sound. Fields that are not known here are left alone, as vosk-server does.
#[derive(Deserialize)]
struct Message {
    config: Option<Config>,
    eof: Option<Value>,
    reset: Option<Value>,
}

#[derive(Deserialize)]
struct Config {
    sample_rate: Option<f64>,
    words: Option<Truth>,
    max_alternatives: Option<u32>,
    phrase_list: Option<Vec<String>>,
}

/// vosk-server takes what Python takes for true.
#[derive(Deserialize)]
#[serde(untagged)]
enum Truth {
    Bool(bool),
    Number(f64),
}

/// The phrase that stands for all speech that is none of a list's.
const UNKNOWN: &str = "[unk]";

/// How replies are written.
struct Style {
    words: bool,
    alternatives: bool,
    /// Whether speech that is none of a list's is told, as [`UNKNOWN`].
    unknown: bool,
}

/// What was heard and is not told yet.
#[derive(Default)]
struct Untold {
    finished: Vec<Segment>,
    /// What is being said; told with every reply that has nothing finished.
    partial: String,
}

impl Untold {
    fn take(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Partial(segment) => self.partial = segment.text,
                Event::Final(segment) => {
                    self.partial.clear();
                    self.finished.push(segment);
                }
                // A search may have taken its words back.
                Event::Endpoint(_) => self.partial.clear(),
                _ => {}
            }
        }
    }

    /// What was finished, else what is being said.
    fn reply(&mut self, style: &Style) -> Value {
        match self.finished.is_empty() {
            true => json!({"partial": self.partial}),
            false => self.result(style),
        }
    }

    /// What was finished, if anything.
    fn result(&mut self, style: &Style) -> Value {
        result(&std::mem::take(&mut self.finished), style)
    }
}

pub(crate) async fn upgrade(
    State(server): State<Arc<Server>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    socket::upgrade(server, upgrade, "vosk", session)
}

async fn session(server: Arc<Server>, seat: Seat, mut client: Client) {
    let fault = converse(&server, seat, &mut client).await.err();
    if let Some(fault) = &fault
        && !matches!(fault, Fault::Gone | Fault::Closing)
    {
        server.metrics.error(fault.code());
    }
    // The protocol has no errors: the reason of the closing frame says why.
    client.close(fault.as_ref()).await;
}

async fn converse(server: &Server, seat: Seat, client: &mut Client) -> Result<(), Fault> {
    let mut hearing = server.room.open(seat, || pcm(8000.0)).await?;
    let mut style = Style {
        words: true,
        alternatives: false,
        unknown: true,
    };
    let mut untold = Untold::default();
    loop {
        match client.hear().await {
            Given::Sound(bytes) => {
                let heard = sound(&mut hearing, &bytes, &mut untold).await;
                client.say(untold.reply(&style).to_string()).await?;
                heard?;
            }
            Given::Text(text) => {
                let message: Message = serde_json::from_str(&text).map_err(|error| {
                    let expected = "{\"config\": {…}} or {\"eof\": 1}";
                    Fault::BadMessage(format!("expected {expected}: {error}"))
                })?;
                if let Some(config) = message.config {
                    configure(&mut hearing, &mut style, &config)?;
                    if let Some(phrases) = config.phrase_list {
                        style.unknown =
                            phrases.is_empty() || phrases.iter().any(|phrase| phrase == UNKNOWN);
                        let ended = hearing.restrict(move |tokens| grammar(&phrases, tokens));
                        untold.take(ended.await?.map_err(Fault::BadMessage)?);
                        untold.partial.clear();
                    }
                    continue;
                }
                if message.eof.is_none() && message.reset.is_none() {
                    continue;
                }
                finish(client, &mut hearing, &mut untold, &style).await?;
                if message.eof.is_some() {
                    return Ok(());
                }
            }
            Given::End(fault) => {
                if fault.is_orderly() {
                    finish(client, &mut hearing, &mut untold, &style).await?;
                }
                return Err(fault);
            }
        }
    }
}

/// Ends the sound, and tells all that is left.
async fn finish(
    client: &mut Client,
    hearing: &mut Hearing<Pcm>,
    untold: &mut Untold,
    style: &Style,
) -> Result<(), Fault> {
    let last = hearing.finish().await?;
    untold.take(last.events);
    untold.partial.clear();
    client.say(untold.result(style).to_string()).await?;
    last.more?;
    Ok(())
}

fn pcm(rate: f64) -> Result<Pcm, sori::audio::AudioError> {
    PcmReader::new(
        VecDeque::new(),
        "the stream",
        PcmFormat::S16Le,
        rate as u32,
        1,
    )
}

fn configure(hearing: &mut Hearing<Pcm>, style: &mut Style, config: &Config) -> Result<(), Fault> {
    if let Some(rate) = config.sample_rate {
        *hearing.source().ok_or(Failure::Panicked)? = pcm(rate).map_err(Failure::from)?;
    }
    match config.words {
        Some(Truth::Bool(words)) => style.words = words,
        Some(Truth::Number(words)) => style.words = words != 0.0,
        None => {}
    }
    if let Some(most) = config.max_alternatives {
        style.alternatives = most > 0;
    }
    Ok(())
}

/// The grammar of a list of phrases: their words in any order, as vosk's model of them allows; no list, no
/// grammar. Other speech is none of it where the list has [`UNKNOWN`], and else heard as the nearest of its words that
/// were said to their end, if any were.
fn grammar(phrases: &[String], tokens: &Tokens) -> Result<Option<Grammar>, String> {
    let known = phrases.iter().filter(|phrase| *phrase != UNKNOWN);
    let words: BTreeSet<&str> = known.flat_map(|phrase| phrase.split_whitespace()).collect();
    if words.is_empty() {
        return Ok(None);
    }
    if let Some(word) = words.iter().find(|word| word.contains('"')) {
        return Err(format!("phrase_list: expected words, found {word}"));
    }
    let words: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
    let grammar = format!("#JSGF V1.0; public <said> = ({})+;", words.join(" | "));
    let grammar = Grammar::parse(grammar.as_bytes(), "phrase_list", tokens)
        .map_err(|error| error.to_string())?;
    Ok(Some(match phrases.iter().any(|phrase| phrase == UNKNOWN) {
        true => grammar,
        false => grammar.with_tolerance(f32::INFINITY),
    }))
}

/// Hears one message.
async fn sound(
    hearing: &mut Hearing<Pcm>,
    bytes: &[u8],
    untold: &mut Untold,
) -> Result<(), Failure> {
    hearing
        .source()
        .ok_or(Failure::Panicked)?
        .get_mut()
        .extend(bytes);
    let mut more = true;
    while more {
        let heard = hearing.step().await?;
        untold.take(heard.events);
        more = heard.more?;
    }
    Ok(())
}

/// What was finished, as one result: a message gets one reply, however much is in it.
fn result(segments: &[Segment], style: &Style) -> Value {
    let texts: Vec<&str> = segments
        .iter()
        .map(|segment| match segment.out_of_grammar {
            true if style.unknown => UNKNOWN,
            _ => &segment.text,
        })
        .filter(|text| !text.is_empty())
        .collect();
    let mut result = json!({"text": texts.join(" ")});
    if style.words && !texts.is_empty() {
        let words = segments.iter().flat_map(|segment| &segment.words);
        result["result"] = words
            .map(|word| vosk_word(word, !style.alternatives))
            .collect();
    }
    if style.alternatives {
        let total: f32 = segments.iter().map(|segment| segment.confidence).sum();
        let mean = f64::from(total) / segments.len().max(1) as f64;
        result["confidence"] = json!(rounded(mean, 1e4));
        return json!({"alternatives": [result]});
    }
    result
}

fn vosk_word(word: &Word, confidence: bool) -> Value {
    let mut entry = json!({
        "start": rounded(word.start, 1e3),
        "end": rounded(word.end, 1e3),
        "word": word.word,
    });
    if confidence {
        entry["conf"] = json!(rounded(f64::from(word.confidence), 1e4));
    }
    entry
}

#[cfg(test)]
mod tests {
    use sori::{Endpoint, EndpointRule};

    use super::*;

    fn segment(text: &str) -> Segment {
        Segment {
            start: 0.0,
            end: 1.0,
            text: text.to_owned(),
            confidence: 1.0,
            words: Vec::new(),
            tokens: Vec::new(),
            alternatives: Vec::new(),
            raw_text: None,
            out_of_grammar: false,
        }
    }

    #[test]
    fn what_a_list_does_not_know_is_told_only_where_it_asks_for_that() {
        let unmatched = Segment {
            out_of_grammar: true,
            ..segment("")
        };
        for (unknown, text) in [(true, UNKNOWN), (false, "")] {
            let style = Style {
                words: true,
                alternatives: false,
                unknown,
            };
            assert_eq!(
                result(std::slice::from_ref(&unmatched), &style)["text"],
                text
            );
        }
    }

    #[test]
    fn an_utterance_that_is_over_is_not_being_said() {
        let style = Style {
            words: false,
            alternatives: false,
            unknown: true,
        };
        let mut untold = Untold::default();
        let mut reply = |events| {
            untold.take(events);
            untold.reply(&style)
        };
        let over = Event::Endpoint(Endpoint {
            time: 1.0,
            rule: EndpointRule::Silence,
        });
        let one = || Event::Partial(segment("one"));
        assert_eq!(reply(vec![one()]), json!({"partial": "one"}));
        // Its word was taken back.
        assert_eq!(reply(vec![over.clone()]), json!({"partial": ""}));
        let said = vec![one(), Event::Final(segment("one")), over];
        assert_eq!(reply(said), json!({"text": "one"}));
        assert_eq!(reply(Vec::new()), json!({"partial": ""}));
        let cut = vec![Event::Final(segment("one")), Event::Partial(segment("two"))];
        assert_eq!(reply(cut), json!({"text": "one"}));
        assert_eq!(reply(Vec::new()), json!({"partial": "two"}));
    }
}
