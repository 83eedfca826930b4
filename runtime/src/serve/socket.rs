//! A client behind a WebSocket, held to the limits; what the two protocols have in common.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::{IntoResponse, Response};
use tokio::time::{Instant, timeout, timeout_at};
use tungstenite::error::ProtocolError;

use super::limits::Limits;
use super::refusal::Refusal;
use super::room::{Failure, Seat};
use super::{Closing, Server};

/// A client of one session.
pub(crate) struct Client {
    socket: WebSocket,
    limits: Limits,
    /// When the session has lasted long enough.
    end: Instant,
    /// Since when sound is waited for: text does not count.
    waiting: Option<Instant>,
    closing: Closing,
}

/// What a client gave.
pub(crate) enum Given {
    Text(Utf8Bytes),
    Sound(Bytes),
    /// No more will come, for this reason: what was heard is finished.
    End(Fault),
}

/// Why a session ends before the client ended it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The client closed the socket, or is gone.
    #[error("the client is gone")]
    Gone,
    /// The server ends.
    #[error("the server shuts down")]
    Closing,
    #[error("no sound for {0:?}")]
    Idle(Duration),
    #[error("the session has lasted {0:?}, which is as long as it may; begin another one")]
    TooLong(Duration),
    #[error(
        "a message is longer than {} bytes; send smaller ones",
        Limits::MESSAGE
    )]
    TooLarge,
    /// What came is no WebSocket message.
    #[error("not a WebSocket message: {0}")]
    Malformed(String),
    /// What came is no message of the protocol.
    #[error("{0}")]
    BadMessage(String),
    #[error(transparent)]
    Failure(#[from] Failure),
}

impl Fault {
    /// For programs; stable.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Closing => "closing",
            Self::Idle(_) => "idle",
            Self::TooLong(_) => "session-too-long",
            Self::TooLarge => "message-too-large",
            Self::Malformed(_) => "malformed",
            Self::BadMessage(_) => "bad-message",
            Self::Failure(failure) => failure.code(),
        }
    }

    /// Whether what was heard before may still be finished.
    pub(crate) fn is_orderly(&self) -> bool {
        matches!(
            self,
            Self::Closing | Self::Idle(_) | Self::TooLong(_) | Self::Failure(Failure::Audio(_))
        )
    }

    fn close_code(&self) -> u16 {
        match self {
            Self::Gone => close_code::NORMAL,
            Self::Closing => close_code::AWAY,
            Self::Idle(_) | Self::TooLong(_) => close_code::POLICY,
            Self::TooLarge => close_code::SIZE,
            Self::Malformed(_) => close_code::PROTOCOL,
            Self::BadMessage(_) | Self::Failure(Failure::Audio(_)) => close_code::INVALID,
            Self::Failure(_) => close_code::ERROR,
        }
    }
}

impl Client {
    /// The next message. Sound alone is a sign of life.
    pub(crate) async fn hear(&mut self) -> Given {
        let since = *self.waiting.get_or_insert_with(Instant::now);
        let given = self.hear_within(since, self.limits.idle).await;
        if let Given::Sound(_) = given {
            self.waiting = None;
        }
        given
    }

    /// The first message, for which there is less time.
    pub(crate) async fn opening(&mut self) -> Given {
        self.hear_within(Instant::now(), self.limits.opening())
            .await
    }

    async fn hear_within(&mut self, since: Instant, patience: Duration) -> Given {
        let idle = since + patience;
        loop {
            // A client that sends faster than it is heard never lets the time below run out.
            if Instant::now() >= self.end {
                return Given::End(Fault::TooLong(self.limits.session));
            }
            let message = tokio::select! {
                biased;
                () = self.closing.wait() => return Given::End(Fault::Closing),
                message = timeout_at(idle.min(self.end), self.socket.recv()) => message,
            };
            return match message {
                Err(_) if Instant::now() >= self.end => {
                    Given::End(Fault::TooLong(self.limits.session))
                }
                Err(_) => Given::End(Fault::Idle(patience)),
                Ok(Some(Ok(Message::Text(text)))) => Given::Text(text),
                Ok(Some(Ok(Message::Binary(bytes)))) => Given::Sound(bytes),
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => continue,
                Ok(Some(Ok(Message::Close(_))) | None) => Given::End(Fault::Gone),
                Ok(Some(Err(error))) => Given::End(fault(error)),
            };
        }
    }

    /// Sends a message, unless the client does not take it.
    pub(crate) async fn say(&mut self, text: String) -> Result<(), Fault> {
        self.send(Message::text(text)).await
    }

    async fn send(&mut self, message: Message) -> Result<(), Fault> {
        match timeout(self.limits.idle, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Fault::Gone),
        }
    }

    /// Says why this was all, and waits for the client to say the same.
    pub(crate) async fn close(mut self, fault: Option<&Fault>) {
        const PATIENCE: Duration = Duration::from_secs(1);
        let reason = fault.map(ToString::to_string).unwrap_or_default();
        let frame = CloseFrame {
            code: fault.map_or(close_code::NORMAL, Fault::close_code),
            reason: shortened(&reason).into(),
        };
        let _ = timeout(PATIENCE, async {
            self.socket.send(Message::Close(Some(frame))).await?;
            while let Some(Ok(_)) = self.socket.recv().await {}
            Ok::<(), axum::Error>(())
        })
        .await;
    }
}

/// What a frame of ours has room for: 123 bytes.
fn shortened(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(123)]
}

/// The fault in what axum passes on.
fn fault(error: axum::Error) -> Fault {
    let error = error.into_inner();
    match error.downcast_ref::<tungstenite::Error>() {
        Some(tungstenite::Error::Capacity(_)) => Fault::TooLarge,
        Some(tungstenite::Error::Utf8(_)) => {
            Fault::BadMessage("a text message is not UTF-8; send sound as binary messages".into())
        }
        Some(
            tungstenite::Error::Io(_)
            | tungstenite::Error::ConnectionClosed
            | tungstenite::Error::AlreadyClosed
            | tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake),
        ) => Fault::Gone,
        _ => Fault::Malformed(error.to_string()),
    }
}

/// Takes a seat and turns the request into a session of `protocol`.
pub(crate) fn upgrade<F>(
    server: Arc<Server>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    protocol: &'static str,
    session: impl FnOnce(Arc<Server>, Seat, Client) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            let message = format!("this is a WebSocket: {}", rejection.body_text());
            return Refusal::new(rejection.status(), "not_a_websocket", message).into_response();
        }
    };
    let Some(seat) = server.room.seat(protocol) else {
        let refusal = Refusal::full("streams", server.limits.streams);
        server.metrics.refused(refusal.code);
        return refusal.into_response();
    };
    upgrade
        .max_message_size(Limits::MESSAGE)
        .max_frame_size(Limits::MESSAGE)
        .read_buffer_size(8 << 10)
        .max_write_buffer_size(Limits::MESSAGE)
        .on_upgrade(move |socket| {
            let client = Client {
                socket,
                end: Instant::now() + server.limits.session,
                waiting: None,
                limits: server.limits.clone(),
                closing: server.closing.clone(),
            };
            session(server, seat, client)
        })
}
