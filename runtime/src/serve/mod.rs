//! `sori serve`: captions over HTTP and WebSocket.
//!
//! Every protocol is a thin translation around the engine room ([`room`]); none of them knows another.
//! One thread looks after all sockets, the room's threads recognise.

mod access;
mod http;
mod limits;
mod lingering;
mod metrics;
mod page;
mod refusal;
mod room;
mod socket;
mod stream;
mod transcriptions;
mod vosk;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sori::Recognizer;
use tokio::sync::{Semaphore, watch};

pub(crate) use access::{Access, plain_origin, read_tokens};
pub(crate) use limits::Limits;
pub(crate) use room::{Model, Opener};

use metrics::Metrics;
use room::Room;

/// What all requests share.
struct Server {
    room: Room,
    access: Access,
    limits: Limits,
    /// Files that may be received at once.
    uploads: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    recognizer: Recognizer,
    closing: Closing,
}

/// Tells whether the server ends.
#[derive(Clone)]
pub(crate) struct Closing(pub(crate) watch::Receiver<bool>);

impl Closing {
    /// Waits until it does.
    async fn wait(&mut self) {
        // Without a sender nobody could say when: then it is now.
        let _ = self.0.wait_for(|closing| *closing).await;
    }
}

/// How a server works.
pub(crate) struct Settings {
    pub(crate) access: Access,
    pub(crate) limits: Limits,
    /// Threads that recognise, or wait for another that does it for them.
    pub(crate) threads: usize,
    /// What streams are of.
    pub(crate) recognizer: Recognizer,
}

/// Answers on `listener` until `closing` says that it is time to end.
pub(crate) fn run(
    listener: TcpListener,
    settings: Settings,
    model: Model,
    opener: Opener,
    closing: Closing,
) -> anyhow::Result<()> {
    let Settings {
        access,
        limits,
        threads,
        recognizer,
    } = settings;
    let metrics = Arc::new(Metrics::default());
    let server = Arc::new(Server {
        room: Room::new(opener, model, limits.streams, Arc::clone(&metrics)),
        access,
        uploads: Arc::new(Semaphore::new(Limits::UPLOADS)),
        limits,
        metrics,
        recognizer,
        closing,
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(threads)
        // A thread keeps what it has warmed up.
        .thread_keep_alive(Duration::from_secs(3600))
        .build()
        .context("cannot start the server's threads")?;
    runtime.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        http::serve(listener, server).await;
        Ok(())
    })
}

/// A number as it is told: with 1e3 to the thousandth, with 1e4 to four places.
fn rounded(number: f64, unit: f64) -> f64 {
    (number * unit).round() / unit
}
