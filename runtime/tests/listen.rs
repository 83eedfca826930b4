//! `sori listen` against a microphone that keeps real time.

#![cfg(all(feature = "cli", feature = "microphone"))]
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use sori_tests::tone::{Sound, speak_at};
use sori_tests::virtual_microphone::VirtualMicrophone;

const TONE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/tone");

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn virtual_microphone() -> Option<VirtualMicrophone> {
    if std::env::var_os("SORI_SKIP_VIRTUAL_MIC").is_some() {
        sori_tests::not_for_this_machine("SORI_SKIP_VIRTUAL_MIC is set");
        return None;
    }
    Some(VirtualMicrophone::start().unwrap())
}

fn write_wav(path: &Path, rate: u32, script: &[Sound]) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for sample in speak_at(script, rate) {
        writer.write_sample((sample * 32_767.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
}

/// "one going", with so many milliseconds of silence behind.
fn one_going(silence: u32) -> [Sound; 6] {
    [
        Sound::Silence(400),
        Sound::Token(0, 320),
        Sound::Silence(240),
        Sound::Token(3, 320),
        Sound::Token(5, 320),
        Sound::Silence(silence),
    ]
}

/// `sori listen` with its lines of output as they come.
struct Listener {
    child: Child,
    lines: Receiver<String>,
}

impl Listener {
    fn start(microphone: &VirtualMicrophone, arguments: &[&str]) -> Self {
        let (listener, read) = Self::start_unread(microphone, arguments, 0);
        read.send(()).unwrap();
        listener
    }

    /// With so many bytes in its output already, which nobody reads until told to.
    fn start_unread(
        microphone: &VirtualMicrophone,
        arguments: &[&str],
        filled: usize,
    ) -> (Self, Sender<()>) {
        let (stdout, mut writer) = std::io::pipe().unwrap();
        writer.write_all("\n".repeat(filled).as_bytes()).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_sori"))
            .args(["-v", "listen", "--model", TONE, "--engine", "tract"])
            .args(arguments)
            .envs(microphone.environment())
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let (read, told_to_read) = channel();
        std::thread::spawn(move || {
            let _ = told_to_read.recv();
            BufReader::new(stdout)
                .lines()
                .map_while(Result::ok)
                .filter(|line| !line.is_empty())
                .try_for_each(|line| sender.send(line))
        });
        // Not a word is lost that is said after it says that it listens.
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let listening = said
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line.contains("listening to"));
        assert!(listening, "it ended before it listened");
        std::thread::spawn(move || said.map_while(Result::ok).for_each(drop));
        (Self { child, lines }, read)
    }

    fn event(&self, wanted: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let line = self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()));
            let line = line.unwrap_or_else(|_| panic!("no {wanted} event came"));
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["event"] == wanted {
                return event;
            }
        }
    }

    /// Presses Ctrl-C and waits for the end; gives the lines that were left.
    fn interrupt(self) -> Vec<String> {
        self.end("-INT", 0)
    }

    /// Sends a signal and waits for the end, with that exit status.
    fn end(mut self, signal: &str, status: i32) -> Vec<String> {
        let sent = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
        assert_eq!(self.child.wait().unwrap().code(), Some(status));
        self.lines.iter().collect()
    }
}

#[test]
fn words_come_while_they_are_said_and_ctrl_c_finishes_the_last() {
    let Some(microphone) = virtual_microphone() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let (first, last, saved) = (
        directory.path().join("first.wav"),
        directory.path().join("last.wav"),
        directory.path().join("saved.wav"),
    );
    write_wav(&first, 16_000, &one_going(400));
    write_wav(
        &last,
        48_000,
        &[
            Sound::Silence(400),
            Sound::Token(1, 320),
            Sound::Silence(1000),
        ],
    );

    let listener = Listener::start(&microphone, &["--json", "--save", saved.to_str().unwrap()]);
    microphone.play(&first).unwrap();
    // The microphone goes on in silence: the endpoint finishes the utterance.
    let partial = listener.event("partial");
    assert_eq!(partial["words"][0]["word"], "one");
    let said = listener.event("final");
    assert_eq!(said["text"], "one going");
    assert!(
        said["words"][1]["confidence"].as_f64().unwrap() > 0.8,
        "{said}"
    );
    assert_eq!(listener.event("endpoint")["rule"], "silence-after-speech");

    microphone.play(&last).unwrap();
    assert_eq!(listener.event("partial")["text"], "two");
    let rest = listener.interrupt();
    let finals: Vec<Value> = rest
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["event"] == "final")
        .collect();
    assert_eq!(finals.len(), 1, "{rest:?}");
    assert_eq!(finals[0]["text"], "two");

    // What was heard was kept, and is heard again.
    let heard = hound::WavReader::open(&saved).unwrap();
    assert!(
        heard.duration() > 3 * heard.spec().sample_rate,
        "{} samples",
        heard.duration()
    );
    let again = Command::new(env!("CARGO_BIN_EXE_sori"))
        .args(["transcribe", "--model", TONE])
        .arg(&saved)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(again.stdout).unwrap(), "one going\ntwo\n");
}

