//! The model as an ONNX graph.

mod builder;

use super::pb::{ModelProto, OperatorSetIdProto, StringStringEntryProto, tensor_proto::DataType};
use super::{
    BLANK, BLANK_LOGIT, CONTRAST_ABSENT, CONTRAST_PRESENT, HISTORY, MEL_BINS, PAST_FRAMES,
    SUBSAMPLING, TOKENS, TONE_LOGIT, ToneModel, lag_weight, mel_bin,
};
use builder::{Builder, integer, integers};

/// Dimensions 1 to 3 of `cache_last_channel`: the scores of the last outputs.
pub(super) const CACHE_LAST_CHANNEL: [usize; 3] = [1, HISTORY, BLANK];

/// Dimensions 1 to 3 of `cache_last_time`: the last log-mel frames, as columns.
pub(super) const CACHE_LAST_TIME: [usize; 3] = [1, MEL_BINS, PAST_FRAMES];

/// The int8 weight at a tone's own bins. A seventh of it is whole, so that the quantised weights of
/// one tone sum to zero like the float ones.
const INT8_OWN: i8 = 63;

/// The arithmetic of the product of log-mels and bin weights; all the rest is float.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Float.
    Fp32,
    /// Weights in int8 per output channel, log-mels quantised as they come, chunk by chunk.
    Int8,
}

impl ToneModel {
    /// The model as ONNX, opset 17. A test that needs a broken model can change it before encoding.
    ///
    /// # Panics
    ///
    /// If `chunk_frames` is not a positive multiple of [`SUBSAMPLING`].
    #[must_use]
    pub fn graph(&self, precision: Precision) -> ModelProto {
        self.graph_of(1, precision)
    }

    /// The float graph for so many streams at once.
    ///
    /// # Panics
    ///
    /// As [`graph`](Self::graph).
    #[must_use]
    pub fn batched_graph(&self, streams: usize) -> ModelProto {
        self.graph_of(streams, Precision::Fp32)
    }

