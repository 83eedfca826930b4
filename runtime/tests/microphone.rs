//! The microphone, against a sound server that plays into a virtual one in real time.
//!
//! ALSA reads its configuration from the environment once per process, so each test runs itself
//! again as a child with the environment it needs; what the child prints after `> ` comes back.

#![cfg(all(feature = "microphone", target_os = "linux"))]
#![allow(clippy::unwrap_used, missing_docs)]

use std::env;
use std::f32::consts::TAU;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sori::audio::{AudioError, Microphone, Resampler, devices};
use sori_tests::virtual_microphone::VirtualMicrophone;

const SKIP: &str = "SORI_SKIP_VIRTUAL_MIC";
const CHILD: &str = "SORI_TEST_CHILD";
const CHILD_OUTPUT: &str = "SORI_TEST_CHILD_OUTPUT";

/// One at a time: two of them would take each other's time.
static TURN: Mutex<()> = Mutex::new(());

/// The microphone, or `None` where the environment says that there cannot be one.
fn virtual_microphone() -> Option<(VirtualMicrophone, MutexGuard<'static, ()>)> {
    if env::var_os(SKIP).is_some() {
        sori_tests::not_for_this_machine(format_args!("{SKIP} is set"));
        return None;
    }
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    match VirtualMicrophone::start() {
        Ok(microphone) => Some((microphone, turn)),
        Err(error) => panic!("no virtual microphone: {error}; set {SKIP}=1 to go without"),
    }
}

fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

/// This test again, in a process of its own.
struct Rerun {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Rerun {
    fn start(test: &str, environment: &[(&str, OsString)]) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(CHILD, "1")
            .envs(environment.iter().cloned())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The next thing that the child says.
    fn hear(&mut self) -> String {
        loop {
            let mut line = String::new();
            let count = self.lines.read_line(&mut line).unwrap();
            assert!(count > 0, "the child ended early: {:?}", self.child.wait());
            // The test harness leaves its own line open before.
            if let Some((_, said)) = line.split_once("> ") {
                return said.trim().to_owned();
            }
        }
    }