#[test]
fn text_is_a_line_per_utterance() {
    let Some(microphone) = virtual_microphone() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let wav = directory.path().join("words.wav");
    write_wav(
        &wav,
        44_100,
        &[
            Sound::Silence(400),
            Sound::Token(2, 320),
            Sound::Silence(1000),
        ],
    );
    let listener = Listener::start(&microphone, &["--endpoint-silence", "0.6"]);
    microphone.play(&wav).unwrap();
    assert_eq!(listener.lines.recv_timeout(PATIENCE).unwrap(), "three");
    assert_eq!(listener.interrupt(), Vec::<String>::new());
}

#[test]
fn a_lost_microphone_is_said_and_what_was_said_before_is_kept() {
    let Some(mut microphone) = virtual_microphone() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let wav = directory.path().join("words.wav");
    write_wav(
        &wav,
        16_000,
        &[
            Sound::Silence(400),
            Sound::Token(0, 320),
            Sound::Silence(600),
        ],
    );
    let listener = Listener::start(&microphone, &["--json"]);
    microphone.play(&wav).unwrap();
    assert_eq!(listener.event("partial")["text"], "one");
    microphone.unplug().unwrap();
    assert_eq!(listener.event("final")["text"], "one");
    listener.event("device-lost");
    // The sound server is back.
    microphone.plug_in().unwrap();
    listener.event("device-found");
    microphone.play(&wav).unwrap();
    assert_eq!(listener.event("final")["text"], "one");
    microphone.unplug().unwrap();
    listener.event("device-lost");
    assert_eq!(listener.interrupt(), Vec::<String>::new());
}

/// Whoever reads the captions stops reading, which stops what hears, until more came than there is room for.
#[test]
fn sound_that_is_lost_is_said_and_parts_what_was_said_around_it() {
    let Some(microphone) = virtual_microphone() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let (wav, saved) = (
        directory.path().join("words.wav"),
        directory.path().join("saved.wav"),
    );
    // A word every second for eight of them, and no silence that is an endpoint.
    let word = |number: usize| {
        [
            Sound::Token([0, 1, 2][number % 3], 320),
            Sound::Silence(680),
        ]
    };
    let script: Vec<Sound> = (0..9).flat_map(word).collect();
    write_wav(&wav, 16_000, &script);
    let arguments = [
        "--json",
        "--save",
        saved.to_str().unwrap(),
        "--endpoint-silence",
        "3",
    ];
    // A pipe has room for 64 KiB, of which an event or two are left.
    let (listener, read) = Listener::start_unread(&microphone, &arguments, 65_000);
    let begun = Instant::now();
    microphone.play(&wav).unwrap();
    std::thread::sleep(Duration::from_secs(9).saturating_sub(begun.elapsed()));
    read.send(()).unwrap();
    let first = listener.event("final");
    // On a busy machine the sound system may lose some, too, and not know how much.
    let lost = loop {
        if let Some(lost) = listener.event("overrun")["lost_ms"].as_u64() {
            break lost;
        }
    };
    assert!((1_000..8_000).contains(&lost), "{lost} ms");
    let text = first["text"].as_str().unwrap();
    assert!(text.starts_with("one two"), "{first}");
    // What waited to be heard, four seconds of it, came before the gap.
    assert!(text.split(' ').count() >= 5, "{first}");
    // Times go on as those of the recording.
    let end = first["end"].as_f64().unwrap();
    let rest = listener.interrupt();
    let heard = hound::WavReader::open(&saved).unwrap();
    let seconds = f64::from(heard.duration()) / f64::from(heard.spec().sample_rate);
    let finals: Vec<Value> = rest
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["event"] == "final")
        .collect();
    for said in &finals {
        assert!(said["start"].as_f64().unwrap() >= end, "{first} {said}");
        assert!(said["end"].as_f64().unwrap() <= seconds + 0.1, "{said}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_ends_the_recording_and_not_the_captions() {
    let Some(microphone) = virtual_microphone() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let wav = directory.path().join("words.wav");
    let words = [
        Sound::Silence(2400),
        Sound::Token(0, 320),
        Sound::Silence(600),
    ];
    write_wav(&wav, 16_000, &words);
    let listener = Listener::start(&microphone, &["--json", "--save", "/dev/full"]);
    microphone.play(&wav).unwrap();
    let failed = listener.event("save-failed");
    let reason = failed["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("/dev/full: cannot be written"),
        "{reason}"
    );
    assert_eq!(listener.event("partial")["text"], "one");
    // The word is not over yet when the system asks to end: it is said all the same.
    let rest = listener.end("-TERM", 1);
    let said = rest.iter().filter(|line| line.contains("\"final\""));
    assert_eq!(said.count(), 1, "{rest:?}");
}

#[test]
fn devices_are_listed() {
    let Some(microphone) = virtual_microphone() else {
        return;
    };
    let sori = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sori"));
        let output = command
            .args(arguments)
            .envs(microphone.environment())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(
        sori(&["devices"])
            .lines()
            .any(|line| line.starts_with("* default ")),
        "{}",
        sori(&["devices"])
    );
    let json = sori(&["devices", "--json"]);
    let devices: Vec<Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        devices
            .iter()
            .any(|device| device["default"] == true && device["sample_rate"].is_number()),
        "{json}"
    );
}

