//! `/v1/stream`: sound in, events out. The protocol is in `docs/serve.md`.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::Response;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use sori::Event;
use sori::audio::{AudioError, OpusPackets, PcmFormat, PcmReader, SAMPLE_RATE};

use super::Server;
use super::room::{Failure, Hearing, Seat, Sent};
use super::socket::{self, Client, Fault, Given};

/// The format whose messages are one Opus packet each.
const OPUS: &str = "opus";

/// The first message of a client.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Opening {
    /// May be left out.
    #[serde(default, rename = "type")]
    _kind: Option<OpeningKind>,
    /// A name of [`PcmFormat`], or [`OPUS`].
    #[serde(default = "default_format")]
    format: String,
    /// Hz; an Opus packet needs none.
    #[serde(default = "default_rate", deserialize_with = "whole")]
    sample_rate: u32,
    #[serde(default = "one")]
    channels: u16,
    /// Whether utterances are told before they are finished.
    #[serde(default = "yes")]
    partials: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum OpeningKind {
    Start,
}

/// Every other message that is no sound.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
enum Control {
    Finish {},
}

fn default_format() -> String {
    PcmFormat::S16Le.name().to_owned()
}

/// A whole number; Python writes 16000.0 for a rate that it holds as a float.
fn whole<'de, D: Deserializer<'de>>(number: D) -> Result<u32, D::Error> {
    let number = f64::deserialize(number)?;
    if number.fract() != 0.0 || !(0.0..=f64::from(u32::MAX)).contains(&number) {
        return Err(D::Error::custom(format!(
            "expected whole Hz, found {number}"
        )));
    }
    Ok(number as u32)
}

fn default_rate() -> u32 {
    SAMPLE_RATE
}

fn one() -> u16 {
    1
}

fn yes() -> bool {
    true
}

pub(crate) async fn upgrade(
    State(server): State<Arc<Server>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    socket::upgrade(server, upgrade, "stream", session)
}

async fn session(server: Arc<Server>, seat: Seat, mut client: Client) {
    let fault = converse(&server, seat, &mut client).await.err();
    if let Some(fault) = &fault
        && !matches!(fault, Fault::Gone | Fault::Closing)
    {
        server.metrics.error(fault.code());
        let error = json!({"event": "error", "code": fault.code(), "message": fault.to_string()});
        // Whoever is gone meanwhile is told by nothing.
        let _ = client.say(error.to_string()).await;
    }
    client.close(fault.as_ref()).await;
}

async fn converse(server: &Server, seat: Seat, client: &mut Client) -> Result<(), Fault> {
    let opening = opening(client).await?;
    let partials = opening.partials;
    let mut hearing = server.room.open(seat, move || source(&opening)).await?;
    let model = &server.room.model;
    let ready = json!({
        "event": "ready",
        "model": model.name,
        "language": model.language,
        "chunk_ms": model.chunk_ms,
    });
    client.say(ready.to_string()).await?;
    let end = hear(client, &mut hearing, partials).await;
    if let Err(fault) = &end
        && !fault.is_orderly()
    {
        return end;
    }
    let last = hearing.finish().await?;
    tell(client, last.events, partials).await?;
    last.more?;
    // Not all that was sent has been heard.
    if let Err(Fault::Failure(_)) = end {
        return end;
    }
    let milliseconds = (hearing.seconds() * 1e3).round();
    let done = json!({"event": "end", "duration": milliseconds / 1e3});
    client.say(done.to_string()).await?;
    end
}

async fn opening(client: &mut Client) -> Result<Opening, Fault> {
    match client.opening().await {
        Given::Text(text) => {
            // A list would do for a struct, too.
            let object: serde_json::Result<Map<String, Value>> = serde_json::from_str(&text);
            let opening = object.and_then(|object| serde_json::from_value(object.into()));
            opening.map_err(|error| {
                Fault::BadMessage(format!(
                    "the opening message is not as expected, {{\"format\": \"s16le\", \
                     \"sample_rate\": 16000}}: {error}"
                ))
            })
        }
        Given::Sound(_) => Err(Fault::BadMessage(
            "sound came before the opening message, {\"format\": \"s16le\", \"sample_rate\": \
             16000}"
                .to_owned(),
        )),
        Given::End(fault) => Err(fault),
    }
}

fn source(opening: &Opening) -> Result<Sent, AudioError> {
    const NAME: &str = "the stream";
    if opening.format == OPUS {
        return Ok(Sent::Opus(OpusPackets::new(NAME)?, VecDeque::new()));
    }
    let format = opening.format.parse().map_err(|error| match error {
        AudioError::UnknownPcmFormat { found, expected } => AudioError::UnknownPcmFormat {
            found,
            expected: format!("{expected}, {OPUS}"),
        },
        other => other,
    })?;
    let (rate, channels) = (opening.sample_rate, opening.channels);
    let pcm = PcmReader::new(VecDeque::new(), NAME, format, rate, channels)?;
    Ok(Sent::Pcm(pcm))
}

/// Hears until the client says that this was all.
async fn hear(
    client: &mut Client,
    hearing: &mut Hearing<Sent>,
    partials: bool,
) -> Result<(), Fault> {
    loop {
        match client.hear().await {
            Given::Sound(bytes) => {
                hearing.source().ok_or(Failure::Panicked)?.put(bytes);
                let mut more = true;
                while more {
                    let heard = hearing.step().await?;
                    tell(client, heard.events, partials).await?;
                    more = heard.more?;
                }
            }
            Given::Text(text) => {
                let Control::Finish {} = serde_json::from_str(&text).map_err(|error| {
                    let expected = "sound as binary messages, or {\"type\": \"finish\"}";
                    Fault::BadMessage(format!("expected {expected}: {error}"))
                })?;
                return Ok(());
            }
            Given::End(fault) => return Err(fault),
        }
    }
}

async fn tell(client: &mut Client, events: Vec<Event>, partials: bool) -> Result<(), Fault> {
    for event in events {
        if !partials && matches!(event, Event::Partial(_)) {
            continue;
        }
        // An event is made of numbers and text only.
        let text = serde_json::to_string(&event).map_err(|_| Failure::Panicked)?;
        client.say(text).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_whole_however_it_is_written() {
        let rate = |text: &str| {
            let opening = serde_json::from_str::<Opening>(text);
            opening.map(|opening| opening.sample_rate)
        };
        assert_eq!(rate(r#"{"sample_rate": 8000}"#).ok(), Some(8000));
        assert_eq!(rate(r#"{"sample_rate": 16000.0}"#).ok(), Some(16_000));
        for wrong in ["16000.5", "-1", "1e12", "\"16000\""] {
            assert!(
                rate(&format!("{{\"sample_rate\": {wrong}}}")).is_err(),
                "{wrong}"
            );
        }
    }
}
