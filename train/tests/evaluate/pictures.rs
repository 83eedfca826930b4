//! `sori-train plot`: learning curves and attention maps.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use predicates::str::contains;
use sori_train::model;

use crate::support::{tiny_student, tiny_teacher};
use crate::{Speech, of_80_bands, talkative};

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
