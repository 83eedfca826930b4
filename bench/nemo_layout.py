#!/usr/bin/env python3
"""Writes a streaming Conformer as NVIDIA NeMo exports one, with the geometry of a Sori package.

    bench/nemo_layout.py PACKAGE FOLDER [--fixed]

The rival of the benchmark: as many layers, heads, channels and frames of left context as PACKAGE has, and
random weights, in the layout of NeMo's cache-aware export (`cache_support`), which sherpa-onnx reads:

- what is cached of a layer's attention is its input, of which keys and values are made again for every chunk;
- a window starts with frames that were in the last one, and what the subsampling makes of them is dropped;
- scores by distance are shifted by padding, reshaping and slicing; masks are made of lengths in the graph;
- pointwise convolutions are convolutions, with a transpose before and after.

As in NeMo's export the time axis is dynamic, so that positions are projected again for every chunk. --fixed
writes fixed shapes instead: what is constant then can be folded, which is more than NeMo's exporter offers.

FOLDER gets model.onnx, model.int8.onnx (products of matrices in integers, by ONNX Runtime's quantize_dynamic)
and tokens.txt. Needs numpy, onnx and onnxruntime.
"""

import argparse
import json
import logging
import math
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

SUBSAMPLING = 4
# NeMo's pre_encode_cache_size, and what comes of it: the outputs to drop.
LOOK_BACK = SUBSAMPLING + 1
DROPPED = 1 + (LOOK_BACK - 1) // SUBSAMPLING
# Far below any score, as in NeMo.
HIDDEN = -10000.0


