//! The beam and what leads it: phrases, grammars, language models.

use std::fs;
use std::io::{Read, Write};

use serde_json::Value;
use sori_tests::tone::ToneModel;

use crate::{TONE, sori, stderr, stdout, talk, transcribe, with_stdin};

#[test]
fn a_beam_hears_the_same_and_knows_alternatives() {
    let (folder, _) = talk();
    let plain = stdout(&transcribe(&["talk.wav"], folder.path()));
    let list = folder.path().join("phrases.txt");
    fs::write(&list, "one going\n# numbers\nthree 0.4\n").unwrap();
    for search in [&["--beam", "4"][..], &["--phrases", "phrases.txt"]] {
        let output = transcribe(&[search, &["talk.wav"]].concat(), folder.path());
        assert_eq!(stdout(&output), plain, "{}", stderr(&output));
    }
    let json = transcribe(
        &["--nbest", "3", "--format", "json", "talk.wav"],
        folder.path(),
    );
    let json: Value = serde_json::from_str(&stdout(&json)).unwrap();
    let first = &json["segments"][0];
    let alternatives = first["alternatives"].as_array().unwrap();
    assert!((2..=3).contains(&alternatives.len()), "{alternatives:?}");
    assert_eq!(alternatives[0]["text"], first["text"]);
    let score = |index: usize| alternatives[index]["score"].as_f64().unwrap();
    assert!(score(0) > score(1));

    fs::write(&list, "one\nzwölf\n").unwrap();
    let refused = transcribe(&["--phrases", "phrases.txt", "talk.wav"], folder.path());
    assert_eq!(
        stderr(&refused),
        "sori: phrases.txt:2: the model's tokens have no 'z', so it cannot say \"zwölf\"\n"
    );
    assert_eq!(refused.status.code(), Some(1));
}

#[test]
fn a_grammar_is_kept_to() {
    let (folder, _) = talk();
    let write = |grammar| fs::write(folder.path().join("commands"), grammar).unwrap();
    write("one going\none\nthree\n");
    let command = ["--grammar", "commands", "talk.wav"];
    let output = transcribe(&command, folder.path());
    assert_eq!(
        stdout(&output),
        "one going\n[out of grammar]\n",
        "{}",
        stderr(&output)
    );
    let json = transcribe(
        &[&["--format", "json"], &command[..]].concat(),
        folder.path(),
    );
    let json: Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!(json["text"], "one going");
    assert!(json["segments"][0].get("out_of_grammar").is_none());
    assert_eq!(json["segments"][1]["out_of_grammar"], true);
    assert_eq!(json["segments"][1]["text"], "");

    write("#JSGF V1.0;\npublic <number> = one | zwei;\n");
    let refused = transcribe(&command, folder.path());
    assert_eq!(
        stderr(&refused),
        "sori: commands:2: the model's tokens have no 'z', so it cannot say \"zwei\"\n"
    );
    assert_eq!(refused.status.code(), Some(1));
}

const ARPA: &str = "\\data\\\nngram 1=4\nngram 2=1\n\n\
    \\1-grams:\n-1.5\t</s>\n-99\t<s>\t-0.5\n-1\tone\t-0.25\n-2\tgoing\n\n\
    \\2-grams:\n-0.5\t<s> one\n\n\\end\\\n";

/// A directory with `talk.wav`, and `model.lm` made of [`ARPA`].
fn talk_and_model() -> tempfile::TempDir {
    let (directory, _) = talk();
    fs::write(directory.path().join("model.arpa"), ARPA).unwrap();
    let output = sori(&["lm", "build", "model.arpa", "-o", "model.lm"])
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert_eq!((stdout(&output), stderr(&output)), Default::default());
    assert!(output.status.success());
    directory
}

