#!/usr/bin/env python3
"""Parts recorded speech by how often its speakers speak: of 251 people three say more than half of it.

usage: people.py MANIFEST
Writes many.jsonl, speakers of one utterance or a few, and few.jsonl, those of more than twenty, beside MANIFEST.
"""
import collections
import json
import pathlib
import sys

OFTEN = 20

manifest = pathlib.Path(sys.argv[1])
lines = manifest.read_text().splitlines(keepends=True)
speakers = [json.loads(line)["speaker"] for line in lines]
said = collections.Counter(speakers)
for name, wanted in (("many", False), ("few", True)):
    kept = [line for line, speaker in zip(lines, speakers) if (said[speaker] > OFTEN) == wanted]
    manifest.with_name(f"{name}.jsonl").write_text("".join(kept))
    print(f"{name}: {len(kept)} utterances", file=sys.stderr)