    fn graph_of(&self, streams: usize, precision: Precision) -> ModelProto {
        assert!(
            self.chunk_frames > 0 && self.chunk_frames.is_multiple_of(SUBSAMPLING),
            "chunk_frames is {}: expected a positive multiple of {SUBSAMPLING}",
            self.chunk_frames
        );
        let window = self.window_frames();
        let outputs = self.chunk_outputs();

        let mut graph = Builder::of(streams);
        let cache = |[dim1, dim2, dim3]: [usize; 3]| [streams, dim1, dim2, dim3];
        let (channel, time) = (cache(CACHE_LAST_CHANNEL), cache(CACHE_LAST_TIME));
        graph.input(
            "audio_signal",
            DataType::Float,
            &[streams, MEL_BINS, window],
        );
        graph.input("length", DataType::Int64, &[streams]);
        graph.input("cache_last_channel", DataType::Float, &channel);
        graph.input("cache_last_time", DataType::Float, &time);
        graph.input("cache_last_channel_len", DataType::Int64, &[streams]);
        graph.output(
            "logprobs",
            DataType::Float,
            &[streams, outputs, TOKENS.len()],
        );
        graph.output("encoded_lengths", DataType::Int64, &[streams]);
        graph.output("cache_last_channel_next", DataType::Float, &channel);
        graph.output("cache_last_time_next", DataType::Float, &time);
        graph.output("cache_last_channel_len_next", DataType::Int64, &[streams]);

        self.frames(&mut graph);
        match precision {
            Precision::Fp32 => contrast_fp32(&mut graph),
            Precision::Int8 => contrast_int8(&mut graph),
        }
        self.scores(&mut graph);
        self.average(&mut graph);
        self.log_probabilities(&mut graph);
        self.lengths(&mut graph);

        ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto {
                domain: String::new(),
                version: 17,
            }],
            producer_name: "sori-tests".to_owned(),
            graph: Some(graph.finish("tone")),
            metadata_props: self.metadata(precision),
            ..ModelProto::default()
        }
    }

    /// `frames`, `(1, 80, past + window)`: the cached frames and the valid ones of the window.
    fn frames(&self, graph: &mut Builder) {
        let window = self.window_frames();
        graph.int64("frame_index", &[1, 1, window], (0..window as i64).collect());
        graph.float("zero", &[], vec![0.0]);
        let length = graph.beside_rows("length");
        graph.node("Less", &["frame_index", &length], &["frame_is_valid"]);
        graph.node(
            "Where",
            &["frame_is_valid", "audio_signal", "zero"],
            &["valid_frames"],
        );
        graph.reshape(
            "cache_last_time",
            &[graph.streams, MEL_BINS, PAST_FRAMES],
            "past_frames",
        );
        graph.concat(&["past_frames", "valid_frames"], 2, "frames");

        let end = self.chunk_frames + PAST_FRAMES;
        graph.slice("frames", 2, self.chunk_frames..end, "past_frames_next");
        graph.reshape(
            "past_frames_next",
            &[graph.streams, 1, MEL_BINS, PAST_FRAMES],
            "cache_last_time_next",
        );
    }

    /// `scores`, `(1, outputs, tones)`: the mean presence of each tone around each output.
    fn scores(&self, graph: &mut Builder) {
        graph.float("one", &[], vec![1.0]);
        graph.float(
            "absent",
            &[],
            vec![CONTRAST_ABSENT / (CONTRAST_PRESENT - CONTRAST_ABSENT)],
        );
        graph.node("Sub", &["contrast", "absent"], &["presence_unclipped"]);
        graph.node(
            "Clip",
            &["presence_unclipped", "zero", "one"],
            &["presence"],
        );

        let weights = self.frame_weights();
        graph.float(
            "frame_weights",
            &[BLANK, 1, weights.len()],
            weights.repeat(BLANK),
        );
        graph.transpose("presence", "presence_over_time");
        graph.node_with(
            "Conv",
            &["presence_over_time", "frame_weights"],
            &["scores_over_time"],
            vec![
                integer("group", BLANK),
                integers("kernel_shape", &[weights.len()]),
                integers("strides", &[SUBSAMPLING]),
            ],
        );
        graph.transpose("scores_over_time", "scores");
    }

    /// `average`, `(1, outputs, tones)`: each score averaged with the valid ones before it.
    fn average(&self, graph: &mut Builder) {
        let outputs = self.chunk_outputs();
        let rows = HISTORY + outputs;
        let streams = graph.streams;
        graph.reshape(
            "cache_last_channel",
            &[streams, HISTORY, BLANK],
            "past_scores",
        );
        graph.concat(&["past_scores", "scores"], 1, "all_scores");
        graph.slice("all_scores", 1, outputs..rows, "past_scores_next");
        graph.reshape(
            "past_scores_next",
            &[streams, 1, HISTORY, BLANK],
            "cache_last_channel_next",
        );

        // The cache fills from its end: of its rows, the last `cache_last_channel_len` are valid.
        graph.int64("history", &[1], vec![HISTORY as i64]);
        graph.int64("row_index", &[1, rows, 1], (0..rows as i64).collect());
        graph.node(
            "Sub",
            &["history", "cache_last_channel_len"],
            &["invalid_rows"],
        );
        let invalid_rows = graph.beside_rows("invalid_rows");
        graph.node("Less", &["row_index", &invalid_rows], &["row_is_invalid"]);
        graph.node(
            "Where",
            &["row_is_invalid", "zero", "one"],
            &["row_validity"],
        );
        graph.node(
            "Where",
            &["row_is_invalid", "zero", "all_scores"],
            &["valid_scores"],
        );

        let mut weights = vec![0.0; outputs * rows];
        for output in 0..outputs {
            for lag in 0..=HISTORY {
                weights[output * rows + output + HISTORY - lag] = lag_weight(lag);
            }
        }
        graph.float("lag_weights", &[1, outputs, rows], weights);
        graph.node(
            "MatMul",
            &["lag_weights", "valid_scores"],
            &["weighted_sum"],
        );
        graph.node("MatMul", &["lag_weights", "row_validity"], &["weight_sum"]);
        graph.node("Div", &["weighted_sum", "weight_sum"], &["average"]);
    }

    /// `logprobs`, `(1, outputs, tokens)`.
    fn log_probabilities(&self, graph: &mut Builder) {
        let outputs = self.chunk_outputs();
        graph.float("tone_logit", &[], vec![TONE_LOGIT]);
        let streams = graph.streams;
        graph.float(
            "blank_logits",
            &[streams, outputs, 1],
            vec![BLANK_LOGIT; streams * outputs],
        );
        graph.node("Mul", &["average", "tone_logit"], &["tone_logits"]);
        graph.concat(&["tone_logits", "blank_logits"], 2, "logits");
        graph.node_with(
            "LogSoftmax",
            &["logits"],
            &["logprobs"],
            vec![integer("axis", 2)],
        );
    }

    /// `encoded_lengths` and `cache_last_channel_len_next`.
    fn lengths(&self, graph: &mut Builder) {
        let outputs = self.chunk_outputs() as i64;
        graph.int64("outputs", &[1], vec![outputs]);
        graph.int64("subsampling", &[1], vec![SUBSAMPLING as i64]);
        graph.int64("round_up", &[1], vec![SUBSAMPLING as i64 - 1]);
        graph.node("Add", &["length", "round_up"], &["length_rounded"]);
        graph.node(
            "Div",
            &["length_rounded", "subsampling"],
            &["length_subsampled"],
        );
        graph.node(
            "Min",
            &["length_subsampled", "outputs"],
            &["encoded_lengths"],
        );
        graph.node(
            "Add",
            &["cache_last_channel_len", "outputs"],
            &["cache_length_unbounded"],
        );
        graph.node(
            "Min",
            &["cache_length_unbounded", "history"],
            &["cache_last_channel_len_next"],
        );
    }

    fn metadata(&self, precision: Precision) -> Vec<StringStringEntryProto> {
        let precision = match precision {
            Precision::Fp32 => "fp32",
            Precision::Int8 => "int8",
        };
        let [channel1, channel2, channel3] = CACHE_LAST_CHANNEL.map(|dim| dim.to_string());
        let [time1, time2, time3] = CACHE_LAST_TIME.map(|dim| dim.to_string());
        [
            ("window_size", self.window_frames().to_string()),
            ("chunk_shift", self.chunk_frames.to_string()),
            ("subsampling_factor", SUBSAMPLING.to_string()),
            ("vocab_size", BLANK.to_string()),
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
            (
                "comment",
                "a test model that hears pure tones as words".to_owned(),
            ),
            ("sori.name", "tone".to_owned()),
            ("sori.precision", precision.to_owned()),
        ]
        .map(|(key, value)| StringStringEntryProto {
            key: key.to_owned(),
            value,
        })
        .to_vec()
    }
}

