use std::net::{TcpListener, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use sori::engine::EngineOptions;
use tokio::sync::watch;

use super::Outcome;
use super::interrupt;
use super::model::{EndpointArgs, ModelArgs, SearchArgs};
use crate::serve::{self, Access, Closing, Limits, Model, Settings};

/// Captions for other programs and for browsers: HTTP and WebSocket, until Ctrl-C.
///
/// / is a page that captions the microphone; /v1/stream takes sound over a WebSocket, /vosk does so as
/// vosk-server does, POST /v1/audio/transcriptions takes files as OpenAI does. /healthz and /metrics
/// tell how it is. The first Ctrl-C or SIGTERM finishes every stream, the second does not wait.
#[derive(Args)]
pub(super) struct Serve {
    /// Address and port to listen on; port 0 takes a free one. The address is told on stderr.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2700", value_parser = host_and_port)]
    listen: String,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    search: SearchArgs,
    #[command(flatten)]
    endpoint: EndpointArgs,
    /// Let in only who knows one of the tokens in FILE, one a line, given as
    /// `Authorization: Bearer TOKEN` or ?token=TOKEN.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Let pages of another server use this one, as https://example.org; may be given again.
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    allow_origin: Vec<String>,
    /// Chunks that are computed at the same time; as many as there are processors without this.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Streams and files that are heard at once; more are refused.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_streams: u32,
    /// HTTP connections at once; more are refused.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_connections: u32,
    /// Size of a file, in MB.
    #[arg(long, value_name = "MB", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=4096))]
    max_upload: u32,
    /// How long a file may sound, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 4 * 3600, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    max_duration: u64,
    /// Length of a WebSocket session, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 4 * 3600, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    max_session: u64,
    /// Time without sound after which a session ends, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    idle_timeout: u64,
}

/// Most copies of the model that ONNX Runtime holds, whatever the machine has: each follows some hundred live streams.
const MOST_PARALLEL: usize = 8;

impl Serve {
    pub(super) fn run(&self) -> anyhow::Result<Outcome> {
        let tokens = match &self.token_file {
            Some(path) => serve::read_tokens(path)?,
            None => Vec::new(),
        };
        let cannot_listen = || format!("cannot listen on {}", self.listen);
        let listener = self
            .listen
            .to_socket_addrs()
            .and_then(|addresses| TcpListener::bind(addresses.collect::<Vec<_>>().as_slice()))
            .with_context(cannot_listen)?;
        let address = listener.local_addr().with_context(cannot_listen)?;
        let workers = self.workers();
        let parallel = workers.min(MOST_PARALLEL);
        let streams = EngineOptions {
            parallel,
            batch: true,
            ..EngineOptions::default()
        };
        let opened = self
            .model
            .open(self.endpoint.rules(), &self.search, streams)?;
        // Streams that share a run wait with a thread each: for all runs at once, and for the next of them.
        let together = opened
            .recognizer
            .batching()
            .map_or(0, |batching| (parallel + 1) * batching.streams)
            .min(self.max_streams as usize);
        let config = opened.recognizer.package().config();
        let model = Model {
            name: config.name.clone(),
            language: config.language.clone(),
            chunk_ms: config.streaming.chunk_ms,
        };
        let loopback = address.ip().is_loopback();
        if !loopback && tokens.is_empty() {
            tracing::warn!(
                "anyone who reaches {address} can use this server: give it a --token-file, or \
                 listen on 127.0.0.1"
            );
        }
        let settings = Settings {
            access: Access {
                tokens,
                origins: self.allow_origin.clone(),
                loopback,
            },
            limits: Limits {
                streams: self.max_streams as usize,
                connections: self.max_connections as usize,
                upload: self.max_upload as usize * 1_000_000,
                duration: Duration::from_secs(self.max_duration),
                session: Duration::from_secs(self.max_session),
                idle: Duration::from_secs(self.idle_timeout),
            },
            threads: workers.max(together),
            recognizer: opened.recognizer.clone(),
        };
        let closing = closing_on_signal()?;
        super::say(format_args!(
            "sori: captions at http://{address}/; Ctrl-C ends"
        ));
        serve::run(
            listener,
            settings,
            model,
            Arc::new(move || opened.stream()),
            closing,
        )?;
        Ok(Outcome::Done)
    }

    fn workers(&self) -> usize {
        self.workers.map_or_else(super::processors, usize::from)
    }
}

/// Turns true at the first Ctrl-C (or termination signal); the second ends the process.
fn closing_on_signal() -> anyhow::Result<Closing> {
    let (closing, watcher) = watch::channel(false);
    interrupt::catch(move || {
        if closing.send_replace(true) {
            std::process::exit(1);
        }
    })?;
    Ok(Closing(watcher))
}

fn host_and_port(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(text.to_owned())
        }
        _ => Err("expected HOST:PORT, as 127.0.0.1:2700 or [::1]:2700".to_owned()),
    }
}

fn origin(text: &str) -> Result<String, String> {
    let origin = serve::plain_origin(text.trim_end_matches('/'));
    match origin.split_once("://") {
        Some(("http" | "https", host)) if !host.is_empty() && !host.contains('/') => Ok(origin),
        _ => Err(
            "expected a page's origin, as https://example.org or http://localhost:3000".to_owned(),
        ),
    }
}
