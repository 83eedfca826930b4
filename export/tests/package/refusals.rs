//! What is refused leaves no package, nor a part of one.

use std::fs;
use std::path::Path;

use sori_export::graph::{self, GraphError, Streaming, StreamingError, Weights};
use sori_export::{ExportError, Options, export};
use sori_train::config::Chunk;
use sori_train::model::ConformerConfig;
use tch::Tensor;

use crate::support::{CHECKPOINT, checkpoint, model, options, tiny_student};
use crate::with_provenance;

/// Exports what `prepare` leaves in the folder and expects an error and an untouched folder.
fn refused(options: &Options, prepare: impl FnOnce(&Path)) -> ExportError {
    let folder = tempfile::tempdir().unwrap();
    let names = || {
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    prepare(folder.path());
    let before = names();
    let error = export(
        &folder.path().join(CHECKPOINT),
        &folder.path().join("package"),
        options,
    )
    .unwrap_err();
    assert_eq!(names(), before, "{error}");
    error
}

#[test]
fn a_chunk_that_the_model_was_not_trained_for_is_refused() {
    let options = options(320, 1280);
    let error = refused(&options, |folder| {
        with_provenance(folder, &[Chunk::Ms(160), Chunk::Full]);
    });
    assert!(
        error
            .to_string()
            .ends_with("trained with (160 ms, the whole utterance), found 320 ms"),
        "{error}"
    );
}

#[test]
fn a_checkpoint_that_is_no_student_is_refused() {
    let other = |config: ConformerConfig| move |folder: &Path| drop(checkpoint(folder, &config, 4));
    let missing = refused(&options(320, 1280), |_| ());
    assert!(matches!(missing, ExportError::Checkpoint(_)), "{missing}");
    let noise = refused(&options(320, 1280), |folder| {
        fs::write(folder.join(CHECKPOINT), [7; 100]).unwrap();
    });
    assert!(matches!(noise, ExportError::Checkpoint(_)), "{noise}");
    let teacher = ConformerConfig {
        layers: 1,
        d_model: 16,
        feed_forward: 16,
        subsampling_channels: 2,
        ..ConformerConfig::teacher()
    };
    let teacher = refused(&options(320, 1280), other(teacher));
    assert!(teacher.to_string().contains("not causal"), "{teacher}");
    let deaf = refused(
        &options(320, 1280),
        other(ConformerConfig {
            features: 40,
            ..tiny_student()
        }),
    );
    assert!(
        matches!(deaf, ExportError::Features { found: 40, .. }),
        "{deaf}"
    );
}

#[test]
fn tensors_of_another_geometry_are_named() {
    let with_header_of = |config: ConformerConfig| {
        move |folder: &Path| {
            checkpoint(folder, &tiny_student(), 4);
            let (store, _) = model(&tiny_student(), 4);
            sori_train::model::save(&folder.join(CHECKPOINT), &store, &config).unwrap();
        }
    };
    let deeper = ConformerConfig {
        layers: 3,
        ..tiny_student()
    };
    let missing = refused(&options(320, 1280), with_header_of(deeper));
    let missing = missing.to_string();
    assert!(missing.contains("tensor encoder.layers.2."), "{missing}");
    assert!(missing.ends_with("is missing"), "{missing}");
    let wider = ConformerConfig {
        feed_forward: 40,
        ..tiny_student()
    };
    let shape = refused(&options(320, 1280), with_header_of(wider)).to_string();
    assert!(shape.contains("found [32"), "{shape}");
}

#[test]
fn a_graph_is_not_built_of_unfit_weights() {
    let (config, streaming) = (tiny_student(), Streaming::new(320, 1280).unwrap());
    let (store, _) = model(&config, 4);
    let name = "encoder.layers.1.conv.depthwise_conv.weight";
    let build = |replacement: Option<Tensor>| {
        let mut tensors = store.variables();
        tensors.remove(name);
        tensors.extend(replacement.map(|tensor| (name.to_owned(), tensor)));
        graph::build(&config, &Weights::new(tensors), streaming).unwrap_err()
    };
    let missing = build(None);
    assert!(
        matches!(&missing, GraphError::Missing { name: found } if found == name),
        "{missing}"
    );
    let shape = build(Some(Tensor::from_slice(&[0_f32; 24])));
    assert_eq!(
        shape.to_string(),
        format!("tensor {name}: expected shape [24, 1, 7], found [24]")
    );
}

#[test]
fn a_checkpoint_with_a_nan_is_refused() {
    let error = refused(&options(320, 1280), |folder| {
        let (store, _) = model(&tiny_student(), 5);
        let _ = tch::no_grad(|| {
            store.variables()["encoder.layers.1.norm_out.weight"]
                .get(3)
                .fill_(f64::NAN)
        });
        checkpoint(folder, &tiny_student(), 5);
        sori_train::model::save(&folder.join(CHECKPOINT), &store, &tiny_student()).unwrap();
    });
    assert!(
        error
            .to_string()
            .contains("encoder.layers.1.norm_out.weight"),
        "{error}"
    );
}

#[test]
fn impossible_times_are_refused() {
    for (chunk, left) in [
        (0, 1280),
        (50, 1280),
        (320, 0),
        (320, 100),
        (320, 4_000_000),
    ] {
        assert!(Streaming::new(chunk, left).is_err(), "{chunk} {left}");
    }
    let streaming = Streaming::new(320, 1280).unwrap();
    assert!(streaming.batched(0).is_err() && streaming.batched(2000).is_err());
    let student = |folder: &Path| drop(checkpoint(folder, &tiny_student(), 4));
    let error = refused(
        &Options {
            batch: Some(0),
            ..options(320, 1280)
        },
        student,
    );
    assert!(
        matches!(
            error,
            ExportError::Streaming(StreamingError::Batch { found: 0 })
        ),
        "{error}"
    );
}

#[test]
fn tokens_of_another_model_are_refused() {
    let tokens = |text: &'static str| {
        move |folder: &Path| {
            checkpoint(folder, &tiny_student(), 4);
            fs::write(folder.join("tokens.txt"), text).unwrap();
        }
    };
    let few = refused(&options(320, 1280), tokens("a 0\n<blk> 1\n"));
    assert!(
        matches!(
            few,
            ExportError::Tokens {
                expected: 10,
                found: 2,
                ..
            }
        ),
        "{few}"
    );
    let broken = refused(&options(320, 1280), tokens("a 0\nb 1\n"));
    assert!(matches!(broken, ExportError::Package(_)), "{broken}");
    let none = refused(&options(320, 1280), |folder| {
        checkpoint(folder, &tiny_student(), 4);
        fs::remove_file(folder.join("tokens.txt")).unwrap();
    });
    assert!(matches!(none, ExportError::Io { .. }), "{none}");
}

