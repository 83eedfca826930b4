//! A server of the tone model, and plain clients for it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sori_tests::tone::{SAMPLE, speak_at};
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::CloseFrame;
use tungstenite::{Error, Message, WebSocket};

pub(crate) const TONE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/tone");

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What the sample says.
pub(crate) const FIRST: &str = "one two three";
pub(crate) const SECOND: &str = "소리 going";

pub(crate) struct Server {
    pub(crate) child: Child,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    /// What it said before it was ready.
    pub(crate) said: Vec<String>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::of(Path::new(TONE), arguments)
    }

    /// A server of another model than the usual one.
    pub(crate) fn of(model: &Path, arguments: &[&str]) -> Self {
        Self::run(Command::new(env!("CARGO_BIN_EXE_sori")), model, arguments)
    }

    /// A server that is to outlast its terminal, as `nohup` has it.
    #[cfg(target_os = "linux")]
    pub(crate) fn under_nohup() -> Self {
        let mut command = Command::new("env");
        command.args(["--ignore-signal=HUP", env!("CARGO_BIN_EXE_sori")]);
        Self::run(command, Path::new(TONE), &[])
    }

    fn run(mut command: Command, model: &Path, arguments: &[&str]) -> Self {
        let elsewhere = arguments.contains(&"--listen");
        let listen = ["--listen", "127.0.0.1:0"];
        let mut child = command
            .args(["serve", "--engine", "tract", "--model"])
            .arg(model)
            .args(if elsewhere { &[][..] } else { &listen })
            .args(arguments)
            .env_remove("SORI_MODEL")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let address = loop {
            let line = lines.next().expect("the server ended").unwrap();
            if let Some((_, rest)) = line.split_once("http://") {
                break rest.split('/').next().unwrap().to_owned();
            }
            said.push(line);
        };
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let address = address.replace("0.0.0.0", "127.0.0.1");
        Self {
            child,
            address,
            said,
        }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(&self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        socket
    }

    /// Sends a request as it is and reads the answer to its end.
    pub(crate) fn request(&self, head: &str, body: &[u8]) -> Answer {
        let mut socket = self.connect();
        let length = body.len();
        let host = match head.contains("\r\nhost:") {
            true => String::new(),
            false => format!("\r\nhost: {}", self.address),
        };
        let head = format!("{head}{host}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        socket.write_all(head.as_bytes()).unwrap();
        // A server that refuses may do so before it has it all.
        let _ = socket.write_all(body);
        Answer::read(socket)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.request(&format!("GET {path} HTTP/1.1"), b"")
    }

    /// Uploads `file` with other fields beside it.
    pub(crate) fn transcribe(&self, file: Option<&[u8]>, fields: &[(&str, &str)]) -> Answer {
        const BOUNDARY: &str = "boundary-of-the-form";
        let mut body = Vec::new();
        for (name, value) in fields {
            write!(
                body,
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            )
            .unwrap();
        }
        if let Some(file) = file {
            write!(body, "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"talk.wav\"\r\nContent-Type: audio/wav\r\n\r\n").unwrap();
            body.extend_from_slice(file);
            body.extend_from_slice(b"\r\n");
        }
        write!(body, "--{BOUNDARY}--\r\n").unwrap();
        let head = format!(
            "POST /v1/audio/transcriptions HTTP/1.1\r\ncontent-type: multipart/form-data; boundary={BOUNDARY}"
        );
        self.request(&head, &body)
    }

    pub(crate) fn socket(&self, path: &str) -> Client {
        self.try_socket(path, &[]).unwrap()
    }

    /// A WebSocket, or the answer that it was refused with.
    pub(crate) fn try_socket(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Client, Answer> {
        let mut request = format!("ws://{}{path}", self.address)
            .into_client_request()
            .unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        match tungstenite::client(request, self.connect()) {
            Ok((socket, _)) => Ok(Client { socket }),
            Err(tungstenite::HandshakeError::Failure(Error::Http(response))) => {
                let (head, body) = response.into_parts();
                Err(Answer {
                    status: head.status.as_u16(),
                    head: format!("{:?}", head.headers),
                    body: body.unwrap_or_default(),
                })
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Streams open now; waits a little for `wanted`, since a client is gone before the server knows.
    pub(crate) fn open_streams(&self, wanted: u64) -> u64 {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let open = self.metric("sori_streams_open") as u64;
            if open == wanted || Instant::now() > deadline {
                return open;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or("0").parse().unwrap()
    }

    /// A good client gets its words, whatever others do.
    pub(crate) fn assert_well(&self) {
        let mut client = self.socket("/v1/stream");
        client.text(r#"{"format":"s16le","sample_rate":16000}"#);
        client.sound(&s16(16_000), 3200);
        client.text(r#"{"type":"finish"}"#);
        let (events, _) = client.rest();
        assert_eq!(finals(&events), [FIRST, SECOND]);
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn read(mut socket: TcpStream) -> Self {
        let mut bytes = Vec::new();
        // A refusal may be cut off behind its body.
        let _ = socket.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(&bytes)));
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut body = bytes[end + 4..].to_vec();
        if head.to_lowercase().contains("transfer-encoding: chunked") {
            body = unchunked(&body);
        }
        Self { status, head, body }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The events that were sent one after the other.
    pub(crate) fn sent_events(&self) -> Vec<Value> {
        assert!(self.head.contains("text/event-stream"), "{}", self.head);
        let text = self.text();
        let events = text.lines().filter_map(|line| line.strip_prefix("data: "));
        events
            .map(|event| serde_json::from_str(event).unwrap())
            .collect()
    }

    /// Status and code of an error.
    pub(crate) fn error(&self) -> (u16, String) {
        let error = &self.json()["error"];
        assert!(error["message"].as_str().unwrap().len() > 10, "{error}");
        assert!(
            error["type"].is_string() && error.get("param").is_some(),
            "{error}"
        );
        (self.status, error["code"].as_str().unwrap().to_owned())
    }
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let end = body.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return out;
        }
        out.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + 4 + size..];
    }
}

pub(crate) struct Client {
    pub(crate) socket: WebSocket<TcpStream>,
}

impl Client {
    pub(crate) fn text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).unwrap();
    }

    /// Sends sound in pieces of `size` bytes.
    pub(crate) fn sound(&mut self, bytes: &[u8], size: usize) {
        for piece in bytes.chunks(size) {
            self.socket.send(Message::binary(piece.to_vec())).unwrap();
        }
    }

    /// The next message; the closing frame, if that came instead.
    pub(crate) fn next(&mut self) -> Result<Value, Option<CloseFrame>> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Ok(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(frame)) => return Err(frame),
                Ok(_) => {}
                Err(_) => return Err(None),
            }
        }
    }

    /// All that is still to come.
    pub(crate) fn rest(mut self) -> (Vec<Value>, Option<CloseFrame>) {
        let mut events = Vec::new();
        loop {
            match self.next() {
                Ok(event) => events.push(event),
                Err(frame) => return (events, frame),
            }
        }
    }

    /// The event named so; what comes before is passed over.
    pub(crate) fn event(&mut self, name: &str) -> Value {
        loop {
            let event = self
                .next()
                .unwrap_or_else(|frame| panic!("no {name}: {frame:?}"));
            if event["event"] == name {
                return event;
            }
        }
    }
}

/// The sample as 16-bit samples.
pub(crate) fn s16(rate: u32) -> Vec<u8> {
    let samples = speak_at(SAMPLE, rate);
    samples
        .iter()
        .flat_map(|sample| ((sample * 32_767.0) as i16).to_le_bytes())
        .collect()
}

pub(crate) fn finals(events: &[Value]) -> Vec<&str> {
    let finals = events.iter().filter(|event| event["event"] == "final");
    finals
        .map(|event| event["text"].as_str().unwrap())
        .collect()
}

pub(crate) fn wav() -> Vec<u8> {
    std::fs::read(format!("{TONE}/sample.wav")).unwrap()
}
