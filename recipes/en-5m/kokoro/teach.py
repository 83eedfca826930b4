"""Clips for fit.py: Kokoro's own audio, and what entered its vocoder.

usage: teach.py TRANSCRIPTS OUT [--start N] [--count K] [--part I/N]
Writes OUT/KEY.npz (features, pitch, style) and OUT/KEY.wav (24 kHz). Resumes: clips that are there are left out.
"""
import argparse
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import numpy as np
import parts as k
import soundfile as sf


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("transcripts")
    p.add_argument("out")
    p.add_argument("--start", type=int, default=14000)
    p.add_argument("--count", type=int, default=300)
    p.add_argument("--part", default="0/1", help="I/N: every N-th line from the I-th, and its share of the count")
    a = p.parse_args()
    part, parts = map(int, a.part.split("/"))
    os.makedirs(a.out, exist_ok=True)
    kokoro, speakers, reader = k.load(k.graphs()[0]), k.Speakers(), k.Reader()
    began, seconds, chosen = time.time(), 0.0, 0
    for i, key, text in k.lines(a.transcripts, a.start):
        if chosen * parts >= a.count:
            break
        if i % parts != part or len(text) > 180:
            continue
        chosen += 1
        if os.path.exists(f"{a.out}/{key}.npz"):
            continue
        speaker = speakers.draw(i)
        ids = reader(text, speaker, i)
        if ids is None:
            continue
        style = speakers.style(speaker, len(ids))
        sound, feats, f0 = kokoro.run(None, {"tokens": np.array([[0, *ids, 0]], np.int64), "style": style,
                                             "speed": np.array([speaker["speed"]], np.float32)})
        # The features last: a clip that has them is whole.
        sf.write(f"{a.out}/{key}.wav", sound, 24000)
        clip = dict(feats=feats[0].T.astype(np.float16), f0=f0.ravel(), style=style[0], text=text)
        k.whole(f"{a.out}/{key}.npz", lambda file: np.savez(file, **clip))
        seconds += len(sound) / 24000
        if chosen % 20 == 0:
            print(f"{chosen} clips, {seconds / (time.time() - began):.2f}x real time", flush=True)


if __name__ == "__main__":
    main()
