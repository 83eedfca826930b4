"""Fits the light vocoder, kokoro-world.npz, on clips that teach.py made: what enters Kokoro's vocoder -> WORLD's envelope.

pip install numpy scipy soundfile pyworld
usage: fit.py TEACHDIR [--epochs E] [--drop P] [--out FILE]
A network of three layers looks at three frames, pitch and speaker, and learns the logarithm of CheapTrick's envelope at 64 mel
points and D4C's aperiodicity at 3 kHz: Adam with a cosine, dropout, a twentieth of the clips held out.
"""
import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import numpy as np
import parts as k
import pyworld
import soundfile as sf
from scipy.signal import resample_poly

HIDDEN, BATCH, PEAK, DECAY = 512, 512, 1e-3, 1e-2
DECIBEL = 20 / np.log(10) / 2                            # of a logarithm of power
AT_3_KHZ = 3000 * k.FFT // k.RATE


def analyse(clip, f0, rng):
    """(frames, POINTS + 1): WORLD's envelope and aperiodicity of a clip, kept beside it."""
    kept = clip.with_suffix(".world.npy")
    if not kept.exists():
        sound, _ = sf.read(clip.with_suffix(".wav"))
        sound = resample_poly(sound, 2, 3)
        sound += rng.normal(0, 1e-5, len(sound))         # CheapTrick takes no silence
        pitch, times = np.where(f0 > 50, f0, 0.0), (np.arange(len(f0)) + 0.5) * 0.0125
        envelope = np.log(pyworld.cheaptrick(sound, pitch, times, k.RATE, fft_size=k.FFT))
        aperiodic = 20 * np.log10(pyworld.d4c(sound, pitch, times, k.RATE, fft_size=k.FFT)[:, [AT_3_KHZ]])
        at_points = np.stack([np.interp(k.GRID, k.BINHZ, frame) for frame in envelope])
        frames = np.hstack([at_points, aperiodic]).astype(np.float32)
        k.whole(kept, lambda file: np.save(file, frames))
    return np.load(kept)[:len(f0)]


def standards(styles, targets):
    """Means and deviations of speakers and of what leaves the network; features are standardised by clip."""
    styles, targets = np.stack(styles)[:, :128], np.concatenate(targets)
    net = {"sm": styles.mean(0), "ss": styles.std(0) + 1e-3, "om": targets.mean(0), "os": targets.std(0) + 1e-3}
    net["os"][:k.POINTS] = net["os"][:k.POINTS].mean()   # an error counts alike at all points
    return net


def fresh(rng, width, out):
    sizes = {"1": (width, HIDDEN, 2), "2": (HIDDEN, HIDDEN, 2), "3": (HIDDEN, out, 1)}
    weights = {}
    for layer, (rows, columns, gain) in sizes.items():
        weights[f"w{layer}"] = rng.normal(0, np.sqrt(gain / rows), (rows, columns)).astype(np.float32)
        weights[f"b{layer}"] = np.zeros(columns, np.float32)
    return weights


def gradients(x, y, net, keep):
    """Of the mean squared error, which comes first; `keep` draws a dropout's factors of a shape."""
    x = x * keep(x.shape)
    sum1 = x @ net["w1"] + net["b1"]
    hidden1 = np.maximum(sum1, 0)
    sum2, kept = hidden1 @ net["w2"] + net["b2"], keep((len(x), HIDDEN))
    hidden2 = np.maximum(sum2, 0) * kept
    error = hidden2 @ net["w3"] + net["b3"] - y
    to3 = error * (2 / len(y))
    to2 = (to3 @ net["w3"].T) * (sum2 > 0) * kept
    to1 = (to2 @ net["w2"].T) * (sum1 > 0)
    return (error ** 2).mean(), {"w1": x.T @ to1, "b1": to1.sum(0), "w2": hidden1.T @ to2, "b2": to2.sum(0),
                                 "w3": hidden2.T @ to3, "b3": to3.sum(0)}


