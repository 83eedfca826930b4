//! A model package of which one file is anything: the first byte says which.

use std::sync::Arc;

use sori::model::{Package, Precision};

const CONFIG: &[u8] = include_bytes!("../../tests/data/tone/config.json");
const TOKENS: &[u8] = include_bytes!("../../tests/data/tone/tokens.txt");
const GRAPH: &[u8] = include_bytes!("../../tests/data/tone/model.onnx");

pub fn run(data: &[u8]) {
    let Some((which, file)) = data.split_first() else {
        return;
    };
    let (config, tokens, graph) = match which % 3 {
        0 => (file, TOKENS, GRAPH),
        1 => (CONFIG, file, GRAPH),
        _ => (CONFIG, TOKENS, file),
    };
    let graph: Arc<[u8]> = graph.into();
    let Ok(package) = Package::from_memory(config, tokens, Precision::Fp32, graph) else {
        return;
    };
    // What was let through is what an engine and a decoder can rely on.
    let (config, tokens) = (package.config(), package.tokens());
    assert_eq!(tokens.len(), config.tokens.count);
    assert_eq!(tokens.blank() + 1, tokens.len());
    assert!(config.geometry.chunk_shift <= config.geometry.window_size);
    for id in 0..tokens.len() {
        assert!(!tokens.symbol(id).contains(char::is_control));
    }
}