    fn end(mut self) {
        let mut rest = String::new();
        while self.lines.read_line(&mut rest).unwrap() > 0 {}
        assert!(self.child.wait().unwrap().success(), "{rest}");
    }
}

impl Drop for Rerun {
    fn drop(&mut self) {
        // It has ended, unless the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A sound server that was idle may take 2 s to wake.
fn wait_for_sound(microphone: &mut Microphone) {
    let count = microphone
        .read(&mut Vec::new(), Duration::from_secs(10))
        .unwrap();
    assert!(count > 0, "nothing comes from the microphone");
}

fn write_tone(path: &Path, hertz: f32, seconds: f32) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut wav = hound::WavWriter::create(path, spec).unwrap();
    for n in 0..(seconds * 16_000.0) as usize {
        let sample = 0.5 * (TAU * hertz * n as f32 / 16_000.0).sin();
        wav.write_sample((sample * 32_767.0) as i16).unwrap();
    }
    wav.finalize().unwrap();
}

#[test]
fn hears_a_tone_in_real_time() {
    const SECONDS: f64 = 6.0;
    if is_child() {
        let mut microphone = Microphone::open(None).unwrap();
        let mut resampler = Resampler::new(microphone.sample_rate()).unwrap();
        let (mut heard, mut samples) = (Vec::new(), Vec::new());
        wait_for_sound(&mut microphone);
        println!("> ready");
        let start = Instant::now();
        while start.elapsed().as_secs_f64() < SECONDS {
            heard.clear();
            microphone
                .read(&mut heard, Duration::from_millis(100))
                .unwrap();
            resampler.accept(&heard, &mut samples);
        }
        let bytes: Vec<u8> = samples
            .iter()
            .flat_map(|sample| sample.to_le_bytes())
            .collect();
        fs::write(env::var_os(CHILD_OUTPUT).unwrap(), bytes).unwrap();
        println!("> {}", microphone.lost().as_millis());
        return;
    }
    let Some((microphone, _turn)) = virtual_microphone() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (wav, output) = (folder.path().join("tone.wav"), folder.path().join("heard"));
    write_tone(&wav, 1_000.0, 2.0);

    let mut environment = microphone.environment().to_vec();
    environment.push((CHILD_OUTPUT, output.clone().into_os_string()));
    let mut child = Rerun::start("hears_a_tone_in_real_time", &environment);
    assert_eq!(child.hear(), "ready");
    microphone.play(&wav).unwrap();
    assert_eq!(child.hear(), "0", "ms lost");
    child.end();

    let heard: Vec<f32> = fs::read(&output)
        .unwrap()
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    let seconds = heard.len() as f64 / 16_000.0;
    assert!(
        (seconds - SECONDS).abs() < 0.5,
        "{seconds} s heard in {SECONDS} s"
    );

    // 10 ms pieces that are loud: the tone, whole and in one place.
    let loud = |piece: &[f32]| piece.iter().map(|x| x * x).sum::<f32>() / 160.0 > 0.06;
    let pieces: Vec<&[f32]> = heard.chunks(160).collect();
    let first = pieces
        .iter()
        .position(|piece| loud(piece))
        .expect("no tone was heard");
    let last = pieces.iter().rposition(|piece| loud(piece)).unwrap();
    let length = (last - first + 1) as f64 / 100.0;
    assert!(
        (length - 2.0).abs() < 0.2,
        "the tone of 2 s took {length} s"
    );
    let count = pieces.iter().filter(|piece| loud(piece)).count();
    assert!(
        count >= 190,
        "only {count} of 200 pieces of 10 ms were heard"
    );

    let middle = &heard[(first + 50) * 160..(first + 150) * 160];
    let crossings = middle
        .windows(2)
        .filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0)
        .count();
    assert!((980..=1_020).contains(&crossings), "{crossings} Hz");
}

#[test]
fn counts_sound_that_is_not_read_in_time() {
    if is_child() {
        let mut microphone = Microphone::open(None).unwrap();
        let mut samples = Vec::new();
        wait_for_sound(&mut microphone);
        // The ring holds 4 s.
        thread::sleep(Duration::from_secs(6));
        // What the ring holds came before what was lost.
        assert_eq!(microphone.lost(), Duration::ZERO);
        let count = microphone.read(&mut samples, Duration::ZERO).unwrap();
        assert_eq!(count, samples.len());
        let lost = microphone.lost().as_secs_f64();
        println!(
            "> {lost} {}",
            count as f64 / f64::from(microphone.sample_rate())
        );
        return;
    }
    let Some((microphone, _turn)) = virtual_microphone() else {
        return;
    };
    let environment = microphone.environment();
    let mut child = Rerun::start("counts_sound_that_is_not_read_in_time", &environment);
    let said = child.hear();
    let (lost, kept) = said.split_once(' ').unwrap();
    let (lost, kept): (f64, f64) = (lost.parse().unwrap(), kept.parse().unwrap());
    assert!((kept - 4.0).abs() < 0.001, "{kept} s kept");
    assert!((lost - 2.0).abs() < 0.5, "{lost} s lost");
    child.end();
}

#[test]
fn tells_that_the_device_has_gone_and_opens_it_again() {
    if is_child() {
        let mut microphone = Microphone::open(Some("default")).unwrap();
        let mut samples = Vec::new();
        while samples.len() < 10_000 {
            microphone
                .read(&mut samples, Duration::from_secs(1))
                .unwrap();
        }
        println!("> hears");
        let error = loop {
            if let Err(error) = microphone.read(&mut samples, Duration::from_millis(100)) {
                break error;
            }
        };
        assert!(matches!(error, AudioError::DeviceLost { .. }), "{error}");
        println!("> {error}");
        // It stays so, and says so.
        let again = microphone.read(&mut samples, Duration::ZERO).unwrap_err();
        assert!(matches!(again, AudioError::DeviceLost { .. }), "{again}");
        while microphone.reopen().is_err() {
            thread::sleep(Duration::from_millis(100));
        }
        samples.clear();
        while samples.len() < 10_000 {
            microphone
                .read(&mut samples, Duration::from_secs(1))
                .unwrap();
        }
        println!("> hears");
        return;
    }
    let Some((mut microphone, _turn)) = virtual_microphone() else {
        return;
    };
    let environment = microphone.environment();
    let mut child = Rerun::start(
        "tells_that_the_device_has_gone_and_opens_it_again",
        &environment,
    );
    assert_eq!(child.hear(), "hears");
    let start = Instant::now();
    microphone.unplug().unwrap();
    let said = child.hear();
    assert!(said.contains("lost"), "{said}");
    let took = start.elapsed();
    assert!(took < Duration::from_secs(10), "told after {took:?}");
    microphone.plug_in().unwrap();
    assert_eq!(child.hear(), "hears");
    child.end();
}

#[test]
fn lists_the_default_device() {
    if is_child() {
        let devices = devices().unwrap();
        let default = devices.iter().find(|device| device.is_default).unwrap();
        assert_eq!(default.id, "default");
        let format = default.format.as_ref().unwrap();
        println!("> {} {}", format.sample_rate, format.channels);
        // Ids open, and a name that nobody has says which there are.
        Microphone::open(Some(&default.id)).unwrap();
        let error = Microphone::open(Some("no such thing")).unwrap_err();
        println!("> {error}");
        return;
    }
    let Some((microphone, _turn)) = virtual_microphone() else {
        return;
    };
    let mut child = Rerun::start("lists_the_default_device", &microphone.environment());
    let format = child.hear();
    let (rate, channels) = format.split_once(' ').unwrap();
    assert!(rate.parse::<u32>().unwrap() >= 16_000, "{rate} Hz");
    assert!(channels.parse::<u16>().unwrap() >= 1, "{channels} channels");
    let error = child.hear();
    assert!(
        error.contains("no microphone is called `no such thing`"),
        "{error}"
    );
    assert!(error.contains("pulse"), "{error}");
    child.end();
}

#[test]
fn explains_that_there_is_no_microphone() {
    if is_child() {
        let error = Microphone::open(None).unwrap_err();
        assert!(
            matches!(error, AudioError::NoMicrophone { .. }),
            "{error:?}"
        );
        println!("> {error}");
        assert!(devices().unwrap().iter().all(|device| !device.is_default));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // Without a card, and with a sound server that does not run.
    let dead =
        "</usr/share/alsa/alsa.conf>\npcm.!default { type pulse server \"unix:/nowhere\" }\n";
    for (name, configuration) in [("no card", ""), ("no server", dead)] {
        let path = folder.path().join(name);
        fs::write(&path, configuration).unwrap();
        let environment = [("ALSA_CONFIG_PATH", path.into_os_string())];
        let mut child = Rerun::start("explains_that_there_is_no_microphone", &environment);
        let said = child.hear();
        assert!(said.starts_with("no microphone: "), "{name}: {said}");
        assert!(
            said.contains("check that one is connected"),
            "{name}: {said}"
        );
        child.end();
    }
}