/// `contrast`, `(1, past + window, tones)`: log-mels times bin weights, in units of the way from
/// [`CONTRAST_ABSENT`] to [`CONTRAST_PRESENT`].
fn contrast_fp32(graph: &mut Builder) {
    let range = CONTRAST_PRESENT - CONTRAST_ABSENT;
    let others = -0.5 / (BLANK - 1) as f32;
    graph.float(
        "bin_weights",
        &[MEL_BINS, BLANK],
        bin_weights(0.5 / range, others / range, 0.0),
    );
    graph.transpose("frames", "frames_by_time");
    graph.node("MatMul", &["frames_by_time", "bin_weights"], &["contrast"]);
}

/// The same product in integers, laid out as dynamic quantisation does.
fn contrast_int8(graph: &mut Builder) {
    let others = -INT8_OWN / (BLANK - 1) as i8;
    let scale = 0.5 / (f32::from(INT8_OWN) * (CONTRAST_PRESENT - CONTRAST_ABSENT));
    graph.int8(
        "bin_weights",
        &[MEL_BINS, BLANK],
        &bin_weights(INT8_OWN, others, 0),
    );
    graph.float("bin_weights_scale", &[BLANK], vec![scale; BLANK]);
    graph.transpose("frames", "frames_by_time");
    graph.node(
        "DynamicQuantizeLinear",
        &["frames_by_time"],
        &["frames_quantized", "frames_scale", "frames_zero_point"],
    );
    graph.node(
        "MatMulInteger",
        &["frames_quantized", "bin_weights", "frames_zero_point"],
        &["contrast_integer"],
    );
    graph.node_with(
        "Cast",
        &["contrast_integer"],
        &["contrast_unscaled"],
        vec![integer("to", DataType::Float as usize)],
    );
    graph.node(
        "Mul",
        &["frames_scale", "bin_weights_scale"],
        &["contrast_scale"],
    );
    graph.node(
        "Mul",
        &["contrast_unscaled", "contrast_scale"],
        &["contrast"],
    );
}

/// A matrix `(80, tones)`: `own` at each tone's two bins, `others` at those of the other tones.
fn bin_weights<T: Copy>(own: T, others: T, elsewhere: T) -> Vec<T> {
    let mut weights = vec![elsewhere; MEL_BINS * BLANK];
    for tone in 0..BLANK {
        for other in 0..BLANK {
            for bin in [mel_bin(other), mel_bin(other) + 1] {
                weights[bin * BLANK + tone] = if other == tone { own } else { others };
            }
        }
    }
    weights
}
