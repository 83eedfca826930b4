//! Which engine runs, and what is said where ONNX Runtime cannot.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use prost::Message as _;
use sori_tests::tone::pb::attribute_proto::AttributeType;
use sori_tests::tone::pb::tensor_proto::DataType;
use sori_tests::tone::pb::{AttributeProto, NodeProto, TensorProto};
use sori_tests::tone::{Precision, ToneModel};

use crate::{TONE, sori, stderr, stdout, talk, transcribe};

/// What is said about the engine that `auto` takes where ONNX Runtime can be used or, second, cannot.
fn choice() -> [&'static str; 2] {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2")
        && std::is_x86_feature_detected!("fma")
        && !std::is_x86_feature_detected!("avx512f")
        && !std::is_x86_feature_detected!("avxvnni")
    {
        return ["engine tract, the faster one on this processor"; 2];
    }
    [
        "engine ort, from ",
        "engine tract, because ort cannot be used",
    ]
}

#[test]
fn verbose_says_which_engine_and_why() {
    let (directory, _) = talk();
    let output = transcribe(&["-v", "--engine", "auto", "talk.wav"], directory.path());
    assert!(stderr(&output).contains(choice()[0]), "{}", stderr(&output));
    assert!(stderr(&output).contains("int8"), "{}", stderr(&output));
    let output = transcribe(&["-v", "--engine", "tract", "talk.wav"], directory.path());
    // Int8 is the faster one where the processor has AVX2.
    #[cfg(target_arch = "x86_64")]
    let expected = ["fp32", "int8"][usize::from(std::is_x86_feature_detected!("avx2"))];
    #[cfg(not(target_arch = "x86_64"))]
    let expected = "fp32";
    assert!(
        stderr(&output).contains("tract") && stderr(&output).contains(expected),
        "{}",
        stderr(&output)
    );
}

/// `talk.wav` of a folder, with this library as ONNX Runtime.
fn transcribe_with(library: &Path, engine: &str, folder: &Path) -> Output {
    let mut command = sori(&[
        "-v",
        "transcribe",
        "--model",
        TONE,
        "--engine",
        engine,
        "talk.wav",
    ]);
    command
        .env("ORT_DYLIB_PATH", library)
        .current_dir(folder)
        .output()
        .unwrap()
}

#[test]
fn a_missing_or_foreign_onnx_runtime_is_a_fall_back_or_an_error() {
    let (directory, _) = talk();
    fs::write(directory.path().join("libonnxruntime.so"), "not a library").unwrap();
    for library in ["/nowhere/libonnxruntime.so", "libonnxruntime.so", "/"] {
        let run = |engine| transcribe_with(Path::new(library), engine, directory.path());
        let auto = run("auto");
        assert_eq!(
            stdout(&auto),
            "one going\ntwo\n",
            "{library}: {}",
            stderr(&auto)
        );
        assert!(stderr(&auto).contains(choice()[1]), "{}", stderr(&auto));

        let ort = run("ort");
        assert_eq!(ort.status.code(), Some(1), "{library}");
        let message = stderr(&ort);
        assert!(
            message.contains("no usable ONNX Runtime library"),
            "{message}"
        );
        assert!(!message.contains("panicked"), "{message}");
    }
}

#[test]
fn an_old_onnx_runtime_is_named_with_its_version() {
    let (directory, _) = talk();
    let source = "static const char *version(void) { return \"1.10.0\"; }\n\
        static const void *api(unsigned number) { return 0; }\n\
        static struct { const void *(*get)(unsigned); const char *(*name)(void); } base = {api, version};\n\
        const void *OrtGetApiBase(void) { return &base; }\n";
    fs::write(directory.path().join("old.c"), source).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o", "old.so", "old.c"])
        .current_dir(directory.path())
        .status()
        .unwrap();
    assert!(compiled.success());
    let library = directory.path().join("old.so");
    let run = |engine| transcribe_with(&library, engine, directory.path());
    let ort = run("ort");
    let expected = format!("{}: version 1.10.0 is too old", library.display());
    assert!(stderr(&ort).contains(&expected), "{}", stderr(&ort));
    assert_eq!(ort.status.code(), Some(1));
    assert_eq!(stdout(&run("auto")), "one going\ntwo\n");
}

/// A package whose scores pass through an operator that ONNX Runtime has and tract has not, which changes nothing.
fn write_package_that_tract_refuses(directory: &Path) {
    let tone = ToneModel::default();
    tone.write_package(directory).unwrap();
    for (precision, file) in [
        (Precision::Fp32, "model.onnx"),
        (Precision::Int8, "model.int8.onnx"),
    ] {
        let mut model = tone.graph(precision);
        let graph = model.graph.as_mut().unwrap();
        let softmax = graph
            .node
            .iter_mut()
            .find(|node| node.output == ["logprobs"])
            .unwrap();
        softmax.output = vec!["straight".into()];
        graph.initializer.push(TensorProto {
            name: "one_each".into(),
            dims: vec![1],
            data_type: DataType::Int64 as i32,
            int64_data: vec![1],
            ..TensorProto::default()
        });
        // Of each sequence the first row is reversed.
        graph.node.push(NodeProto {
            input: vec!["straight".into(), "one_each".into()],
            output: vec!["logprobs".into()],
            op_type: "ReverseSequence".into(),
            attribute: [("time_axis", 1), ("batch_axis", 0)]
                .map(|(name, axis)| AttributeProto {
                    name: name.into(),
                    r#type: AttributeType::Int as i32,
                    i: axis,
                    ..AttributeProto::default()
                })
                .into(),
            ..NodeProto::default()
        });
        fs::write(directory.join(file), model.encode_to_vec()).unwrap();
    }
}

#[test]
fn a_graph_that_tract_refuses_runs_on_onnx_runtime() {
    let (directory, _) = talk();
    let package = directory.path().join("package");
    write_package_that_tract_refuses(&package);
    let run = |engine, library: Option<&str>| {
        let mut command = sori(&["-v", "transcribe", "--model", "package", "--engine", engine]);
        if let Some(library) = library {
            command.env("ORT_DYLIB_PATH", library);
        }
        command
            .arg("talk.wav")
            .current_dir(directory.path())
            .output()
            .unwrap()
    };
    let auto = run("auto", None);
    assert_eq!(stdout(&auto), "one going\ntwo\n", "{}", stderr(&auto));
    if choice()[0].starts_with("engine tract") {
        let expected = "engine ort, because tract cannot be used";
        assert!(stderr(&auto).contains(expected), "{}", stderr(&auto));
    }
    // Nothing is left to fall back to: what tract said is what is told.
    for (engine, library) in [
        ("tract", None),
        ("auto", Some("/nowhere/libonnxruntime.so")),
    ] {
        let alone = run(engine, library);
        assert_eq!(alone.status.code(), Some(1), "{}", stderr(&alone));
        let expected = "engine tract cannot load the graph";
        assert!(stderr(&alone).contains(expected), "{}", stderr(&alone));
        assert!(
            stderr(&alone).contains("ReverseSequence"),
            "{}",
            stderr(&alone)
        );
    }
}
