#!/usr/bin/env python3
"""Recorded speech once more, in other voices: WORLD takes it apart, pitch, tract, colour and tempo change.

pip install pyworld numpy scipy soundfile      (about 30x real time on one core)
usage: disguise.py MANIFEST OUTDIR [--turns N] [--shortest S] [--seed S] [--jobs J]

Every utterance of MANIFEST comes out N times, each time as another speaker says it, see draw() in speakers.py; what
was said, its accent and its melody stay. Resumes: keys in the manifest are skipped.
Writes OUTDIR/audio/*.flac (16 kHz mono) and OUTDIR/manifest.jsonl.
"""
import argparse
import json
import os

import numpy as np
import pyworld
import soundfile as sf
from folder import RATE, Folder, levelled, write
from speakers import draw, equaliser, intone, tempo, warp


def disguise(x, seed):
    d, rng = draw(seed), np.random.default_rng([seed, 13])
    rough, times = pyworld.dio(x, RATE, frame_period=10.0)
    f0 = pyworld.stonemask(x, rough, times, RATE)
    envelope = pyworld.cheaptrick(x, f0, times, RATE)
    breath = pyworld.d4c(x, f0, times, RATE)
    voiced = f0 > 40
    # Pitch changes from what it is, as far as it stays human.
    middle = np.exp(np.log(f0[voiced]).mean()) if voiced.any() else 150.0
    d["pitch"] = float(np.clip(middle * np.exp(rng.normal(0, 0.28)), 75, 330) / middle)
    d["tract"] = np.clip(1 + 0.18 * np.log2(d["pitch"]) + rng.normal(0, 0.04, 2), 0.82, 1.2)
    hertz = np.linspace(0, RATE / 2, envelope.shape[1])
    low, high, mix = warp(hertz, d["tract"])
    log = np.log(envelope + 1e-12)
    log = log[:, low] * (1 - mix) + log[:, high] * mix + 2 * equaliser(hertz, d)
    at, after, between = tempo(len(f0), d, rng, step=35)
    log = log[at] * (1 - between[:, None]) + log[after] * between[:, None]
    nearest = np.where(between > 0.5, after, at)
    f0 = intone(f0, d, rng, step=50)[nearest]
    y = pyworld.synthesize(f0, np.ascontiguousarray(np.exp(log)), np.ascontiguousarray(breath[nearest]), RATE, 10.0)
    return levelled(y, rng)


def make(task):
    out, key, source, row, seed = task
    try:
        x, rate = sf.read(source, dtype="float64")
        assert rate == RATE and x.ndim == 1, f"{source}: {rate} Hz, expected 16 kHz mono"
        y = disguise(x, seed)
    except Exception as error:  # one bad utterance must not end a long run
        return key, f"{error!r:.200}"
    changed = {"speaker": f"{row.get('speaker')}-as-{seed}", "source": f"{row.get('source', '')}, disguised by WORLD"}
    row = {name: value for name, value in row.items() if name not in ("audio_filepath", "duration")}
    return write(out, key, y, {**row, **changed})


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("manifest")
    args.add_argument("out")
    args.add_argument("--turns", type=int, default=8)
    args.add_argument("--shortest", type=float, default=1.0, help="seconds; what is shorter is left out")
    args.add_argument("--seed", type=int, default=0)
    args.add_argument("--jobs", type=int, default=os.cpu_count())
    a = args.parse_args()
    folder = Folder(a.out)
    source = os.path.dirname(os.path.abspath(a.manifest))
    rows = [json.loads(line) for line in open(a.manifest, encoding="utf-8")]
    tasks = []
    for turn in range(a.turns):
        for i, row in enumerate(rows):
            key = f"{os.path.splitext(os.path.basename(row['audio_filepath']))[0]}-{turn}"
            if key not in folder.done and a.shortest <= row["duration"] < 20:
                seed = a.seed + 1_000_003 * (turn + 1) + i
                tasks.append((a.out, key, os.path.join(source, row["audio_filepath"]), row, seed))
    folder.fill(make, tasks, a.jobs)
    print(f"{folder.seconds / 3600:.2f} h in {a.out}")


if __name__ == "__main__":
    main()
