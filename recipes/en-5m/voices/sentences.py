#!/usr/bin/env python3
"""What synthetic voices are to say: sentences that nobody has recorded, of all books and readers from the first hour on.

usage: sentences.py TRANSCRIPTS MANIFEST
Writes the lines of TRANSCRIPTS to standard output, always in the same mixed order, without those of MANIFEST's recordings.
"""
import json
import pathlib
import random
import sys

transcripts, manifest = sys.argv[1:]
recorded = {pathlib.Path(json.loads(line)["audio_filepath"]).stem for line in open(manifest, encoding="utf-8")}
lines = [line for line in open(transcripts, encoding="utf-8") if line.split(maxsplit=1)[0] not in recorded]
random.Random(1).shuffle(lines)
sys.stdout.writelines(lines)
