//! Speaks to a running `sori serve` as many live clients at once, and tells how late its answers are.
//!
//! `cargo run --release --example load -- ADDRESS WAV STREAMS SECONDS`
//!
//! Every client sends a piece of 320 ms every 320 ms, as a microphone would, each from another place of the
//! WAV (16-bit, mono), and waits for the reply that the protocol of vosk-server has for each. An answer is late
//! by the time from the end of its piece to the reply. Start the server with enough seats:
//! `sori serve --max-streams 128`. One line of JSON comes out.

use std::env;
use std::error::Error;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use tungstenite::{Message, client};

/// Sound of one message.
const PIECE: Duration = Duration::from_millis(320);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, path, streams, seconds] = &arguments[..] else {
        return Err("usage: load ADDRESS WAV STREAMS SECONDS".into());
    };
    let (streams, seconds): (u32, u64) = (streams.parse()?, seconds.parse()?);
    let mut wav = hound::WavReader::open(path)?;
    let rate = wav.spec().sample_rate;
    let samples = wav.samples::<i16>().collect::<Result<Vec<_>, _>>()?;
    let bytes: Vec<u8> = samples
        .iter()
        .flat_map(|sample| sample.to_le_bytes())
        .collect();
    let piece = 2 * (rate as usize * PIECE.as_millis() as usize / 1000);
    if bytes.len() < piece {
        return Err("the WAV is shorter than a piece".into());
    }

    let begin = Instant::now() + Duration::from_secs(1);
    let lateness = thread::scope(|scope| {
        let clients: Vec<_> = (0..streams)
            .map(|number| {
                let pieces = bytes.chunks_exact(piece).cycle();
                let pieces = pieces.skip(number as usize * 7);
                // Microphones do not begin together.
                let begin = begin + PIECE * number / streams;
                let end = begin + Duration::from_secs(seconds);
                scope.spawn(move || speak(address, rate, pieces, begin, end))
            })
            .collect();
        let heard = clients.into_iter().map(thread::ScopedJoinHandle::join);
        heard
            .map(|heard| heard.unwrap_or_else(|_| Err("a client panicked".into())))
            .collect::<Result<Vec<_>, _>>()
    })
    .map_err(|error| error as Box<dyn Error>)?;
    let mut lateness = lateness.concat();
    lateness.sort_unstable();
    let milliseconds = |share: f64| {
        let place =
            ((lateness.len() as f64 * share) as usize).min(lateness.len().saturating_sub(1));
        lateness
            .get(place)
            .map_or(f64::NAN, |late| late.as_secs_f64() * 1e3)
    };
    println!(
        "{{\"streams\": {streams}, \"seconds\": {seconds}, \"replies\": {}, \"p50_ms\": {:.1}, \"p99_ms\": {:.1}, \
         \"most_ms\": {:.1}}}",
        lateness.len(),
        milliseconds(0.5),
        milliseconds(0.99),
        milliseconds(1.0)
    );
    Ok(())
}

/// One client: how late each reply was.
fn speak<'a>(
    address: &str,
    rate: u32,
    pieces: impl Iterator<Item = &'a [u8]>,
    begin: Instant,
    end: Instant,
) -> Result<Vec<Duration>, Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let (mut socket, _) = client(format!("ws://{address}/vosk"), stream)?;
    socket.send(Message::text(format!(
        "{{\"config\": {{\"sample_rate\": {rate}}}}}"
    )))?;
    let mut lateness = Vec::new();
    for (piece, due) in pieces.zip((1..).map(|count| begin + PIECE * count)) {
        if due > end {
            break;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        socket.send(Message::binary(piece.to_vec()))?;
        while !socket.read()?.is_text() {}
        lateness.push(due.elapsed());
    }
    socket.send(Message::text("{\"eof\": 1}"))?;
    while !socket.read()?.is_text() {}
    Ok(lateness)
}
