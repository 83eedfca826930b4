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
import multiprocessing
import os

import numpy as np
import pyworld
import soundfile as sf
from speakers import draw, equaliser, intone, tempo, warp

RATE = 16000


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
    y *= 10 ** (rng.uniform(-28, -18) / 20) / (np.sqrt((y ** 2).mean()) + 1e-9)
    return y * min(1.0, 0.98 / (np.abs(y).max() + 1e-9))


def make(task):
    out, key, source, row, seed = task
    try:
        x, rate = sf.read(source, dtype="float64")
        assert rate == RATE and x.ndim == 1, f"{source}: {rate} Hz, expected 16 kHz mono"
        y = disguise(x, seed)
    except Exception as error:  # one bad utterance must not end a long run
        return key, f"{error!r:.200}"
    if not 0.8 * RATE < len(y) < 25 * RATE or not np.isfinite(y).all():
        return key, f"{len(y) / RATE:.1f} s"
    sf.write(f"{out}/audio/{key}.flac", y, RATE, subtype="PCM_16")
    return key, {**row, "audio_filepath": f"audio/{key}.flac", "duration": round(len(y) / RATE, 3),
                 "speaker": f"{row.get('speaker')}-as-{seed}", "source": f"{row.get('source', '')}, disguised by WORLD"}


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("manifest")
    args.add_argument("out")
    args.add_argument("--turns", type=int, default=8)
    args.add_argument("--shortest", type=float, default=1.0, help="seconds; what is shorter is left out")
    args.add_argument("--seed", type=int, default=0)
    args.add_argument("--jobs", type=int, default=os.cpu_count())
    a = args.parse_args()
    os.makedirs(f"{a.out}/audio", exist_ok=True)
    path, done = f"{a.out}/manifest.jsonl", set()
    if os.path.exists(path):
        done = {os.path.basename(json.loads(line)["audio_filepath"])[:-5] for line in open(path, encoding="utf-8")}
    folder = os.path.dirname(os.path.abspath(a.manifest))
    rows = [json.loads(line) for line in open(a.manifest, encoding="utf-8")]
    tasks = []
    for turn in range(a.turns):
        for i, row in enumerate(rows):
            key = f"{os.path.splitext(os.path.basename(row['audio_filepath']))[0]}-{turn}"
            if key not in done and a.shortest <= row["duration"] < 20:
                seed = a.seed + 1_000_003 * (turn + 1) + i
                tasks.append((a.out, key, os.path.join(folder, row["audio_filepath"]), row, seed))
    seconds = 0.0
    with open(path, "a", encoding="utf-8") as manifest, multiprocessing.Pool(a.jobs) as pool:
        for key, row in pool.imap_unordered(make, tasks, chunksize=4):
            if isinstance(row, str):
                print(f"{key} is left out: {row}", flush=True)
                continue
            manifest.write(json.dumps(row) + "\n")
            manifest.flush()
            seconds += row["duration"]
    print(f"{seconds / 3600:.2f} h more in {a.out}")


if __name__ == "__main__":
    main()
