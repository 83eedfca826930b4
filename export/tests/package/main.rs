//! What lies in a package, and what an export refuses.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod contents;
mod refusals;

use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use sori_train::config::Chunk;
use sori_train::trainer::Provenance;
use support::{CHECKPOINT, model, tiny_student};

/// Writes a checkpoint that says what it was trained with, with its tokens inside.
fn with_provenance(folder: &Path, chunks_ms: &[Chunk]) {
    let (store, _) = model(&tiny_student(), 4);
    let provenance = Provenance {
        recipe: "made-up".into(),
        recipe_toml: "name = \"made-up\"\n".into(),
        teacher: None,
        seed: 1,
        steps: 2,
        hours: 0.5,
        commit: Some("0123abc".into()),
        version: "0.1.0".into(),
        chunks_ms: chunks_ms.into(),
        left_ms: 800,
        tokens: (0..9).map(|i| format!("▁inside{i}")).collect(),
    };
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = store
        .variables()
        .into_iter()
        .map(|(name, tensor)| {
            let values: Vec<f32> = tensor.flatten(0, -1).try_into().unwrap();
            let shape = tensor.size().iter().map(|&dim| dim as usize).collect();
            (
                name,
                shape,
                values.into_iter().flat_map(f32::to_le_bytes).collect(),
            )
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (
            name,
            TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
        )
    });
    let header = [
        (
            "conformer".to_owned(),
            serde_json::to_string(&tiny_student()).unwrap(),
        ),
        (
            "provenance".to_owned(),
            serde_json::to_string(&provenance).unwrap(),
        ),
    ];
    safetensors::serialize_to_file(views, Some(header.into()), &folder.join(CHECKPOINT)).unwrap();
}
