"""Recognises 16 kHz, 16-bit mono WAV with sherpa-onnx: `recognise.py PACKAGE GRAPH WAV`.

Writes the tokens and their times in seconds as JSON.
"""

import array
import json
import sys
import wave

import sherpa_onnx

package, graph, path = sys.argv[1:]
recognizer = sherpa_onnx.OnlineRecognizer.from_nemo_ctc(
    model=f"{package}/{graph}", tokens=f"{package}/tokens.txt", num_threads=1
)
with wave.open(path) as reader:
    samples = array.array("h", reader.readframes(reader.getnframes()))
stream = recognizer.create_stream()
stream.accept_waveform(16000, [sample / 32768 for sample in samples])
# It decodes a chunk when it has a frame more than that.
stream.accept_waveform(16000, [0.0] * 16000)
stream.input_finished()
while recognizer.is_ready(stream):
    recognizer.decode_stream(stream)
json.dump({"tokens": recognizer.tokens(stream), "times": recognizer.timestamps(stream)}, sys.stdout)
