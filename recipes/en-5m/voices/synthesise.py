#!/usr/bin/env python3
"""Synthesise varied read English with hibari-tts: another speaker, room for error and way of speaking per utterance.

pip install hibari-tts==0.2.1 onnxruntime numpy scipy soundfile      (Apache-2.0; about 100x real time on one core)
usage: synthesise.py TRANSCRIPTS OUTDIR [--hours H] [--start N] [--seed S] [--jobs J]

The model has one voice and gives a spectrum for every 12.5 ms, which is changed before it becomes sound:
  who speaks   pitch x0.5 to 1.3; the vocal tract's length, low and high formants apart; the slope and colour of the
               spectrum; how much breath is in the voice;
  how          American or British pronunciation, some vowels and consonants as learners and dialects say them; the
               span and drift of the intonation; a tempo that wanders; articulation blurred or sharpened; pauses.
Resumes: keys in the manifest are skipped. Writes OUTDIR/audio/*.flac (16 kHz mono) and OUTDIR/manifest.jsonl, whose
order depends on the jobs; what an utterance sounds like does not.
"""
import argparse
import os

import numpy as np
from hibari import Hibari, dsp
from hibari.g2p import G2P
from folder import Folder, levelled, write
from scipy.signal import resample_poly
from speakers import articulate, draw, equaliser, intone, mispronounce, tempo, warp

HERTZ = np.arange(dsp.N_FFT // 2 + 1) * dsp.SR / dsp.N_FFT


def pace(parts, speaker, rng):
    """The frames at another tempo. Phases and voicing have no middle between two frames."""
    low, high, mix = tempo(parts[0].shape[-1], speaker, rng, step=28)
    nearest = np.where(mix > 0.5, high, low)
    harm, phase_h, noise, residual, phase, f0 = parts
    blend = lambda x: x[:, low] * (1 - mix) + x[:, high] * mix
    return blend(harm), phase_h[:, nearest], blend(noise), blend(residual), phase[:, nearest], f0[nearest]


def timbre(parts, speaker):
    harm, phase_h, noise, residual, phase = parts
    low, high, mix = warp(HERTZ, speaker["tract"])
    nearest = np.where(mix > 0.5, high, low)
    mix, colour = mix[:, None], equaliser(HERTZ, speaker)[:, None]
    move = lambda x: (x[low] * (1 - mix) + x[high] * mix + colour).astype(np.float32)
    # Twice the pitch has half the harmonics.
    harm = move(articulate(harm, speaker["blur"]) + 0.5 * np.log(min(1.0, speaker["pitch"])))
    noise = move(articulate(noise, speaker["blur"]) + speaker["breath"])
    return harm, phase_h[nearest], noise, move(residual), phase[nearest]


class Speaker:
    """Makes utterances; one in each process."""

    def __init__(self):
        self.voice = Hibari(threads=1)
        self.readers = {british: G2P(british=british) for british in (False, True)}

    def speak(self, text, seed):
        d, rng = draw(seed), np.random.default_rng([seed, 12])
        pieces = []
        self.voice._g2p = self.readers[d["british"]]
        words = text.split()
        # A comma is a pause.
        words = [word + ("," if i + 1 < len(words) and rng.random() < d["pause"] else "") for i, word in enumerate(words)]
        for phonemes in self.voice.phonemize(" ".join(words).capitalize() + "."):
            ids = self.voice.ids(mispronounce(phonemes, d, rng))
            feeds = {"ids": np.asarray([ids], np.int64), "speed": np.ones(1, np.float32)}
            *spectrum, f0 = pace([x[0] for x in self.voice.sess.run(None, feeds)], d, rng)
            pieces.append(dsp.synth(*timbre(spectrum, d), intone(f0, d, rng, step=40), rng))
        return levelled(resample_poly(np.concatenate(pieces), 2, 3), rng)


speaker = None


def make(task):
    global speaker
    out, key, text, seed = task
    speaker = speaker or Speaker()
    try:
        y = speaker.speak(text, seed)
    except Exception as error:  # one bad utterance must not end a long run
        return key, f"{error!r:.200}"
    row = {"text": text, "speaker": f"pseudo-{seed}", "source": "hibari-tts 0.2.1 pseudo-speaker", "licence": "Apache-2.0"}
    return write(out, key, y, row)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("transcripts")
    args.add_argument("out")
    args.add_argument("--hours", type=float, default=1.0, help="in all, what is there already included")
    args.add_argument("--start", type=int, default=0)
    args.add_argument("--seed", type=int, default=0)
    args.add_argument("--jobs", type=int, default=os.cpu_count())
    a = args.parse_args()
    folder = Folder(a.out)
    lines = [line.rstrip("\n").split(" ", 1) for line in open(a.transcripts, encoding="utf-8")]
    # More hours than the sentences last for: each again, by other speakers.
    tasks = ((a.out, f"{key}-{turn}" if turn else key, text.lower(), a.seed + turn * len(lines) + i)
             for turn in range(100) for i, (key, text) in enumerate(lines[a.start:], a.start))
    tasks = (task for task in tasks if task[1] not in folder.done)
    folder.fill(make, tasks, a.jobs, a.hours)
    print(f"{folder.seconds / 3600:.2f} h in {a.out}")


if __name__ == "__main__":
    main()