class Graph:
    """Nodes and weights in the making; every method gives the name of its result."""

    def __init__(self):
        self.nodes, self.weights, self.parameters, self.chance = [], [], 0, np.random.default_rng(1)

    def node(self, operator, *inputs, outputs=1, **attributes):
        names = [f"{operator}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, name=names[0][:-2], **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, value, kind=np.float32):
        name = f"constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def integers(self, *values):
        return self.constant(values, np.int64)

    def trained(self, value):
        self.parameters += np.size(value)
        return self.constant(value)

    def random(self, *shape):
        """A weight whose products keep the size of their inputs."""
        fan_in = shape[0] if len(shape) == 2 else math.prod(shape[1:])
        return self.trained(self.chance.standard_normal(shape) / math.sqrt(fan_in))

    def zeros(self, *shape):
        return self.trained(np.zeros(shape))

    def linear(self, x, inputs, outputs, bias=True):
        y = self.node("MatMul", x, self.random(inputs, outputs))
        return self.node("Add", self.zeros(outputs), y) if bias else y

    def norm(self, x, d):
        scale, shift = self.trained(np.ones(d)), self.zeros(d)
        return self.node("LayerNormalization", x, scale, shift, axis=-1, epsilon=1e-5)

    def swish(self, x):
        return self.node("Mul", x, self.node("Sigmoid", x))

    def transpose(self, x, *order):
        return self.node("Transpose", x, perm=order)

    def reshape(self, x, *shape):
        return self.node("Reshape", x, self.integers(*shape))

    def slice(self, x, axis, start, end=2**62):
        return self.node("Slice", x, self.integers(start), self.integers(end), self.integers(axis))

    def concat(self, axis, *parts):
        return self.node("Concat", *parts, axis=axis)


class Conformer(Graph):
    def __init__(self, model, left, chunk, fixed):
        super().__init__()
        self.model, self.left, self.chunk, self.fixed = model, left, chunk, fixed
        self.d, self.heads = model["d_model"], model["heads"]
        self.width = self.d // self.heads
        self.keys = left + chunk

    def build(self):
        """Gives the names of the five outputs."""
        m, d = self.model, self.d
        x, length = self.subsampling("audio_signal", "length")
        channel = self.transpose("cache_last_channel", 1, 0, 2, 3)
        time = self.transpose("cache_last_time", 1, 0, 2, 3)
        pad_mask, attention_mask = self.masks(length)
        positions = self.positions(x)
        channels, times = [], []
        for i in range(m["layers"]):
            index = self.constant(i, np.int64)
            past = self.node("Gather", channel, index, axis=0)
            y = self.feed_forward(x)
            attended, kept = self.attention(self.norm(y, d), past, positions, attention_mask)
            channels.append(kept)
            y = self.node("Add", y, attended)
            past = self.node("Gather", time, index, axis=0)
            convolved, kept = self.convolution(self.norm(y, d), past, pad_mask)
            times.append(kept)
            y = self.node("Add", y, convolved)
            x = self.norm(self.feed_forward(y), d)
        x = self.transpose(x, 0, 2, 1)
        outputs = m["vocabulary"] + 1
        # The blank wins, as it does most of the time in a trained model.
        bias = np.zeros(outputs)
        bias[-1] = 8.0
        x = self.node("Conv", x, self.random(outputs, d, 1), self.trained(bias), kernel_shape=[1])
        log_probs = self.node("LogSoftmax", self.transpose(x, 0, 2, 1), axis=-1)
        grown = self.node("Add", "cache_last_channel_len", self.integers(self.chunk))
        cached = self.node("Min", grown, self.integers(self.left))
        return [log_probs, length, self.stack(channels), self.stack(times), cached]

    def stack(self, layers):
        axis = self.integers(0)
        return self.transpose(self.concat(0, *(self.node("Unsqueeze", x, axis) for x in layers)), 1, 0, 2, 3)

    def subsampling(self, x, length):
        """(1, 80, window) to (1, chunk, d): two causal convolutions of stride two and a projection."""
        channels, bands = self.model["subsampling_channels"], self.model["features"]
        x = self.node("Unsqueeze", self.transpose(x, 0, 2, 1), self.integers(1))
        for inputs in (1, channels):
            x = self.node("Pad", x, self.integers(0, 0, 2, 2, 0, 0, 1, 1))
            weight, bias = self.random(channels, inputs, 3, 3), self.zeros(channels)
            x = self.node("Relu", self.node("Conv", x, weight, bias, kernel_shape=[3, 3], strides=[2, 2]))
            bands = bands // 2 + 1
        x = self.reshape(self.transpose(x, 0, 2, 1, 3), 1, -1, channels * bands)
        x = self.slice(self.linear(x, channels * bands, self.d), 1, DROPPED)
        # Of two convolutions, each floor((length + 3 - 3) / 2) + 1.
        for _ in range(2):
            length = self.node("Add", self.node("Div", length, self.integers(2)), self.integers(1))
        length = self.node("Sub", length, self.integers(DROPPED))
        return x, self.node("Max", length, self.integers(0))

    def masks(self, length):
        """True where a frame is padding, (1, chunk), and where a frame may not see another, (1, chunk, keys)."""
        end = self.node("Add", length, self.integers(self.left))
        start = self.node("Sub", self.integers(self.left), "cache_last_channel_len")
        index = self.constant(np.arange(self.keys)[None], np.int64)
        column = self.integers(1)
        before_end = self.node("Less", index, self.node("Unsqueeze", end, column))
        after_start = self.node("GreaterOrEqual", index, self.node("Unsqueeze", start, column))
        real = self.node("And", before_end, after_start)
        square = self.node("Expand", self.node("Unsqueeze", real, column), self.integers(1, self.keys, self.keys))
        both = self.node("And", square, self.transpose(square, 0, 2, 1))
        # Chunks of the left context, and the chunk itself.
        chunks = np.arange(self.keys) // self.chunk
        ago = chunks[:, None] - chunks[None]
        near = self.constant(((ago >= 0) & (ago <= self.left // self.chunk))[None], np.bool_)
        hidden = self.node("Not", self.node("And", near, both))
        return self.slice(self.node("Not", real), 1, self.left), self.slice(hidden, 1, self.left)

    def positions(self, x):
        """Sinusoids of all distances, (1, 2 keys - 1, d), out of a longer table."""
        longest = self.keys if self.fixed else 2 * self.keys
        distance = np.arange(longest - 1, -longest, -1)[:, None]
        rate = np.exp(np.arange(0, self.d, 2) * -(math.log(10000.0) / self.d))
        table = np.stack([np.sin(distance * rate), np.cos(distance * rate)], 2).reshape(1, -1, self.d)
        if self.fixed:
            return self.constant(table)
        frames = self.node("Gather", self.node("Shape", x), self.integers(1), axis=0)
        keys = self.node("Add", frames, self.integers(self.left))
        centre = self.integers(longest - 1)
        start = self.node("Add", self.node("Sub", centre, keys), self.integers(1))
        return self.node("Slice", self.constant(table), start, self.node("Add", centre, keys), self.integers(1))

    def feed_forward(self, x):
        """Adds half the module's result to x."""
        d, inner = self.d, self.model["feed_forward"]
        y = self.linear(self.swish(self.linear(self.norm(x, d), d, inner)), inner, d)
        return self.node("Add", x, self.node("Mul", y, self.constant(0.5)))

    def by_head(self, x):
        return self.reshape(x, 1, -1, self.heads, self.width)

    def attention(self, x, past, positions, hidden):
        """What x finds in itself and the cached inputs, and the inputs to cache."""
        d, heads, width, keys = self.d, self.heads, self.width, self.keys
        inputs = self.concat(1, past, x)
        kept = self.slice(inputs, 1, self.chunk)
        query = self.by_head(self.linear(x, d, d))
        by_content, by_distance = (
            self.transpose(self.node("Add", query, self.zeros(heads, width)), 0, 2, 1, 3) for _ in range(2))
        key = self.transpose(self.by_head(self.linear(inputs, d, d)), 0, 2, 3, 1)
        value = self.transpose(self.by_head(self.linear(inputs, d, d)), 0, 2, 1, 3)
        position = self.transpose(self.by_head(self.linear(positions, d, d, bias=False)), 0, 2, 3, 1)
        content = self.node("MatMul", by_content, key)
        distance = self.node("MatMul", by_distance, position)
        # rel_shift.
        distances = 2 * keys - 1
        shifted = self.node("Pad", distance, self.integers(0, 0, 0, 1, 0, 0, 0, 0))
        shifted = self.slice(self.reshape(shifted, 1, heads, distances + 1, -1), 2, 1)
        shifted = self.slice(self.reshape(shifted, 1, heads, -1, distances), 3, 0, keys)
        scores = self.node("Div", self.node("Add", content, shifted), self.constant(math.sqrt(width)))
        hidden = self.node("Unsqueeze", hidden, self.integers(1))
        scores = self.node("Where", hidden, self.constant(HIDDEN), scores)
        weights = self.node("Where", hidden, self.constant(0.0), self.node("Softmax", scores, axis=-1))
        mixed = self.transpose(self.node("MatMul", weights, value), 0, 2, 1, 3)
        return self.linear(self.reshape(mixed, 1, -1, d), d, d), kept

    def convolution(self, x, past, padding):
        """The module's result, and the gated frames to cache."""
        d, kernel = self.d, self.model["kernel"]
        def pointwise(x, outputs):
            return self.node("Conv", x, self.random(outputs, d, 1), self.zeros(outputs), kernel_shape=[1])

        x = pointwise(self.transpose(x, 0, 2, 1), 2 * d)
        value, gate = self.node("Split", x, self.integers(d, d), outputs=2, axis=1)
        x = self.node("Mul", value, self.node("Sigmoid", gate))
        x = self.node("Where", self.node("Unsqueeze", padding, self.integers(1)), self.constant(0.0), x)
        x = self.concat(2, past, x)
        kept = self.slice(x, 2, 1 - kernel)
        x = self.node("Conv", x, self.random(d, 1, kernel), self.zeros(d), group=d, kernel_shape=[kernel])
        x = self.transpose(self.norm(self.transpose(x, 0, 2, 1), d), 0, 2, 1)
        return self.transpose(pointwise(self.swish(x), d), 0, 2, 1), kept


def model(config, fixed):
    """The ONNX model for a package's config.json, and how many parameters it has."""
    geometry, shape = config["geometry"], config["model"]
    chunk = geometry["chunk_shift"] // SUBSAMPLING
    left = config["streaming"]["left_context_ms"] // (10 * SUBSAMPLING)
    window = geometry["chunk_shift"] + LOOK_BACK
    conformer = Conformer(shape, left, chunk, fixed)
    channel = [shape["layers"], left, shape["d_model"]]
    time = [shape["layers"], shape["d_model"], shape["kernel"] - 1]
    f32, i64 = TensorProto.FLOAT, TensorProto.INT64
    value = helper.make_tensor_value_info
    inputs = [
        value("audio_signal", f32, [1, shape["features"], window if fixed else "frames"]),
        value("length", i64, [1]),
        value("cache_last_channel", f32, [1, *channel]),
        value("cache_last_time", f32, [1, *time]),
        value("cache_last_channel_len", i64, [1]),
    ]
    outputs = [
        value("logprobs", f32, [1, chunk if fixed else "outputs", shape["vocabulary"] + 1]),
        value("encoded_lengths", i64, [1]),
        value("cache_last_channel_next", f32, [1, *channel]),
        value("cache_last_time_next", f32, [1, *time]),
        value("cache_last_channel_len_next", i64, [1]),
    ]
    for found, output in zip(conformer.build(), outputs):
        conformer.nodes.append(helper.make_node("Identity", [found], [output.name]))
    graph = helper.make_graph(conformer.nodes, "nemo-layout", inputs, outputs, conformer.weights)
    result = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    metadata = {
        "window_size": window, "chunk_shift": geometry["chunk_shift"], "subsampling_factor": SUBSAMPLING,
        "vocab_size": shape["vocabulary"], "normalize_type": "", "model_type": "EncDecCTCModelBPE", "version": 1,
        "model_author": "Sori", "comment": "random weights in the layout of NeMo's cache-aware export",
    }
    for name, dims in (("cache_last_channel", channel), ("cache_last_time", time)):
        metadata |= {f"{name}_dim{i + 1}": dim for i, dim in enumerate(dims)}
    helper.set_model_props(result, {key: str(value) for key, value in metadata.items()})
    return result, conformer.parameters


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fixed", action="store_true")
    arguments = parser.parse_args()
    config = json.loads((arguments.package / "config.json").read_text())
    made, found = model(config, arguments.fixed)
    onnx.checker.check_model(made, full_check=True)

    # The same size, or the race means nothing.
    expected = config["training"]["parameters"]
    if abs(found / expected - 1) > 0.05:
        raise SystemExit(f"nemo_layout: {found} parameters, the package's model has {expected}")
    print(f"{arguments.folder}: {found} parameters, {len(made.graph.node)} nodes; the package's model has {expected}")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    # It advises to prepare the graph first, which this one does not need.
    logging.getLogger().setLevel(logging.ERROR)
    path = arguments.folder / "model.onnx"
    onnx.save(made, path)
    quantize_dynamic(
        path, arguments.folder / "model.int8.onnx", op_types_to_quantize=["MatMul"], per_channel=True,
        weight_type=QuantType.QInt8, extra_options={"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT},
    )
    shutil.copy(arguments.package / "tokens.txt", arguments.folder)


if __name__ == "__main__":
    main()