#[test]
fn a_language_model_is_built_described_and_asked() {
    let directory = talk_and_model();
    let run = |arguments: &[&str], input: &[u8]| {
        let mut command = sori(&["lm"]);
        with_stdin(command.args(arguments).current_dir(directory.path()), input)
    };
    // Built again it takes the other's place, which a program may have mapped.
    let path = directory.path().join("model.lm");
    let mapped = fs::File::open(&path).unwrap();
    fs::write(
        directory.path().join("model.arpa"),
        ARPA.replace("-1.5", "-1.25"),
    )
    .unwrap();
    stdout(&run(&["build", "model.arpa", "-o", "model.lm"], b""));
    let mut before = Vec::new();
    (&mapped).read_to_end(&mut before).unwrap();
    assert_ne!(before, fs::read(&path).unwrap());
    fs::write(directory.path().join("model.arpa"), ARPA).unwrap();
    stdout(&run(&["build", "model.arpa", "-o", "model.lm"], b""));
    assert_eq!(before, fs::read(&path).unwrap());
    let info = stdout(&run(&["info", "model.lm"], b""));
    assert_eq!(
        info,
        "order         2\n1-grams       4\n2-grams       1\nsize          0.00 MB\n"
    );
    let info = stdout(&run(&["info", "--json", "model.lm"], b""));
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["order"], 2);
    assert_eq!(info["ngrams"], serde_json::json!([4, 1]));
    let score = run(&["score", "model.lm"], b"one going\ntwo\n\n");
    let lines: Vec<Vec<String>> = stdout(&score)
        .lines()
        .map(|line| line.split('\t').map(ToOwned::to_owned).collect())
        .collect();
    for (line, (log10, unknown, sentence)) in lines.iter().zip([
        (-0.5 - 0.25 - 2.0 - 1.5, "0", "one going"),
        (-1.5, "1", "two"),
        (-0.5 - 1.5, "0", ""),
    ]) {
        assert!(
            (line[0].parse::<f64>().unwrap() - log10).abs() < 1e-3,
            "{line:?}"
        );
        assert_eq!((line[1].as_str(), line[2].as_str()), (unknown, sentence));
    }
    // 10^(7.75 / 6): three words and three ends.
    assert_eq!(
        stderr(&score),
        "3 sentences, 3 words, 1 of them unknown (33.33 %), perplexity 19.6 (35.5 without the unknown)\n"
    );
    assert_eq!(stderr(&run(&["score", "-q", "model.lm"], b"one\n")), "");

    let built = fs::read(directory.path().join("model.lm")).unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(ARPA.as_bytes()).unwrap();
    for input in [ARPA.as_bytes(), &packed.finish().unwrap()] {
        let output = run(&["build", "-", "-o", "again.lm"], input);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(fs::read(directory.path().join("again.lm")).unwrap(), built);
    }

    let wrong = run(&["build", "-", "-o", "wrong.lm"], &ARPA.as_bytes()[..60]);
    assert_eq!(
        stderr(&wrong),
        "sori: standard input:7: expected 4 1-grams, as \\data\\ says, found 2\n"
    );
    assert_eq!(wrong.status.code(), Some(1));
    assert!(!directory.path().join("wrong.lm").exists());
}

#[test]
fn a_language_model_leads_the_beam() {
    let directory = talk_and_model();
    let score = |search: &[&str], package: &str| {
        let mut command = sori(&["transcribe", "--nbest", "4", "--format", "json", "talk.wav"]);
        let command = command.args(["--model", package]).args(search);
        let output = command.current_dir(directory.path()).output().unwrap();
        let json: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", stderr(&output)));
        assert_eq!(json["text"], "one going two");
        json["segments"][0]["alternatives"][0]["score"]
            .as_f64()
            .unwrap()
    };
    let ln = std::f64::consts::LN_10;
    let plain = score(&[], TONE);
    let close = |found: f64, expected: f64| {
        assert!(
            (found - plain - expected).abs() < 2e-3,
            "{} {expected}",
            found - plain
        );
    };
    close(score(&["--lm=model.lm"], TONE), 0.5 * ln * -2.75 + 2.0);
    close(
        score(
            &[
                "--lm=model.lm",
                "--lm-weight",
                "0.25",
                "--word-bonus",
                "-0.5",
            ],
            TONE,
        ),
        0.25 * ln * -2.75 - 1.0,
    );

    // The one that the package brings along, with what it says of it.
    let package = directory.path().join("tone");
    ToneModel::default().write_package(&package).unwrap();
    let path = package.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["language_model"] = serde_json::json!({"file": "model.lm", "weight": 1.0});
    fs::write(&path, config.to_string()).unwrap();
    fs::copy(directory.path().join("model.lm"), package.join("model.lm")).unwrap();
    close(score(&["--lm"], "tone"), ln * -2.75 + 2.0);
    close(score(&["--lm", "--word-bonus", "0"], "tone"), ln * -2.75);
    // It suits another one, too.
    close(score(&["--lm=model.lm"], "tone"), ln * -2.75 + 2.0);
    close(score(&[], "tone"), 0.0);
}
