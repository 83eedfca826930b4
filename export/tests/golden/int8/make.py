"""Makes float.onnx, and int8.onnx of it with ONNX Runtime's own dynamic quantisation.

    pip install onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
    python make.py

The matrices hold what a rule can get wrong: ties between two integers, columns of zeros, columns so
small that their scale is subnormal, one large value among small ones, and plain noise.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

HERE = Path(__file__).parent
rng = np.random.default_rng(5)


def noise(rows, columns):
    return rng.normal(size=(rows, columns)).astype(np.float32)


def odd(rows):
    ties = np.arange(rows, dtype=np.float32) + 0.5
    ties[0] = 64
    zeros = np.zeros(rows, np.float32)
    tiny = noise(rows, 1)[:, 0] * np.float32(1e-39)
    nearly = noise(rows, 1)[:, 0] * np.float32(3e-36)
    outlier = noise(rows, 1)[:, 0] * np.float32(1e-3)
    outlier[rows // 2] = -3e4
    negative = -np.abs(noise(rows, 1)[:, 0])
    largest = np.full(rows, np.finfo(np.float32).max, np.float32)
    largest[::2] *= -0.25
    return np.stack([ties, zeros, tiny, nearly, outlier, negative, largest], axis=1)


weights = {
    "first.weight": np.concatenate([odd(12), noise(12, 9)], axis=1),
    "second.weight": noise(16, 10),
    "third.weight": noise(10, 5),
}
biases = {"first.bias": noise(1, 16)[0], "third.bias": noise(1, 5)[0]}
nodes = [
    helper.make_node("Gemm", ["x", "first.weight", "first.bias"], ["first"], name="first"),
    helper.make_node("Tanh", ["first"], ["bounded"], name="bounded"),
    helper.make_node("MatMul", ["bounded", "second.weight"], ["second"], name="second"),
    helper.make_node("Gemm", ["second", "third.weight", "third.bias"], ["third"], name="third"),
]
graph = helper.make_graph(
    nodes,
    "int8",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 12])],
    [helper.make_tensor_value_info("third", TensorProto.FLOAT, [3, 5])],
    [numpy_helper.from_array(value, name) for name, value in (weights | biases).items()],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model)
onnx.save(model, HERE / "float.onnx")
quantize_dynamic(
    HERE / "float.onnx",
    HERE / "int8.onnx",
    op_types_to_quantize=["MatMul"],
    per_channel=True,
    reduce_range=True,
    weight_type=QuantType.QInt8,
)