#[test]
fn speech_that_cannot_be_read_is_refused() {
    let mut options = options(320, 1280);
    options.speech = Some(file!().into());
    let error = refused(&options, |folder| {
        drop(checkpoint(folder, &tiny_student(), 4));
    });
    assert!(
        matches!(error, ExportError::Io { .. } | ExportError::Wav { .. }),
        "{error}"
    );
}

#[test]
fn what_exists_is_not_overwritten() {
    let error = refused(&options(320, 1280), |folder| {
        checkpoint(folder, &tiny_student(), 4);
        fs::create_dir(folder.join("package")).unwrap();
    });
    assert!(matches!(error, ExportError::Exists { .. }), "{error}");
}

#[test]
fn results_that_differ_leave_no_package() {
    // Weights so large that float16 cannot hold them: the graph gives NaN, the trained model does not.
    let error = refused(
        &Options {
            f16_weights: true,
            ..options(320, 1280)
        },
        |folder| {
            let (store, _) = model(&tiny_student(), 6);
            let _ = tch::no_grad(|| {
                store.variables()["encoder.layers.0.feed_forward1.linear1.weight"]
                    .get(3)
                    .fill_(1e5)
            });
            checkpoint(folder, &tiny_student(), 6);
            sori_train::model::save(&folder.join(CHECKPOINT), &store, &tiny_student()).unwrap();
        },
    );
    assert!(matches!(error, ExportError::Differs { .. }), "{error}");
}

#[test]
fn an_int8_graph_that_says_something_else_is_refused() {
    // A hidden value that nobody hears is a hundred times as large as the others: in eight bits little
    // is left of those, in floats all.
    let error = refused(
        &Options {
            int8: true,
            ..options(320, 1280)
        },
        |folder| {
            let (store, _) = model(&tiny_student(), 6);
            let variables = store.variables();
            let of = |name: &str| &variables[&format!("encoder.layers.1.feed_forward2.{name}")];
            tch::no_grad(|| {
                let _ = of("linear1.bias").get(3).fill_(400.0);
                let _ = of("linear2.weight").select(1, 3).fill_(0.0);
            });
            checkpoint(folder, &tiny_student(), 6);
            sori_train::model::save(&folder.join(CHECKPOINT), &store, &tiny_student()).unwrap();
        },
    );
    assert!(
        matches!(error, ExportError::Differs { graph: "int8", .. }),
        "{error}"
    );
}