#[test]
fn without_a_sound_system_one_line_says_what_to_check() {
    let directory = tempfile::tempdir().unwrap();
    let alsa = directory.path().join("alsa.conf");
    fs::write(&alsa, "</usr/share/alsa/alsa.conf>\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sori"))
        .args(["listen", "--model", TONE, "--device", "no such microphone"])
        .env("ALSA_CONFIG_PATH", alsa)
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.starts_with("sori: no microphone"), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    assert_eq!(output.status.code(), Some(1));
}

/// On a terminal of its own, made by `script`; what it draws comes with the codes that draw it.
#[cfg(feature = "tui")]
#[test]
fn a_screen_shows_words_and_leaves_them_on_stdout() {
    let Some(microphone) = virtual_microphone() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let (speech, said) = (
        directory.path().join("speech.wav"),
        directory.path().join("said.txt"),
    );
    write_wav(&speech, 16_000, &one_going(1500));
    let command = format!(
        "stty rows 12 columns 60; exec '{}' listen --tui --model '{TONE}' --engine tract > '{}'",
        env!("CARGO_BIN_EXE_sori"),
        said.display()
    );
    let mut terminal = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .envs(microphone.environment())
        .env("TERM", "xterm-256color")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script of util-linux makes a terminal");
    let (sender, drawn) = channel();
    let mut output = terminal.stdout.take().unwrap();
    std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = output.read(&mut piece) {
            let _ = sender.send(String::from_utf8_lossy(&piece[..count]).into_owned());
        }
    });
    let mut screen = String::new();
    let mut wait_for = |wanted: &str| {
        let deadline = Instant::now() + PATIENCE;
        while !screen.contains(wanted) {
            let left = deadline.saturating_duration_since(Instant::now());
            let piece = drawn.recv_timeout(left);
            screen += &piece.unwrap_or_else(|_| panic!("no {wanted:?} in {screen:?}"));
        }
    };
    wait_for("q ends");
    microphone.play(&speech).unwrap();
    wait_for("going");
    let printed = || fs::read_to_string(&said).unwrap() == "one going\n";
    let deadline = Instant::now() + PATIENCE;
    while !printed() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(printed(), "{}", fs::read_to_string(&said).unwrap());

    terminal.stdin.take().unwrap().write_all(b"q").unwrap();
    assert!(terminal.wait().unwrap().success());
    wait_for("\u{1b}[?1049l");
    assert!(printed(), "the words are printed once");
}