class Adam:
    def __init__(self, net, steps):
        self.net, self.steps, self.step = net, steps, 0
        self.first = {name: np.zeros_like(value) for name, value in net.items()}
        self.second = {name: np.zeros_like(value) for name, value in net.items()}

    def update(self, slopes):
        self.step += 1
        rate = PEAK * min(1, self.step / 100) * (0.5 + 0.5 * np.cos(np.pi * self.step / self.steps))
        for name, slope in slopes.items():
            self.first[name] += 0.1 * (slope - self.first[name])
            self.second[name] += 0.001 * (slope * slope - self.second[name])
            mean = self.first[name] / (1 - 0.9 ** self.step)
            deviation = np.sqrt(self.second[name] / (1 - 0.999 ** self.step)) + 1e-8
            decay = DECAY * self.net[name] if name[0] == "w" else 0
            self.net[name] -= rate * (mean / deviation + decay)


def fit(x, y, held_x, report, epochs, drop, rng):
    """The network for rows of x and y; `report` hears its answers to `held_x` after each epoch."""
    keep = lambda shape: (rng.random(shape, np.float32) > drop).astype(np.float32) / (1 - drop)
    net, batches = fresh(rng, x.shape[1], y.shape[1]), len(x) // BATCH
    adam = Adam(net, epochs * batches)
    for epoch in range(epochs):
        order, loss = rng.permutation(len(x)), 0
        for batch in range(batches):
            rows = order[batch * BATCH:(batch + 1) * BATCH]
            error, slopes = gradients(x[rows].astype(np.float32), y[rows], net, keep)
            loss += error / batches
            adam.update(slopes)
        report(epoch, loss, k.forward(held_x, net))
    return net


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("teach", type=Path)
    p.add_argument("--epochs", type=int, default=8)
    p.add_argument("--drop", type=float, default=0.2)
    p.add_argument("--out", default=f"{k.HOME}/kokoro-world.npz")
    a = p.parse_args()
    rng, began = np.random.default_rng(1), time.time()

    feats, pitches, styles, targets = [], [], [], []
    for clip in sorted(a.teach.glob("*.npz")):
        kept = np.load(clip)
        pitches.append(kept["f0"].astype(np.float64))
        feats.append(kept["feats"])
        styles.append(kept["style"])
        targets.append(analyse(clip, pitches[-1], rng))
    minutes = sum(map(len, pitches)) / 80 / 60
    print(f"{len(feats)} clips, {minutes:.1f} min, analysed after {time.time() - began:.0f} s", flush=True)

    standard = standards(styles, targets)
    xs = [k.inputs(*clip, standard).astype(np.float16) for clip in zip(feats, pitches, styles)]
    ys = [((target - standard["om"]) / standard["os"]).astype(np.float32) for target in targets]
    held = max(4, len(xs) // 20)
    held_x, held_y = np.concatenate(xs[-held:]).astype(np.float32), np.concatenate(ys[-held:])
    x, y = np.concatenate(xs[:-held]), np.concatenate(ys[:-held])
    del feats, xs
    loud = held_y[:, :k.POINTS].mean(1) > 0

    def report(epoch, loss, answer):
        error = (answer - held_y) * standard["os"]
        rms = lambda values: np.sqrt((values ** 2).mean())
        print(f"epoch {epoch}: loss {loss:.4f}, held out {DECIBEL * rms(error[:, :k.POINTS]):.2f} dB, loud "
              f"{DECIBEL * rms(error[loud, :k.POINTS]):.2f} dB, aperiodicity {rms(error[:, -1]):.2f} dB, "
              f"{time.time() - began:.0f} s", flush=True)

    net = fit(x, y, held_x, report, a.epochs, a.drop, rng)
    k.whole(a.out, lambda file: np.savez(file, **standard, **net))


if __name__ == "__main__":
    main()
