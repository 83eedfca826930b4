//! The model as an ONNX graph.

use super::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto::AttributeType,
    tensor_proto::DataType, tensor_shape_proto, type_proto,
};
use super::{
    BLANK, BLANK_LOGIT, CONTRAST_ABSENT, CONTRAST_PRESENT, HISTORY, MEL_BINS, PAST_FRAMES,
    SUBSAMPLING, TOKENS, TONE_LOGIT, ToneModel, lag_weight, mel_bin,
};

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

        let mut graph = Builder {
            streams,
            graph: GraphProto::default(),
        };
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

/// Collects nodes and constants; each node is named after its first output.
struct Builder {
    streams: usize,
    graph: GraphProto,
}

impl Builder {
    fn input(&mut self, name: &str, kind: DataType, shape: &[usize]) {
        self.graph.input.push(value_info(name, kind, shape));
    }

    fn output(&mut self, name: &str, kind: DataType, shape: &[usize]) {
        self.graph.output.push(value_info(name, kind, shape));
    }

    fn float(&mut self, name: &str, shape: &[usize], values: Vec<f32>) {
        let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
        self.constant(name, DataType::Float, shape, bytes);
    }

    fn int64(&mut self, name: &str, shape: &[usize], values: Vec<i64>) {
        let bytes = values.into_iter().flat_map(i64::to_le_bytes).collect();
        self.constant(name, DataType::Int64, shape, bytes);
    }

    fn int8(&mut self, name: &str, shape: &[usize], values: &[i8]) {
        let bytes = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.constant(name, DataType::Int8, shape, bytes);
    }

    fn constant(&mut self, name: &str, kind: DataType, shape: &[usize], raw_data: Vec<u8>) {
        self.graph.initializer.push(TensorProto {
            name: name.to_owned(),
            data_type: kind as i32,
            dims: shape.iter().map(|&dim| dim as i64).collect(),
            raw_data,
            ..TensorProto::default()
        });
    }

    fn node(&mut self, operator: &str, inputs: &[&str], outputs: &[&str]) {
        self.node_with(operator, inputs, outputs, Vec::new());
    }

    fn node_with(
        &mut self,
        operator: &str,
        inputs: &[&str],
        outputs: &[&str],
        attribute: Vec<AttributeProto>,
    ) {
        self.graph.node.push(NodeProto {
            name: outputs[0].to_owned(),
            op_type: operator.to_owned(),
            input: inputs.iter().copied().map(str::to_owned).collect(),
            output: outputs.iter().copied().map(str::to_owned).collect(),
            attribute,
            ..NodeProto::default()
        });
    }

    fn reshape(&mut self, input: &str, shape: &[usize], output: &str) {
        let name = format!("{output}_shape");
        self.int64(
            &name,
            &[shape.len()],
            shape.iter().map(|&dim| dim as i64).collect(),
        );
        self.node("Reshape", &[input, &name], &[output]);
    }

    /// A number for each stream, in a shape to be held against rows of it; one number is so already.
    fn beside_rows(&mut self, numbers: &str) -> String {
        if self.streams == 1 {
            return numbers.to_owned();
        }
        let output = format!("{numbers}_beside_rows");
        self.reshape(numbers, &[self.streams, 1, 1], &output);
        output
    }

    fn slice(&mut self, input: &str, axis: usize, range: std::ops::Range<usize>, output: &str) {
        let names = ["start", "end", "axis"].map(|part| format!("{output}_{part}"));
        for (name, value) in names.iter().zip([range.start, range.end, axis]) {
            self.int64(name, &[1], vec![value as i64]);
        }
        let [start, end, axis] = &names;
        self.node("Slice", &[input, start, end, axis], &[output]);
    }

    fn concat(&mut self, inputs: &[&str], axis: usize, output: &str) {
        self.node_with("Concat", inputs, &[output], vec![integer("axis", axis)]);
    }

    /// Swaps the last two of three axes.
    fn transpose(&mut self, input: &str, output: &str) {
        self.node_with(
            "Transpose",
            &[input],
            &[output],
            vec![integers("perm", &[0, 2, 1])],
        );
    }

    fn finish(self, name: &str) -> GraphProto {
        GraphProto {
            name: name.to_owned(),
            ..self.graph
        }
    }
}

fn value_info(name: &str, kind: DataType, shape: &[usize]) -> ValueInfoProto {
    let dim = |&size: &usize| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(size as i64)),
        ..tensor_shape_proto::Dimension::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: kind as i32,
        shape: Some(TensorShapeProto {
            dim: shape.iter().map(dim).collect(),
        }),
    };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

fn integer(name: &str, value: usize) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Int as i32,
        i: value as i64,
        ..AttributeProto::default()
    }
}

fn integers(name: &str, values: &[usize]) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Ints as i32,
        ints: values.iter().map(|&value| value as i64).collect(),
        ..AttributeProto::default()
    }
}
