//! Clients come and go, good and bad ones, all at once: no good one loses a word. Seconds here;
//! `SORI_CHURN_SECONDS=3600` makes it an hour, and `-- --nocapture` tells the figures.

use std::io::Write;
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sori_tests::chance::Chance;
use sori_tests::memory::resident_of;
use tungstenite::Message;

use crate::client::{Client, FIRST, SECOND, Server, finals, s16, wav};

/// Clients at once. Those that vanish keep their seat until the server sees it.
const CLIENTS: u64 = 32;
const SEATS: &str = "64";

/// Words of the sample.
const WORDS: u64 = 5;

/// What one client did.
#[derive(Default)]
struct Told {
    /// Words said by clients that behaved, and those of the clients that got just these.
    said: AtomicU64,
    heard: AtomicU64,
    /// Clients that did not behave.
    rude: AtomicU64,
}

impl Told {
    fn hear<T: AsRef<str>>(&self, texts: &[T]) {
        self.said.fetch_add(WORDS, Ordering::Relaxed);
        let wanted = [FIRST, SECOND].join(" ");
        let heard = texts
            .iter()
            .map(AsRef::as_ref)
            .collect::<Vec<_>>()
            .join(" ");
        // No word less, and none more.
        let right = if heard == wanted { WORDS } else { 0 };
        self.heard.fetch_add(right, Ordering::Relaxed);
    }
}

#[test]
fn no_word_is_lost_while_clients_come_and_go() {
    let seconds = std::env::var("SORI_CHURN_SECONDS").map_or(10, |text| text.parse().unwrap());
    let server = Server::start(&["--max-streams", SEATS, "--workers", "2"]);
    let (told, end) = (
        Told::default(),
        Instant::now() + Duration::from_secs(seconds),
    );
    let (sound, file) = (s16(16_000), wav());
    let mut memory: Vec<f64> = Vec::new();
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (server, told, sound, file) = (&server, &told, &sound, &file);
            scope.spawn(move || {
                let mut chance = Chance::new(number);
                while Instant::now() < end {
                    visit(server, told, sound, file, &mut chance);
                }
            });
        }
        while Instant::now() < end {
            thread::sleep(Duration::from_millis(500));
            memory.extend(resident_of(&server.child.id().to_string()));
        }
    });
    assert_eq!(server.open_streams(0), 0);
    let [said, heard, rude] =
        [&told.said, &told.heard, &told.rude].map(|count| count.load(Ordering::Relaxed));
    let memory: Vec<f64> = memory.into_iter().map(|bytes| bytes / 1e6).collect();
    let (early, late) = (memory.get(memory.len() / 4), memory.last());
    println!(
        "{seconds} s: {} good clients, {rude} bad ones; {said} words said, {} lost; \
         megabytes after a quarter of the time {early:?}, at the end {late:?}",
        said / WORDS,
        said - heard,
    );
    assert_eq!(said, heard);
    assert!(said > 0 && rude > 0);
    if let (Some(early), Some(late)) = (early, late) {
        assert!(*late < early + 32.0, "{early} to {late} MB");
    }
    server.assert_well();
}

/// One client, whatever it is.
fn visit(server: &Server, told: &Told, sound: &[u8], file: &[u8], chance: &mut Chance) {
    let piece = 2 * (160 + chance.next() as usize % 8000);
    let part = chance.next() as usize % sound.len();
    let stream = || {
        let mut client = server.socket("/v1/stream");
        client.text(r#"{"partials": false}"#);
        client
    };
    if chance.within(0..4) > 0 {
        match chance.next() % 3 {
            0 => {
                let mut client = stream();
                let pace = chance.next() % 13;
                for piece in sound.chunks(piece) {
                    client.sound(piece, piece.len());
                    // From as fast as it goes to as it was said.
                    let milliseconds = piece.len() as u64 / 32 * pace / 12;
                    thread::sleep(Duration::from_millis(milliseconds));
                }
                client.text(r#"{"type":"finish"}"#);
                told.hear(&finals(&client.rest().0));
            }
            1 => told.hear(&vosk(server.socket("/vosk"), sound, piece)),
            _ => {
                let answer = server.transcribe(Some(file), &[("response_format", "text")]);
                // A few files are received at once; the others are asked to come again.
                if answer.status != 503 {
                    told.hear(&[answer.text().trim()]);
                }
            }
        }
        return;
    }
    told.rude.fetch_add(1, Ordering::Relaxed);
    match chance.next() % 6 {
        // Gone in the middle of a word.
        0 => stream().sound(&sound[..part], piece),
        1 => {
            let mut client = stream();
            let _ = client.socket.send(Message::binary(sound[..part].to_vec()));
            let _ = client.socket.get_ref().shutdown(Shutdown::Write);
            client.rest();
        }
        // Finished, and not waiting for an answer.
        2 => {
            let mut client = stream();
            client.sound(sound, piece);
            client.text(r#"{"type":"finish"}"#);
        }
        3 => {
            let mut client = stream();
            let _ = client.socket.send(Message::text("{\"type\": nonsense"));
            client.rest();
        }
        // Not WebSocket at all.
        4 => {
            let mut client = stream();
            let _ = client.socket.get_mut().write_all(&sound[..part]);
            client.rest();
        }
        _ => {
            let _ = server
                .connect()
                .write_all(b"POST /v1/audio/transcriptions HTT");
        }
    }
}

/// A client of vosk-server: what was finished.
fn vosk(mut client: Client, sound: &[u8], piece: usize) -> Vec<String> {
    client.text(r#"{"config": {"sample_rate": 16000}}"#);
    let mut texts = Vec::new();
    for piece in sound.chunks(piece) {
        client.sound(piece, piece.len());
        texts.push(client.next().unwrap());
    }
    client.text(r#"{"eof": 1}"#);
    texts.push(client.next().unwrap());
    let texts = texts.iter().filter_map(|reply| reply["text"].as_str());
    texts
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
        .collect()
}
