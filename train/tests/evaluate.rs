//! Evaluation: error rates that agree with jiwer's, and decoding that agrees with a stream's.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::f32::consts::TAU;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use sori::decode::Greedy;
use sori::features::LogMel;
use sori_train::config::{Chunk, Contexts};
use sori_train::data::{Corpus, Source, Tokenizer, TokenizerKind, audio, manifest};
use sori_train::evaluate::{
    ErrorCounts, EvaluateError, Recogniser, Row, Set, Settings, character_errors, evaluate, texts,
    word_errors,
};
use sori_train::model::{self, Conformer, ConformerConfig, Pass, Teacher, TeacherSource};
use support::{golden, tiny_student, tiny_teacher};
use tch::{Device, Tensor, nn};

/// Pieces of words, as many as the tiny models have tokens.
const PIECES: [&str; 9] = [
    "\u{2581}a",
    "\u{2581}the",
    "n",
    "\u{2581}c",
    "at",
    "s",
    "\u{2581}",
    "'",
    "d",
];

fn pieces() -> Vec<String> {
    PIECES.map(str::to_owned).to_vec()
}

#[test]
fn counts_agree_with_jiwer() {
    let text = fs::read_to_string(golden("wer", "pairs.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let expected = |of: &Value| serde_json::from_value::<ErrorCounts>(of.clone()).unwrap();
    let pairs = golden["pairs"].as_array().unwrap();
    let mut pooled = [ErrorCounts::default(); 2];
    for pair in pairs {
        let [said, heard] = ["reference", "hypothesis"].map(|key| pair[key].as_str().unwrap());
        let words = word_errors(said, heard);
        let characters = character_errors(said, heard);
        assert_eq!(
            words,
            expected(&pair["words"]),
            "{said:?} heard as {heard:?}"
        );
        assert_eq!(
            characters,
            expected(&pair["characters"]),
            "{said:?} heard as {heard:?}"
        );
        pooled[0] += words;
        pooled[1] += characters;
    }
    assert!(pairs.len() > 200);
    let of = &golden["pooled"];
    assert_eq!(
        pooled,
        [expected(&of["words"]), expected(&of["characters"])]
    );
    for (counts, rate) in pooled.iter().zip(["wer", "cer"]) {
        let difference = counts.rate().unwrap() - of[rate].as_f64().unwrap();
        assert!(difference.abs() < 1e-12, "{rate}");
    }
    assert_eq!(word_errors("", "a").rate(), None);
}

/// Speech-like sound in files, and a manifest of it.
struct Speech {
    folder: tempfile::TempDir,
    seconds: f64,
}

impl Speech {
    /// Utterances of these lengths in samples.
    fn of(lengths: &[usize]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut lines = Vec::new();
        for (index, &samples) in lengths.iter().enumerate() {
            let name = format!("{index}.wav");
            write_sound(&folder.path().join(&name), index as u64, samples);
            let seconds = samples as f64 / 16_000.0;
            manifest::write_line(&mut lines, &name, seconds, "the cat", None).unwrap();
        }
        fs::write(folder.path().join("speech.jsonl"), lines).unwrap();
        Self {
            folder,
            seconds: lengths.iter().sum::<usize>() as f64 / 16_000.0,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn corpus(&self) -> Corpus {
        Corpus::read(
            &[Source::once(self.path("speech.jsonl"))],
            Default::default(),
        )
        .unwrap()
    }

    /// Decodes with each chunk size: the rows, and what was heard of the files in their order.
    fn decode(
        &self,
        model: &Conformer,
        settings: &Settings,
        teacher: Option<&Teacher>,
    ) -> Result<(Vec<Row>, Vec<Vec<String>>), EvaluateError> {
        let pieces = pieces();
        let recogniser = Recogniser::new(model, &pieces, Device::Cpu)?;
        let entries = self.corpus().entries().unwrap();
        let set = Set {
            name: "speech",
            entries: &entries,
        };
        let mut heard =
            vec![vec![String::new(); set.entries.len()]; settings.contexts.chunks_ms.len()];
        let rows = evaluate(recogniser, set, settings, teacher, &mut |scored| {
            let chunks = &settings.contexts.chunks_ms;
            let chunk = chunks
                .iter()
                .position(|&chunk| chunk == scored.chunk_ms)
                .unwrap();
            heard[chunk][scored.entry.line - 1] = scored.hypothesis.to_owned();
            ControlFlow::Continue(())
        })?;
        Ok((rows, heard))
    }
}

/// Tones that change every 50 ms, and noise.
fn write_sound(path: &Path, seed: u64, samples: usize) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut rng = StdRng::seed_from_u64(seed);
    let mut file = hound::WavWriter::create(path, spec).unwrap();
    let (mut pitch, mut level) = (0.0, 0.0);
    for n in 0..samples {
        if n % 800 == 0 {
            pitch = rng.random_range(100.0..4000.0);
            level = rng.random_range(100.0..8000.0);
        }
        let tone = level * (TAU * pitch * n as f32 / 16_000.0).sin();
        let noise = rng.random_range(-100.0..100.0);
        file.write_sample((tone + noise) as i16).unwrap();
    }
    file.finalize().unwrap();
}

fn student() -> (nn::VarStore, Conformer) {
    talkative(&of_80_bands(&tiny_student()), 3)
}

/// A random model with large weights, so that it says something else at every other frame.
fn talkative(config: &ConformerConfig, seed: u64) -> (nn::VarStore, Conformer) {
    let (store, model) = support::model(config, seed);
    for mut weights in store
        .variables()
        .into_values()
        .filter(|weights| weights.dim() > 1)
    {
        let _ = tch::no_grad(|| weights.g_mul_scalar_(3.0));
    }
    (store, model)
}

fn of_80_bands(config: &ConformerConfig) -> ConformerConfig {
    let features = LogMel::BINS as i64;
    ConformerConfig {
        features,
        ..config.clone()
    }
}

fn settings(chunks_ms: &[Chunk]) -> Settings {
    Settings {
        contexts: Contexts {
            chunks_ms: chunks_ms.to_vec(),
            left_ms: 320,
        },
        ..Settings::default()
    }
}

/// What a stream says: sound in pieces of 10 ms, chunk by chunk, then the tail of silence.
fn streamed(model: &Conformer, samples: &[f32], chunk: i64, left: i64) -> String {
    let mut state = model.start(1, chunk, left).unwrap();
    let mut decoder = Greedy::new(PIECES.len());
    let mut log_mel = LogMel::new();
    let mut frames = Vec::new();
    let shift = 4 * chunk as usize * LogMel::BINS;
    let mut processed = 0;
    let mut step = |frames: &mut Vec<f32>| {
        while frames.len() >= shift {
            let features: Vec<_> = frames.drain(..shift).collect();
            let features = Tensor::from_slice(&features).reshape([1, 4 * chunk, 80]);
            let log_probs = tch::no_grad(|| model.step(&features, &mut state)).unwrap();
            decoder.accept(&Vec::<f32>::try_from(log_probs.reshape([-1])).unwrap());
            processed += 4 * chunk as usize;
        }
        processed
    };
    for piece in samples.chunks(160) {
        log_mel.accept(piece, &mut frames);
        step(&mut frames);
    }
    while step(&mut frames) < (samples.len() + 6400).div_ceil(160) {
        log_mel.accept(&[0.0; 160], &mut frames);
    }
    let text: String = decoder.hits().iter().map(|hit| PIECES[hit.token]).collect();
    let words = text
        .split('\u{2581}')
        .filter(|word| word.contains(char::is_alphabetic));
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn chunks_are_decoded_as_a_stream_is() {
    let speech = Speech::of(&[48_000, 29_111, 83_456, 5_120, 700]);
    let (_store, model) = student();
    let chunks = [160, 320, 640].map(Chunk::Ms);
    let (rows, heard) = speech.decode(&model, &settings(&chunks), None).unwrap();
    let corpus = speech.corpus();
    let mut said = 0;
    for (chunk, heard) in [4, 8, 16].into_iter().zip(heard) {
        for (entry, heard) in corpus.entries().unwrap().iter().zip(heard) {
            let samples = audio::read(entry).unwrap();
            let expected = streamed(&model, &samples, chunk, 8);
            assert_eq!(
                heard,
                expected,
                "{} in chunks of {chunk} frames",
                entry.id()
            );
            said += expected.split_whitespace().count();
        }
    }
    assert!(said > 30, "{said} words");
    for row in rows {
        assert_eq!((row.utterances, row.unreadable, row.too_long), (5, 0, 0));
        assert!((row.hours * 3600.0 - speech.seconds).abs() < 1e-6);
        assert_eq!(row.words.reference, 10);
    }
}

#[test]
fn batch_mates_change_nothing() {
    let speech = Speech::of(&[12_000, 9_111, 23_456, 700]);
    for config in [tiny_student(), tiny_teacher()] {
        let chunks: &[_] = if config.causal {
            &[Chunk::Ms(160), Chunk::Full]
        } else {
            &[Chunk::Full]
        };
        let (_store, model) = talkative(&of_80_bands(&config), 5);
        let together = settings(chunks);
        let alone = Settings {
            batch_seconds: 0.01,
            ..together.clone()
        };
        let mut together = speech.decode(&model, &together, None).unwrap();
        let mut alone = speech.decode(&model, &alone, None).unwrap();
        for (a, b) in together.0.iter_mut().zip(&mut alone.0) {
            // Sums over other batches are rounded in other ways.
            let (a, b) = (a.hidden.take().unwrap(), b.hidden.take().unwrap());
            assert!((a.deviation - b.deviation).abs() < 1e-4, "{a:?} {b:?}");
            assert!((a.cosine - b.cosine).abs() < 1e-4, "{a:?} {b:?}");
        }
        assert_eq!(together, alone);
    }
}

#[test]
fn the_whole_utterance_is_heard_with_its_tail() {
    let speech = Speech::of(&[9_111]);
    let (_store, model) = student();
    let (_, heard) = speech
        .decode(&model, &settings(&[Chunk::Full]), None)
        .unwrap();
    let mut samples = audio::read(&speech.corpus().entry(0).unwrap()).unwrap();
    // 9111 samples and 6400 of silence, to the end of an output frame.
    samples.resize(9111 + 6400 + 2 * 640, 0.0);
    let frames = sori::features::log_mel(&samples)[..100 * 80].to_vec();
    let features = Tensor::from_slice(&frames).reshape([1, 100, 80]);
    let output = tch::no_grad(|| model.forward(&features, &[100], Pass::default()));
    let pieces = pieces();
    let expected = texts(&pieces, &output.log_probs, &output.lengths).unwrap();
    assert_eq!(heard, [expected]);
}

#[test]
fn spikes_are_compared_with_a_teachers() {
    let speech = Speech::of(&[12_000, 9_111]);
    let (store, model) = talkative(&of_80_bands(&tiny_teacher()), 5);
    let path = speech.path("teacher.safetensors");
    model::save(&path, &store, model.config()).unwrap();
    let teacher = Teacher::open(&TeacherSource::Sori(path.clone()), None, Device::Cpu).unwrap();
    let (rows, _) = speech
        .decode(&model, &settings(&[Chunk::Full]), Some(&teacher))
        .unwrap();
    let spikes = rows[0].spikes.unwrap();
    assert!(spikes.spikes > 5, "{spikes:?}");
    assert_eq!(spikes.shares(), Some([1.0, 1.0]));

    let other = ConformerConfig {
        vocabulary: 11,
        ..of_80_bands(&tiny_teacher())
    };
    let (store, _other) = support::model(&other, 5);
    model::save(&path, &store, &other).unwrap();
    let teacher = Teacher::open(&TeacherSource::Sori(path), None, Device::Cpu).unwrap();
    let error = speech
        .decode(&model, &settings(&[Chunk::Full]), Some(&teacher))
        .unwrap_err();
    assert!(
        error.to_string().contains("has 12 outputs, expected 10"),
        "{error}"
    );
}

#[test]
fn whoever_listens_may_stop() {
    let speech = Speech::of(&[9_111, 8_000, 7_000]);
    let (_store, model) = student();
    let pieces = pieces();
    let recogniser = Recogniser::new(&model, &pieces, Device::Cpu).unwrap();
    let entries = speech.corpus().entries().unwrap();
    let set = Set {
        name: "speech",
        entries: &entries,
    };
    let mut heard = 0;
    let stopped = evaluate(
        recogniser,
        set,
        &settings(&[Chunk::Full]),
        None,
        &mut |_| {
            heard += 1;
            if heard == 2 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        },
    );
    assert!(matches!(stopped, Err(EvaluateError::Stopped)));
    assert_eq!(heard, 2);
}

#[test]
fn impossible_settings_are_refused() {
    let speech = Speech::of(&[9_111]);
    let (_store, model) = student();
    let refused = |model: &Conformer, settings: &Settings| {
        speech
            .decode(model, settings, None)
            .unwrap_err()
            .to_string()
    };
    let error = refused(&model, &settings(&[Chunk::Ms(100)]));
    assert!(error.contains("in steps of 40, found 100"), "{error}");
    let zero = Settings {
        batch_seconds: 0.0,
        ..settings(&[Chunk::Full])
    };
    let error = refused(&model, &zero);
    assert!(error.contains("above 0"), "{error}");
    let (_store, teacher) = talkative(&of_80_bands(&tiny_teacher()), 5);
    let error = refused(&teacher, &settings(&[Chunk::Ms(160)]));
    assert!(error.contains("not causal"), "{error}");
    let (_store, of_16_bands) = support::model(&tiny_student(), 5);
    let error = Recogniser::new(&of_16_bands, &pieces(), Device::Cpu).unwrap_err();
    assert!(
        error.to_string().contains("16 log-mel bands, expected 80"),
        "{error}"
    );
    let few = pieces()[..3].to_vec();
    let error = Recogniser::new(&model, &few, Device::Cpu).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("9 outputs besides the blank, but there are 3"),
        "{error}"
    );
}

/// The command with a checkpoint of the tiny student and a tokenizer of as many pieces.
struct Bench {
    speech: Speech,
}

const VOCABULARY: usize = 28;

impl Bench {
    fn new(lengths: &[usize]) -> Self {
        let speech = Speech::of(lengths);
        let config = ConformerConfig {
            vocabulary: VOCABULARY as i64,
            ..of_80_bands(&tiny_student())
        };
        let (store, _model) = support::model(&config, 3);
        model::save(&speech.path("student.safetensors"), &store, &config).unwrap();
        let texts = ["the cat sat"];
        let tokenizer = Tokenizer::train(texts, TokenizerKind::Bpe, VOCABULARY).unwrap();
        tokenizer.save(&speech.path("tokens")).unwrap();
        Self { speech }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::cargo_bin("sori-train").unwrap();
        command
            .current_dir(self.speech.folder.path())
            .args(["evaluate", "student.safetensors", "--device", "cpu"])
            .args(["--manifest", "speech.jsonl"])
            .args(arguments);
        command
    }
}

#[test]
fn the_command_prints_a_table() {
    let bench = Bench::new(&[12_000, 9_111, 700]);
    let output = bench
        .command(&[
            "--tokens",
            "tokens",
            "--chunk-ms",
            "160,full",
            "--errors",
            "errors.jsonl",
        ])
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    let table = String::from_utf8(output).unwrap();
    let lines: Vec<Vec<_>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert_eq!(lines[0][..4], ["set", "chunk", "WER", "%"]);
    assert_eq!(lines[1][..3], ["speech", "160", "ms"]);
    assert_eq!(lines[2][..2], ["speech", "full"]);
    assert!(
        lines[1].contains(&"6") && lines[1].contains(&"3"),
        "{table}"
    );

    let errors = fs::read_to_string(bench.speech.path("errors.jsonl")).unwrap();
    let errors: Vec<Value> = errors
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // An untrained model is always wrong.
    assert_eq!(errors.len(), 6);
    let first = &errors[0];
    assert_eq!(
        (&first["id"], &first["chunk_ms"]),
        (&Value::from("0.wav"), &Value::from(160))
    );
    let counts = word_errors("the cat", first["hypothesis"].as_str().unwrap());
    assert_eq!(first["insertions"], Value::from(counts.insertions));
}

#[test]
fn the_command_tells_where_results_come_from() {
    let bench = Bench::new(&[12_000, 9_111, 700]);
    let arguments = [
        "--tokens",
        "tokens",
        "--chunk-ms",
        "320",
        "--json",
        "--limit",
        "2",
    ];
    let output = bench
        .command(&arguments)
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    let report: Value = serde_json::from_slice(&output).unwrap();
    let (_, model) = model::load(&bench.speech.path("student.safetensors"), Device::Cpu).unwrap();
    let parameters: i64 = model
        .config()
        .parameters()
        .iter()
        .map(|(_, count)| count)
        .sum();
    assert_eq!(report["parameters"], Value::from(parameters));
    assert_eq!(report["checkpoint"], "student.safetensors");
    assert_eq!(report["command"][1], "evaluate");
    assert_eq!(report["limit"], 2);
    let row = &report["results"][0];
    assert_eq!(
        (&row["chunk_ms"], &row["utterances"]),
        (&Value::from(320), &Value::from(2))
    );
    let words: ErrorCounts = serde_json::from_value(row["words"].clone()).unwrap();
    assert_eq!(words.reference, 4);
    assert_eq!(row["wer"].as_f64(), words.rate());
}

#[test]
fn missing_utterances_are_told_of() {
    let bench = Bench::new(&[12_000, 9_111, 700]);
    fs::write(bench.speech.path("1.wav"), "no sound").unwrap();
    let manifest = bench.speech.path("speech.jsonl");
    let lines = fs::read_to_string(&manifest).unwrap() + "{}\n";
    fs::write(&manifest, lines).unwrap();
    let arguments = [
        "--tokens",
        "tokens",
        "--chunk-ms",
        "full",
        "--longest",
        "0.6",
    ];
    bench
        .command(&arguments)
        .assert()
        .success()
        .stdout(contains(
            "speech: 3 utterances are missing: 1 bad lines, 1 with broken audio, 1 too long",
        ))
        .stderr(contains("speech.jsonl:2: ").and(contains("1.wav")));
    bench
        .command(&["--tokens", "tokens", "--longest", "0.01"])
        .assert()
        .failure()
        .stderr(contains(
            "speech holds no utterance that can be used: of 3, 0 cannot be read, 3 are too long",
        ));
    bench
        .command(&["--tokens", "tokens", "--strict"])
        .assert()
        .failure()
        .stderr(contains("speech.jsonl:4"));
}

#[test]
fn a_checkpoint_without_tokens_needs_some() {
    let bench = Bench::new(&[700]);
    bench.command(&[]).assert().failure().stderr(contains(
        "student.safetensors does not tell its tokens: give --tokens",
    ));
}

/// The sizes and pixels of a PNG.
fn pixels(path: &Path) -> (u32, u32, Vec<[u8; 3]>) {
    let file = std::io::BufReader::new(fs::File::open(path).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    let pixels = bytes
        .chunks_exact(3)
        .map(|pixel| [pixel[0], pixel[1], pixel[2]]);
    (info.width, info.height, pixels.collect())
}

fn plot(folder: &Path, arguments: &[&str]) -> assert_cmd::assert::Assert {
    let mut command = Command::cargo_bin("sori-train").unwrap();
    command
        .current_dir(folder)
        .arg("plot")
        .args(arguments)
        .assert()
}

#[test]
fn curves_of_runs_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    for (run, level) in [("none", 80.0), ("sam-guided", 60.0)] {
        let mut lines = String::new();
        for step in (50..=3000).step_by(50) {
            let x = f64::from(step);
            let (stage, losses) = if run == "sam-guided" && step <= 1000 {
                (
                    "sam",
                    format!("\"train/sam\": {}", 0.2 + 300.0 / (x + 300.0)),
                )
            } else {
                (
                    "ctc",
                    format!("\"train/ctc\": {}", 2.0 + level * (-x / 500.0).exp()),
                )
            };
            lines += &format!(
                "{{\"step\": {step}, \"stage\": \"{stage}\", {losses}, \"train/learning_rate\": {}}}\n",
                1e-3 * (x / 500.0).min((500.0 / x).sqrt()),
            );
            if step % 500 == 0 {
                let wer = |chunk: f64| 5.0 * chunk + level * (-x / 800.0).exp();
                lines += &format!(
                    "{{\"step\": {step}, \"stage\": \"{stage}\", \"held_out/wer/160ms\": {}, \
                     \"held_out/wer/full\": {}, \"held_out/ctc/full\": {}}}\n",
                    wer(1.2) / 100.0,
                    wer(1.0) / 100.0,
                    3.0 + level * (-x / 500.0).exp(),
                );
            }
        }
        // A run that is still writing.
        lines += "{\"step\": 3050, \"sta";
        fs::create_dir(folder.path().join(run)).unwrap();
        fs::write(folder.path().join(run).join("metrics.jsonl"), lines).unwrap();
    }
    let draw = |runs: &[&str], name: &str| {
        let arguments = [&["curves", "-o", name], runs].concat();
        plot(folder.path(), &arguments).success();
        pixels(&folder.path().join(name))
    };
    let (width, one_row, of_one) = draw(&["none"], "one.png");
    let (_, two_rows, of_both) = draw(&["none", "sam-guided"], "both.png");
    // Losses, error rate and learning rate: three panels, and one more for the other's first stage.
    assert_eq!((width, two_rows), (1680, one_row));
    let count = |of: &[[u8; 3]], colour: colorous::Color| {
        of.iter()
            .filter(|pixel| pixel[..] == colour.as_array())
            .count()
    };
    let [first, second] = [colorous::TABLEAU10[0], colorous::TABLEAU10[1]];
    assert!(count(&of_one, first) > 500 && count(&of_one, second) == 0);
    assert!(count(&of_both, first) > 500 && count(&of_both, second) > 500);

    fs::create_dir(folder.path().join("empty")).unwrap();
    plot(folder.path(), &["curves", "empty", "-o", "none.png"])
        .failure()
        .stderr(contains("metrics.jsonl"));
    fs::write(folder.path().join("empty/metrics.jsonl"), "").unwrap();
    plot(folder.path(), &["curves", "empty", "-o", "none.png"])
        .failure()
        .stderr(contains("no figures to draw yet"));
}

#[test]
fn attention_maps_are_drawn() {
    let speech = Speech::of(&[40_000]);
    let folder = speech.folder.path();
    for (name, config) in [("student", tiny_student()), ("teacher", tiny_teacher())] {
        let config = of_80_bands(&config);
        let (store, _model) = talkative(&config, 3);
        model::save(&folder.join(format!("{name}.safetensors")), &store, &config).unwrap();
    }
    let draw = |teacher: &str, chunk: &str, name: &str| {
        let arguments = [
            "attention",
            "student.safetensors",
            "--teacher",
            teacher,
            "--audio",
            "0.wav",
            "--chunk-ms",
            chunk,
            "-o",
            name,
            "--device",
            "cpu",
        ];
        plot(folder, &arguments).success();
        pixels(&folder.join(name))
    };
    let none = colorous::RED_BLUE.eval_continuous(0.5).as_array();
    let same = |(_, _, pixels): &(u32, u32, Vec<[u8; 3]>)| {
        pixels.iter().filter(|pixel| pixel[..] == none).count()
    };
    let own = draw("sori:student.safetensors", "full", "own.png");
    let other = draw("sori:teacher.safetensors", "full", "other.png");
    let chunked = draw("sori:teacher.safetensors", "160", "chunked.png");
    // Between a model and itself there is no difference; what neither may see differs nowhere.
    let map = 480 * 480;
    assert!(
        (map..map + map / 100).contains(&same(&own)),
        "{}",
        same(&own)
    );
    assert!(same(&other) < map - map / 20, "{}", same(&other));
    assert!(
        (map / 2..map - map / 20).contains(&same(&chunked)),
        "{}",
        same(&chunked)
    );

    let arguments = [
        "attention",
        "student.safetensors",
        "--teacher",
        "sori:teacher.safetensors",
    ];
    fs::write(folder.join("noise"), "no sound").unwrap();
    plot(
        folder,
        &[&arguments[..], &["--audio", "noise", "-o", "x.png"]].concat(),
    )
    .failure()
    .stderr(contains("noise"));
}
