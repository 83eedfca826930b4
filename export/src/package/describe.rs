//! What a package says of its graphs: `config.json`, and the metadata of the ONNX files.

use std::collections::BTreeMap;

use serde_json::Value;
use sori::features::LogMel;
use sori::model::{
    BatchedGraph, Config, Features, Geometry, GraphFile, Graphs, Streaming as Times, TokenFacts,
    sha256,
};
use sori_train::model::{ConformerConfig, SUBSAMPLING};
use tract_onnx::pb::StringStringEntryProto;

use super::{About, Graph, TOKENS};
use crate::graph::Streaming;

/// The front-end that the runtime computes.
const FEATURES: &str = "slaney-log-mel";

/// What is to be said.
pub(super) struct Description<'a> {
    pub(super) name: String,
    pub(super) about: &'a About,
    pub(super) model: &'a ConformerConfig,
    pub(super) streaming: Streaming,
    /// Where the weights come from.
    pub(super) training: BTreeMap<String, Value>,
}

impl Description<'_> {
    pub(super) fn parameters(&self) -> i64 {
        self.model.parameters().iter().map(|(_, count)| count).sum()
    }

    /// What clients read from the file itself. Those of the contract refuse a file that lacks one
    /// of the first fifteen.
    pub(super) fn metadata(&self, graph: &str) -> Vec<StringStringEntryProto> {
        let Self {
            about,
            model,
            streaming,
            ..
        } = self;
        let [channel1, channel2, channel3] = streaming
            .cache_last_channel(model)
            .map(|dim| dim.to_string());
        let [time1, time2, time3] = streaming.cache_last_time(model).map(|dim| dim.to_string());
        let window = streaming.window().to_string();
        [
            ("window_size", window.clone()),
            ("chunk_shift", window),
            ("subsampling_factor", SUBSAMPLING.to_string()),
            ("vocab_size", model.vocabulary.to_string()),
            ("cache_last_channel_dim1", channel1),
            ("cache_last_channel_dim2", channel2),
            ("cache_last_channel_dim3", channel3),
            ("cache_last_time_dim1", time1),
            ("cache_last_time_dim2", time2),
            ("cache_last_time_dim3", time3),
            ("normalize_type", String::new()),
            ("model_type", "EncDecCTCModelBPE".to_owned()),
            ("version", "1".to_owned()),
            ("model_author", "Sori".to_owned()),
            ("comment", about.description.clone()),
            ("sori.name", self.name.clone()),
            ("sori.graph", graph.to_owned()),
            ("sori.chunk_ms", streaming.chunk_ms().to_string()),
            ("sori.left_context_ms", streaming.left_ms().to_string()),
            ("sori.license", about.license.clone()),
        ]
        .map(|(key, value)| StringStringEntryProto {
            key: key.to_owned(),
            value,
        })
        .into()
    }

    /// The contents of `config.json`: what the runtime reads, and for people the model's geometry
    /// and the graph that the runtime does not read.
    pub(super) fn config(&self, graphs: &[Graph], tokens: &str) -> Value {
        let Self {
            about,
            model,
            streaming,
            ..
        } = self;
        let sizes = |dims: [i64; 3]| dims.map(|dim| dim as usize);
        let find = |name| graphs.iter().find(|graph| graph.name == name);
        let file = |name| {
            find(name).map(|graph| GraphFile {
                file: graph.file.clone(),
                sha256: Some(sha256(&graph.onnx)),
            })
        };
        let mut training = self.training.clone();
        training.insert("parameters".to_owned(), self.parameters().into());
        let config = Config {
            format: Config::FORMAT,
            name: self.name.clone(),
            language: about.language.clone(),
            description: about.description.clone(),
            license: about.license.clone(),
            features: Features {
                kind: FEATURES.to_owned(),
                sample_rate: LogMel::SAMPLE_RATE,
                mel_bins: LogMel::BINS,
                frame_length_ms: 25,
                frame_shift_ms: 10,
            },
            geometry: Geometry {
                window_size: streaming.window() as usize,
                chunk_shift: streaming.window() as usize,
                subsampling_factor: SUBSAMPLING as usize,
                cache_last_channel: sizes(streaming.cache_last_channel(model)),
                cache_last_time: sizes(streaming.cache_last_time(model)),
            },
            streaming: Times {
                chunk_ms: streaming.chunk_ms(),
                left_context_ms: streaming.left_ms(),
            },
            tokens: TokenFacts {
                file: TOKENS.to_owned(),
                sha256: Some(sha256(tokens.as_bytes())),
                count: model.outputs() as usize,
                blank_id: model.blank() as usize,
            },
            graphs: Graphs {
                fp32: file("fp32"),
                int8: file("int8"),
            },
            batched: find("batched").map(|graph| BatchedGraph {
                file: graph.file.clone(),
                sha256: Some(sha256(&graph.onnx)),
                streams: graph.streaming.batch() as usize,
            }),
            language_model: None,
            confidence: None,
            training,
            measured: about.measured.clone(),
        };
        let mut config = serde_json::to_value(config).unwrap_or_default();
        config["model"] = serde_json::to_value(model).unwrap_or_default();
        config
    }
}
