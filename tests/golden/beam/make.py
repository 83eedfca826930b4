"""Makes expected.json: what pyctcdecode finds in 200 random posteriors.

    pip install pyctcdecode==0.5.0 numpy==1.26.4 && python make.py

Nothing is pruned, so that its scores are the exact sums over all alignments.
"""
import json

import numpy as np
from pyctcdecode import build_ctcdecoder

LETTERS = ["a", "b", "c", "d"]
rng = np.random.default_rng(20261124)
decoder = build_ctcdecoder(LETTERS + [""])
cases = []
for _ in range(200):
    logits = rng.normal(scale=rng.uniform(0.5, 3.0), size=(rng.integers(3, 6), len(LETTERS) + 1))
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    log_probs = log_probs.round(6)
    beams = decoder.decode_beams(log_probs, beam_width=100_000, beam_prune_logp=-1e9, token_min_logp=-1e9)
    cases.append({
        "log_probs": log_probs.tolist(),
        "beams": [[text, round(float(score), 6)] for text, _, _, score, _ in beams[:3]],
    })
with open("expected.json", "w") as out:
    out.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
