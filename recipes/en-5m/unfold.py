#!/usr/bin/env python3
"""Makes a checkpoint of a model package, so that training can go on from a student of which nothing else is left.

    data/en-5m/venv/bin/python recipes/en-5m/unfold.py models/sori-en-5m student.safetensors
    sori-train train recipes/en-5m/further.toml --set model.init=student.safetensors

needs numpy, onnx and safetensors, as recipes/en-5m/prepare installs them. What sori-export folded into other weights (norms
before a product, halves, scales, biases) stays folded: the checkpoint is another one than the package was made of, and says
the same. Weights of the int8 graph are rounded to seven bits, and positions are only known as far as the chunk's left context.
"""
import json
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from safetensors.numpy import save_file


def main(package, out):
    config = json.loads((package / "config.json").read_text())
    graph = config["graphs"].get("fp32") or config["graphs"]["int8"]
    initializers = onnx.load(package / graph["file"]).graph.initializer
    found = {each.name.removesuffix(".f16"): numpy_helper.to_array(each) for each in initializers}
    model, streaming = config["model"], config["streaming"]
    d, heads = model["d_model"], model["heads"]
    width, ones, zeros = d // heads, np.ones(d), np.zeros(d)
    weights = {}

    def put(name, weight, bias=None):
        for part, values in (("weight", weight), ("bias", bias)):
            if values is not None:
                weights[f"{name}.{part}"] = np.ascontiguousarray(values, dtype=np.float32)

    def same(name):
        put(name, found[f"{name}.weight"], found[f"{name}.bias"])

    def product(name, scale=1.0):
        """A matrix as (out, in) and its bias."""
        weight = found[f"{name}.weight"].astype(np.float64) * found.get(f"{name}.weight.scale", 1.0)
        return weight.T * scale, found[f"{name}.bias"].astype(np.float64) * scale

    # The first convolution's second channel carries its bias, in the middle band of the newest frame.
    path = "encoder.pre_encode"
    first, second = np.split(found[f"{path}.conv.0.weight"].astype(np.float64), 2, axis=1)
    bias = second + first * model["feature_mean"]
    put(f"{path}.conv.0", first * model["feature_deviation"], bias[:, 0, 2, 1])
    same(f"{path}.conv.2")
    weight, bias = product(f"{path}.out", d ** -0.5 if model["xscaling"] else 1.0)
    channels = model["subsampling_channels"]
    put(f"{path}.out", weight.reshape(d, -1, channels).transpose(0, 2, 1).reshape(d, -1), bias)

    chunk, left = streaming["chunk_ms"] // 40, streaming["left_context_ms"] // 40
    distances = np.arange(left + chunk - 1, -chunk, -1, dtype=np.float64)
    angles = distances[:, None] * np.exp(np.arange(0, d, 2) * (-np.log(10_000) / d))
    sinusoids = np.stack([np.sin(angles), np.cos(angles)], 2).reshape(len(distances), d)

    for number in range(model["layers"]):
        layer = f"encoder.layers.{number}"
        for part in ("feed_forward1", "feed_forward2"):
            put(f"{layer}.norm_{part}", ones, zeros)
            put(f"{layer}.{part}.linear1", *product(f"{layer}.{part}.linear1"))
            put(f"{layer}.{part}.linear2", *product(f"{layer}.{part}.linear2", 2.0))

        path, scale = f"{layer}.self_attn", width ** 0.5
        put(f"{layer}.norm_self_att", ones, zeros)
        weight, bias = product(f"{path}.linear_qkv")
        for part, weight, bias, scale_of in zip("qkv", np.split(weight, 3), np.split(bias, 3), (scale, 1, 1)):
            put(f"{path}.linear_{part}", weight * scale_of, bias * scale_of)
        weights[f"{path}.pos_bias_u"] = np.zeros((heads, width), np.float32)
        difference = found[f"{path}.bias_difference"].reshape(heads, width) * scale
        weights[f"{path}.pos_bias_v"] = difference.astype(np.float32)
        positions = found[f"{path}.positions"].astype(np.float64).reshape(d, -1)
        # What hardly tells these distances from each other is left at nothing. Taken in (rcond 1e-7), rounding became weights twenty
        # times as large, and all that is farther away, or later than the chunk, was heard as noise.
        put(f"{path}.linear_pos", np.linalg.lstsq(sinusoids, positions.T, rcond=1e-4)[0].T)
        put(f"{path}.linear_out", *product(f"{path}.linear_out"))

        path = f"{layer}.conv"
        put(f"{layer}.norm_conv", ones, zeros)
        for part in ("pointwise_conv1", "pointwise_conv2"):
            weight, bias = product(f"{path}.{part}")
            put(f"{path}.{part}", weight[:, :, None], bias)
        depthwise = found[f"{path}.depthwise_conv.weight"]
        put(f"{path}.depthwise_conv", depthwise[:, :, 0], found[f"{path}.depthwise_conv.bias"])
        same(f"{path}.layer_norm")
        same(f"{layer}.norm_out")

    weight, bias = product("decoder.decoder_layers.0")
    put("decoder.decoder_layers.0", weight[:, :, None], bias)

    symbols = (package / config["tokens"]["file"]).read_text(encoding="utf-8").splitlines()
    tokens = [line.rsplit(" ", 1)[0] for line in symbols][: model["vocabulary"]]
    told = ("recipe", "recipe_toml", "teacher", "seed", "steps", "hours", "commit", "version", "chunks_ms", "left_ms")
    provenance = {key: config["training"].get(key) for key in told} | {"tokens": tokens}
    save_file(weights, out, metadata={"conformer": json.dumps(model), "provenance": json.dumps(provenance)})
    print(f"{out}: {sum(values.size for values in weights.values())} parameters, from {graph['file']}", file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
