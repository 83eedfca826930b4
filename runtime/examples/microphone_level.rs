//! Shows how loud a microphone is, second by second, and whether sound gets lost.
//!
//! `cargo run --example microphone_level --features microphone -- [DEVICE]`; with `--list` it lists
//! the microphones there are.

use std::env;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use sori::audio::{AudioError, Microphone, devices};

fn main() -> ExitCode {
    let argument = env::args().nth(1);
    let result = match argument.as_deref() {
        Some("--list") => list(),
        device => listen(device),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn list() -> Result<(), AudioError> {
    for device in devices()? {
        let mark = if device.is_default { '*' } else { ' ' };
        match device.format {
            Some(format) => println!("{mark} {} ({}): {format}", device.id, device.name),
            None => println!("{mark} {} ({}): does not open", device.id, device.name),
        }
    }
    Ok(())
}

fn listen(device: Option<&str>) -> Result<(), AudioError> {
    let mut microphone = Microphone::open(device)?;
    println!("{}: {}", microphone.name(), microphone.format());
    loop {
        let mut samples = Vec::new();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(1) {
            microphone.read(&mut samples, Duration::from_millis(100))?;
        }
        let power = samples.iter().map(|x| x * x).sum::<f32>() / samples.len().max(1) as f32;
        println!(
            "{:6.1} dB, {} samples, {} ms lost, {} overruns",
            10.0 * power.max(1e-12).log10(),
            samples.len(),
            microphone.lost().as_millis(),
            microphone.overruns(),
        );
    }
}
