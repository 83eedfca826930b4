//! Several processes train one model: as one process with all the data would, until one of them dies,
//! between hosts, and started by torchrun.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use safetensors::SafeTensors;
use support::{TEXTS, write_speech};

/// A folder with speech, a tokenizer and a recipe without anything random but the data's order.
struct Workshop(tempfile::TempDir);

impl Workshop {
    fn new(steps: u64) -> Self {
        let workshop = Self(tempfile::tempdir().unwrap());
        write_speech(workshop.0.path(), &TEXTS);
        let recipe = format!(
            r#"
            name = "tiny"
            seed = 3
            ema_decay = 0.0
            [model]
            d_model = 16
            layers = 2
            heads = 2
            feed_forward = 24
            kernel = 3
            subsampling_channels = 4
            dropout = 0.0
            dropout_attention = 0.0
            [data]
            tokenizer = {tokenizer:?}
            train = [{{ manifest = {speech:?} }}]
            workers = 1
            # Four batches an epoch: none is over where two processes take them.
            batching = {{ max_seconds = 20.0, max_utterances = 2, longest = 3.0, buckets = 2 }}
            augmentation = {{ noise.probability = 0.0, room.probability = 0.0 }}
            spec_augment = {{ frequency_masks = 0, time_masks = 0 }}
            [contexts]
            chunks_ms = [320]
            left_ms = 320
            [optimiser]
            peak_learning_rate = 0.01
            warm_up_steps = 2
            [metrics]
            every_steps = 1
            [checkpoints]
            every_steps = 5
            [[stage]]
            name = "ctc"
            steps = {steps}
            loss = {{ ctc = 1.0 }}
            "#,
            tokenizer = workshop.path("tokenizer"),
            speech = workshop.path("speech.jsonl"),
        );
        fs::write(workshop.path("recipe.toml"), recipe).unwrap();
        workshop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The command that trains into a run's folder.
    fn train(&self, run: &str, arguments: &[&str]) -> Vec<String> {
        let path = |name: &str| self.path(name).to_str().unwrap().to_owned();
        let command = [env!("CARGO_BIN_EXE_sori-train"), "train", "--device", "cpu"];
        let mut words: Vec<_> = command.map(str::to_owned).into();
        words.extend([path("recipe.toml"), "--output".to_owned(), path(run)]);
        words.extend(arguments.iter().map(|&argument| argument.to_owned()));
        words
    }
}

fn command(words: &[String]) -> Command {
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .env("OMP_NUM_THREADS", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn ran(output: &Output) -> String {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    told
}

/// One process of a job, as a launcher starts it.
fn rank(command: &mut Command, rank: usize, world: usize, host: &str, port: u16) -> Child {
    command
        .env("RANK", rank.to_string())
        .env("LOCAL_RANK", "0")
        .env("WORLD_SIZE", world.to_string())
        .env("MASTER_ADDR", host)
        .env("MASTER_PORT", port.to_string())
        .spawn()
        .unwrap()
}

/// The processes that one has started.
fn children(id: u32) -> Vec<String> {
    let found = Command::new("pgrep").args(["-P", &id.to_string()]).output();
    let found = String::from_utf8(found.unwrap().stdout).unwrap();
    found.lines().map(str::to_owned).collect()
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// The largest difference between the weights of two trained models, and the largest weight.
fn apart(a: &Path, b: &Path) -> (f32, f32) {
    let [a, b] = [a, b].map(|path| fs::read(path).unwrap());
    let [a, b] = [&a, &b].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
    assert_eq!(a.names().len(), b.names().len());
    let (mut apart, mut most) = (0_f32, 0_f32);
    for (name, tensor) in a.tensors() {
        let values = |data: &[u8]| -> Vec<f32> {
            let (values, _) = data.as_chunks::<4>();
            values
                .iter()
                .map(|value| f32::from_le_bytes(*value))
                .collect()
        };
        let (ours, theirs) = (
            values(tensor.data()),
            values(b.tensor(&name).unwrap().data()),
        );
        for (ours, theirs) in ours.into_iter().zip(theirs) {
            apart = apart.max((ours - theirs).abs());
            most = most.max(ours.abs());
        }
    }
    (apart, most)
}

#[test]
fn two_processes_train_as_one_with_twice_the_batch() {
    let workshop = Workshop::new(20);
    // Three batches, which two processes cannot share evenly.
    let speech = fs::read_to_string(workshop.path("speech.jsonl")).unwrap();
    let five: String = speech.split_inclusive('\n').take(5).collect();
    fs::write(workshop.path("held-out.jsonl"), five).unwrap();
    let held_out = format!(
        "evaluation.manifests=[{:?}]",
        workshop.path("held-out.jsonl")
    );
    let alone = [
        "--set",
        &held_out,
        "--set",
        "optimiser.accumulate_batches=2",
    ];
    let both = ["--set", &held_out, "--workers", "2"];
    ran(&command(&workshop.train("one", &alone)).output().unwrap());
    let told = ran(&command(&workshop.train("two", &both)).output().unwrap());
    // One of them speaks for all.
    assert_eq!(told.matches("step 1 of 20").count(), 1, "{told}");
    let model = |run: &str| workshop.path(run).join("final.safetensors");
    let (apart, most) = apart(&model("one"), &model("two"));
    assert!(most > 0.1, "{most}");
    assert!(apart < 1e-5, "{apart}");

    // The figures are those of all utterances, written once.
    let lines = |run: &str, of: &str| -> Vec<serde_json::Value> {
        let text = fs::read_to_string(workshop.path(run).join("metrics.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines
            .filter(|line: &serde_json::Value| line.get(of).is_some())
            .collect()
    };
    let [one, two] = ["one", "two"].map(|run| lines(run, "held_out/ctc/320ms"));
    assert_eq!((one.len(), two.len()), (1, 1));
    for name in ["held_out/ctc/320ms", "held_out/wer/320ms"] {
        let [one, two] = [&one, &two].map(|lines| lines[0][name].as_f64().unwrap());
        assert!(
            one > 0.0 && (one - two).abs() < 1e-4 * one,
            "{name}: {one} {two}"
        );
    }
    let figures = |run: &str| -> Vec<(f64, f64)> {
        let lines = lines(run, "train/ctc").into_iter().map(|line| {
            let figure = |name: &str| line[name].as_f64().unwrap();
            (figure("train/ctc"), figure("data/audio_hours"))
        });
        lines.collect()
    };
    let (one, two) = (figures("one"), figures("two"));
    assert_eq!((one.len(), two.len()), (20, 20));
    for (one, two) in one.into_iter().zip(two) {
        assert!((one.0 - two.0).abs() < 1e-3 * one.0, "{one:?} {two:?}");
        assert!((one.1 - two.1).abs() < 1e-9, "{one:?} {two:?}");
    }
}

#[test]
fn two_processes_read_archives_as_one_does() {
    let workshop = Workshop::new(8);
    let path = |name: &str| workshop.path(name).to_str().unwrap().to_owned();
    let shard = [
        env!("CARGO_BIN_EXE_sori-train"),
        "shard",
        &path("speech.jsonl"),
        "--output",
        &path("tarred"),
    ];
    let shard = command(&shard.map(str::to_owned)).output().unwrap();
    ran(&shard);
    let told = String::from_utf8(shard.stdout).unwrap();
    let source = told.lines().last().unwrap();
    let train_on = format!("data.train=[{source}]");
    let archives = ["--set", &train_on];
    let twice = [&archives[..], &["--set", "optimiser.accumulate_batches=2"]].concat();
    ran(&command(&workshop.train("one", &twice)).output().unwrap());
    let two = [&archives[..], &["--workers", "2"]].concat();
    ran(&command(&workshop.train("two", &two)).output().unwrap());
    let model = |run: &str| workshop.path(run).join("final.safetensors");
    let (apart, most) = apart(&model("one"), &model("two"));
    assert!(most > 0.1, "{most}");
    assert!(apart < 1e-5, "{apart}");
}

#[test]
fn several_processes_fill_a_cache() {
    let workshop = Workshop::new(1);
    let full = ["--set", "contexts.chunks_ms=[\"full\"]"];
    ran(&command(&workshop.train("teacher", &full)).output().unwrap());
    let teacher = workshop.path("teacher").join("final.safetensors");
    let teach = |arguments: &[&str]| -> Vec<[u64; 2]> {
        let mut words = workshop.train("unused", &[]);
        words[1] = "teach".into();
        words.truncate(5);
        let cache = workshop.path("cache");
        for change in [
            format!("teacher.source=sori:{}", teacher.display()),
            format!("teacher.cache={}", cache.display()),
            "stage.ctc.loss={ ctc = 1.0, sam = 1.0 }".into(),
            // Odd: the last batch is for one of two processes alone.
            "data.batching.max_utterances=3".into(),
        ] {
            words.extend(["--set".to_owned(), change]);
        }
        words.extend(arguments.iter().map(|&argument| argument.to_owned()));
        let output = command(&words).output().unwrap();
        ran(&output);
        let told = String::from_utf8(output.stdout).unwrap();
        let numbers = |line: &str| {
            let words: Vec<_> = line.split_whitespace().collect();
            [words[0], words[6]].map(|number| number.parse().unwrap())
        };
        told.lines().map(numbers).collect()
    };
    let both = teach(&["--workers", "2"]);
    assert_eq!(both.len(), 2);
    assert!(
        both.iter()
            .all(|[known, asked]| known == asked && *known >= 6),
        "{both:?}"
    );
    // Eight texts at three speeds.
    assert_eq!(both[0][0] + both[1][0], 24);
    assert_eq!(teach(&[]), [[24, 0]]);
}

#[test]
fn a_dead_process_ends_the_job_and_the_last_checkpoint_is_good() {
    let workshop = Workshop::new(100_000);
    let port = free_port();
    let words = workshop.train("run", &["--peer-timeout", "60"]);
    let mut ranks: Vec<_> = (0..2)
        .map(|index| rank(&mut command(&words), index, 2, "127.0.0.1", port))
        .collect();
    let checkpoints = workshop.path("run/checkpoints");
    let begun = Instant::now();
    while fs::read_dir(&checkpoints).map_or(0, Iterator::count) < 2 {
        assert!(begun.elapsed() < Duration::from_secs(120), "no checkpoint");
        assert!(ranks[0].try_wait().unwrap().is_none(), "it ended by itself");
        thread::sleep(Duration::from_millis(20));
    }
    let mut second = ranks.pop().unwrap();
    second.kill().unwrap();
    second.wait().unwrap();
    let killed = Instant::now();
    let first = ranks.pop().unwrap().wait_with_output().unwrap();
    assert!(killed.elapsed() < Duration::from_secs(30));
    let told = String::from_utf8(first.stderr).unwrap();
    assert_eq!(first.status.code(), Some(1), "{told}");
    let last = told.lines().last().unwrap();
    assert!(
        last.contains("another process of the job is gone"),
        "{told}"
    );

    // Another number of processes goes on from it.
    let newest = fs::read_dir(&checkpoints).unwrap().map(|file| {
        let name = file.unwrap().file_name().into_string().unwrap();
        let step = name
            .strip_prefix("step-")
            .and_then(|name| name.strip_suffix(".safetensors"));
        step.unwrap().parse::<u64>().unwrap()
    });
    let newest = newest.max().unwrap();
    let mut going_on = command(&workshop.train("run", &["--resume", "--workers", "3"]))
        .spawn()
        .unwrap();
    let metrics = workshop.path("run/metrics.jsonl");
    let reached = || fs::read_to_string(&metrics).unwrap().lines().count() as u64;
    let begun = Instant::now();
    while reached() <= newest + 3 || fs::read_dir(&checkpoints).unwrap().count() < 1 {
        assert!(begun.elapsed() < Duration::from_secs(120), "{}", reached());
        thread::sleep(Duration::from_millis(20));
    }
    // One of them is asked to stop: all do, after the same step.
    let ranks = children(going_on.id());
    let kill = Command::new("kill").args(["-INT", &ranks[2]]).status();
    assert!(kill.unwrap().success());
    assert_eq!(going_on.wait().unwrap().code(), Some(130));
    assert_eq!(ranks.len(), 3);
}

#[test]
fn who_started_the_processes_passes_signals_on() {
    let workshop = Workshop::new(100_000);
    let words = workshop.train("run", &["--workers", "2"]);
    // As under `nohup`: the job outlasts its terminal.
    let mut wrapped = vec!["env".to_owned(), "--ignore-signal=HUP".to_owned()];
    wrapped.extend(words);
    let mut job = command(&wrapped).spawn().unwrap();
    let metrics = workshop.path("run/metrics.jsonl");
    let reached = || fs::read_to_string(&metrics).map_or(0, |text| text.lines().count());
    let wait_for = |steps: usize| {
        let begun = Instant::now();
        while reached() < steps {
            assert!(begun.elapsed() < Duration::from_secs(120), "{}", reached());
            thread::sleep(Duration::from_millis(20));
        }
    };
    let signal = |name: &str, id: &str| {
        let sent = Command::new("kill").args([name, id]).status();
        assert!(sent.unwrap().success());
    };
    wait_for(1);
    let id = job.id().to_string();
    for one in children(job.id()).iter().chain([&id]) {
        signal("-HUP", one);
    }
    wait_for(reached() + 10);
    assert!(job.try_wait().unwrap().is_none());
    // The one that was started alone is told, as a service's manager tells it.
    signal("-TERM", &id);
    assert_eq!(job.wait().unwrap().code(), Some(130));
    let saved = format!("checkpoints/step-{:08}.safetensors", reached());
    let run = workshop.path("run");
    assert!(
        run.join(&saved).exists(),
        "{saved}: {:?}",
        fs::read_dir(run.join("checkpoints"))
            .unwrap()
            .collect::<Vec<_>>()
    );
}

/// Two hosts made of network namespaces, which have no loopback in common.
struct Hosts([String; 2]);

impl Hosts {
    /// `None`, with a word on it, where they cannot be made.
    fn make() -> Option<Self> {
        let id = std::process::id();
        let hosts = Self([format!("sori-{id}-a"), format!("sori-{id}-b")]);
        let [a, b] = &hosts.0;
        let (near, far) = (format!("sa{id}"), format!("sb{id}"));
        for line in [
            format!("netns add {a}"),
            format!("netns add {b}"),
            format!("link add {near} netns {a} type veth peer name {far} netns {b}"),
            format!("-n {a} address add 10.77.0.1/24 dev {near}"),
            format!("-n {b} address add 10.77.0.2/24 dev {far}"),
            // What a host sends to its own address goes this way.
            format!("-n {a} link set lo up"),
            format!("-n {a} link set {near} up"),
            format!("-n {b} link set {far} up"),
        ] {
            let made = Command::new("ip").args(line.split(' ')).output();
            if !made.as_ref().is_ok_and(|output| output.status.success()) {
                sori_tests::not_for_this_machine(format!(
                    "no network namespaces (root and iproute2 make them): {made:?}"
                ));
                return None;
            }
        }
        Some(hosts)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in &self.0 {
            // It may never have been made.
            let _ = Command::new("ip").args(["netns", "delete", host]).output();
        }
    }
}

#[test]
fn two_hosts_train_together() {
    let Some(hosts) = Hosts::make() else { return };
    let workshop = Workshop::new(4);
    // Each host has its own disk: only the first one's run is written.
    let ranks: Vec<_> = (0..2)
        .map(|index| {
            let mut words: Vec<_> = ["ip", "netns", "exec", &hosts.0[index]]
                .map(str::to_owned)
                .into();
            words.extend(workshop.train(&format!("run-{index}"), &["--peer-timeout", "60"]));
            rank(&mut command(&words), index, 2, "10.77.0.1", 29_500)
        })
        .collect();
    let told: Vec<_> = ranks
        .into_iter()
        .map(|child| child.wait_with_output().unwrap())
        .collect();
    ran(&told[1]);
    ran(&told[0]);
    assert!(workshop.path("run-0/final.safetensors").exists());
    assert!(!workshop.path("run-1").exists());
}

/// torchrun as the wheel of libtorch brings it.
const TORCHRUN: &str = "
import ctypes, os, sys
sys.setdlopenflags(os.RTLD_LAZY)
for library in sys.argv.pop(1).split(','):
    ctypes.CDLL(library)
from torch.distributed.run import main
main()
";

/// What the wheel's Python half is linked with and has nowhere, 2.5 GB that a launcher has no use for: empty
/// libraries of these names stand in.
const CUDA: [&str; 10] = [
    "libcublas.so.13",
    "libcublasLt.so.13",
    "libcudnn.so.9",
    "libcufft.so.12",
    "libcufile.so.0",
    "libcurand.so.10",
    "libcusparse.so.12",
    "libcusparseLt.so.0",
    "libnccl.so.2",
    "libnvshmem_host.so.3",
];

/// The words that torchrun is started with; `None`, with a word on it, where it cannot be.
fn torchrun(folder: &Path) -> Option<Vec<String>> {
    let libtorch = std::env::var("LIBTORCH").unwrap_or_default();
    let Some(python) = Path::new(&libtorch)
        .ancestors()
        .map(|folder| folder.join("bin/python"))
        .find(|python| python.exists())
    else {
        sori_tests::skipped(format!(
            "no Python beside libtorch in {libtorch:?} (scripts/setup makes it)"
        ));
        return None;
    };
    let libraries = CUDA.map(|name| {
        let library = folder.join(name);
        let made = Command::new("cc")
            .args(["-shared", "-x", "c", "/dev/null", "-o"])
            .arg(&library)
            .arg(format!("-Wl,-soname,{name}"))
            .status();
        assert!(made.unwrap().success());
        library.to_str().unwrap().to_owned()
    });
    let python = python.to_str().unwrap().to_owned();
    let words = vec![python, "-c".into(), TORCHRUN.into(), libraries.join(",")];
    let help = command(&[&words[..], &["--help".to_owned()]].concat()).output();
    if !help.as_ref().is_ok_and(|output| output.status.success()) {
        sori_tests::skipped(format!("torchrun cannot be started: {help:?}"));
        return None;
    }
    Some(words)
}

#[test]
fn torchrun_starts_a_job_and_starts_it_again_after_a_death() {
    let workshop = Workshop::new(100);
    let Some(torchrun) = torchrun(workshop.0.path()) else {
        return;
    };
    let port = free_port().to_string();
    let options = [
        "--no-python",
        "--nproc-per-node=2",
        "--max-restarts=1",
        "--monitor-interval=0.1",
        "--master-port",
        &port,
    ];
    let mut words = torchrun;
    words.extend(options.map(str::to_owned));
    words.extend(workshop.train("run", &["--resume", "--peer-timeout", "60"]));
    let job = command(&words).spawn().unwrap();
    let checkpoints = workshop.path("run/checkpoints");
    let begun = Instant::now();
    while fs::read_dir(&checkpoints).map_or(0, Iterator::count) < 1 {
        assert!(begun.elapsed() < Duration::from_secs(120), "no checkpoint");
        thread::sleep(Duration::from_millis(20));
    }
    let ranks = children(job.id());
    assert_eq!(ranks.len(), 2);
    let kill = Command::new("kill").args(["-KILL", &ranks[1]]).status();
    assert!(kill.unwrap().success());
    let told = ran(&job.wait_with_output().unwrap());
    // It names one of the two: the killed one, or the other, which ended for its sake, if both were dead when it looked.
    assert_eq!(told.matches("failed (exitcode: ").count(), 1, "{told}");
    // The second life goes on where the checkpoint was.
    assert_eq!(told.matches("step 1 of 100,").count(), 1, "{told}");

    // As if nothing had happened.
    ran(&command(&workshop.train("whole", &["--workers", "2"]))
        .output()
        .unwrap());
    let model = |run: &str| workshop.path(run).join("final.safetensors");
    let (apart, most) = apart(&model("run"), &model("whole"));
    assert!(most > 0.1, "{most}");
    assert!(apart < 1e-5, "{apart}");
}
