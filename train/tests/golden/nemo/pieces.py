"""Makes a SentencePiece model as NeMo's teachers have, and what SentencePiece itself splits texts into.

    python3 -m venv venv && venv/bin/pip install sentencepiece==0.2.2 && venv/bin/python pieces.py

Reads the texts of pieces.json beside itself; writes tokenizer.model (128 unigrams of them) and the ids into pieces.json.
"""

import json
import pathlib
import tempfile

import sentencepiece

HERE = pathlib.Path(__file__).resolve().parent
golden = json.loads((HERE / "pieces.json").read_text())
with tempfile.TemporaryDirectory() as folder:
    text = pathlib.Path(folder) / "text"
    text.write_text("\n".join(golden["texts"]))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=f"{folder}/tokenizer", vocab_size=128, bos_id=-1, eos_id=-1,
        normalization_rule_name="identity", character_coverage=1.0)
    (HERE / "tokenizer.model").write_bytes((pathlib.Path(folder) / "tokenizer.model").read_bytes())
model = sentencepiece.SentencePieceProcessor(model_file=str(HERE / "tokenizer.model"))
golden["ids"] = [model.encode(text) for text in golden["texts"]]
lines = ",\n".join(f"{json.dumps(key)}: [\n" + ",\n".join(map(json.dumps, golden[key])) + "\n]" for key in golden)
(HERE / "pieces.json").write_text("{\n" + lines + "\n}\n")
