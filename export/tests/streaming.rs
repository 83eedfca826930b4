//! A package's graphs say what the trained model says, chunk by chunk, whatever the geometry.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use proptest::prelude::*;
use sori::engine::{EngineChoice, EngineOptions, PrecisionChoice, load};
use sori::model::{Package, Precision};
use sori_export::export;
use sori_train::model::{Conformer, ConformerConfig};
use support::{checkpoint, options, random_log_mel};
use tch::{Tensor, no_grad};

/// What the trained model says, chunk by chunk.
fn trained(model: &Conformer, log_mel: &Tensor, chunk: i64, left: i64) -> Tensor {
    no_grad(|| {
        let mut state = model.start(1, chunk, left).unwrap();
        let chunks: Vec<_> = (0..log_mel.size()[0] / (4 * chunk))
            .map(|i| log_mel.narrow(0, i * 4 * chunk, 4 * chunk).unsqueeze(0))
            .map(|features| model.step(&features, &mut state).unwrap())
            .collect();
        Tensor::cat(&chunks, 1).squeeze_dim(0)
    })
}

/// What a package's graph says.
fn exported(package: &Package, engine: EngineChoice, log_mel: &Tensor) -> Tensor {
    let precision = PrecisionChoice::Exactly(Precision::Fp32);
    let engine = load(
        package,
        EngineOptions {
            engine,
            precision,
            ..EngineOptions::default()
        },
    )
    .unwrap();
    let mut session = engine.session().unwrap();
    let values: Vec<f32> = log_mel.flatten(0, -1).try_into().unwrap();
    let mut log_probs = Vec::new();
    for window in values.chunks_exact(package.config().geometry.window_size * 80) {
        log_probs.extend_from_slice(session.step(window).unwrap());
    }
    Tensor::from_slice(&log_probs).reshape([-1, package.config().tokens.count as i64])
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_engines_say_what_the_trained_model_says(
        seed in 0..1000_u64,
        (heads, width) in (1..4_i64, 4..9_i64),
        layers in 1..4_i64,
        kernel in (0..6_i64).prop_map(|half| 2 * half + 1),
        channels in 1..6_i64,
        chunk in prop_oneof![Just(1_i64), Just(2), Just(4), Just(8), 1..7_i64],
        left in 1..24_i64,
        xscaling: bool,
    ) {
        let config = ConformerConfig {
            layers, heads, kernel, xscaling,
            vocabulary: 7,
            d_model: 2 * width * heads,
            feed_forward: 12,
            subsampling_channels: channels,
            ..ConformerConfig::student()
        };
        let folder = tempfile::tempdir().unwrap();
        let (checkpoint, model) = checkpoint(folder.path(), &config, seed);
        let target = folder.path().join("package");
        export(&checkpoint, &target, &options(40 * chunk as u32, 40 * left as u32)).unwrap();
        let package = Package::open(&target).unwrap();

        let chunks = 20.max(2 * left / chunk + 2);
        let log_mel = random_log_mel(seed, 4 * chunk * chunks, 80);
        let expected = trained(&model, &log_mel, chunk, left);
        for engine in [EngineChoice::Ort, EngineChoice::Tract] {
            let difference = largest_difference(&expected, &exported(&package, engine, &log_mel));
            prop_assert!(difference < 1e-4, "{engine:?}: {difference}");
        }
    }
}
