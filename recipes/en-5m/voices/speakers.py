"""Who speaks, and how: random speakers, and what they do to a spectrum, a melody and a tempo."""
import numpy as np
from scipy.ndimage import gaussian_filter1d

# What one hears instead of what is written: (phoneme, others), each with its own probability for a speaker.
ACCENTS = [("θ", "tsf"), ("ð", "dz"), ("ɪ", "i"), ("æ", "ɛ"), ("v", "w"), ("ŋ", "n"), ("z", "s"), ("ʌ", "ɑ"), ("ɹ", "ɾ"), ("ɾ", "t"),
           ("ə", "ɛɑ"), ("ʊ", "u"), ("ʤ", "ʒ"), ("ɜ", "ɛ"), ("ɔ", "ɑ"), ("h", "")]

# Low and high formants are moved apart at this frequency.
CORNER_HERTZ = 2000.0


def draw(seed):
    """A speaker."""
    rng = np.random.default_rng([seed, 11])
    pitch = float(np.exp(rng.uniform(np.log(0.5), np.log(1.3))))
    tract = 1 + 0.22 * np.log2(pitch) + rng.normal(0, 0.035)
    colour = [(rng.normal(0, 0.22), rng.uniform(0.4, 4), rng.uniform(0, 2 * np.pi)) for _ in range(4)]
    accents = {}
    if rng.random() < 0.4:
        for phoneme, others in ACCENTS:
            if rng.random() < 0.25:
                accents[phoneme] = (str(rng.choice(list(others))) if others else "", float(rng.uniform(0.2, 0.9)))
    return {
        "british": rng.random() < 0.35,
        "pitch": pitch,
        # Lengths of the frequency axis below and above the corner.
        "tract": np.clip([tract + rng.normal(0, 0.02), tract + rng.normal(0, 0.035)], 0.78, 1.2),
        "slope": float(rng.normal(0, 0.13)),
        "colour": colour,
        "breath": float(rng.normal(0.1, 0.45)),
        "span": float(np.exp(rng.normal(-0.1, 0.4))),
        "drift": float(abs(rng.normal(0, 0.06))),
        "speed": float(np.exp(rng.normal(0.0, 0.12))),
        "wander": float(abs(rng.normal(0, 0.18))),
        # Frames over which articulation blurs; below zero it is sharpened.
        "blur": float(rng.choice([0.0, rng.uniform(0.4, 1.6), -rng.uniform(0.1, 0.35)], p=[0.4, 0.35, 0.25])),
        "pause": float(rng.choice([0.0, rng.uniform(0.02, 0.15)])),
        "accents": accents,
    }


def curve(rng, count, step):
    """About unit deviation through `count` frames, turning about every `step` of them."""
    knots = rng.normal(size=count // step + 4)
    return np.interp(np.arange(count) / step, np.arange(len(knots)), gaussian_filter1d(knots, 0.7) * 1.6)


def mispronounce(phonemes, speaker, rng):
    out = []
    for symbol in phonemes:
        other, probability = speaker["accents"].get(symbol, (None, 0.0))
        out.append(other if other is not None and rng.random() < probability else symbol)
    return "".join(out)


def between(positions, count):
    """The places before and after fractional positions, and how far they are from the first to the second."""
    positions = np.clip(positions, 0, count - 1)
    low = np.floor(positions).astype(int)
    return low, np.minimum(low + 1, count - 1), (positions - low).astype(np.float32)


def tempo(frames, speaker, rng, step):
    """For each frame of what is said at the speaker's wandering tempo, where it lies in `frames`: as `between`."""
    rate = np.exp(speaker["wander"] * curve(rng, frames, step)) * speaker["speed"]
    ends = np.concatenate([[0.0], np.cumsum(1.0 / rate)])
    count = max(2, int(ends[-1]))
    return between(np.interp(np.arange(count), ends, np.arange(frames + 1)), frames)


def warp(hertz, tract):
    """For each bin, where in the spectrum before its energy comes from: as `between`."""
    low, high = tract
    source = np.where(hertz < CORNER_HERTZ * low, hertz / low, CORNER_HERTZ + (hertz - CORNER_HERTZ * low) / high)
    return between(source / hertz[-1] * (len(hertz) - 1), len(hertz))


def equaliser(hertz, speaker):
    """Logarithms of amplitude to add to each bin."""
    octave = np.log2(np.maximum(hertz, 125.0) / 1000.0)
    waves = [size * np.sin(2 * np.pi * cycles * octave / 6 + phase) for size, cycles, phase in speaker["colour"]]
    return speaker["slope"] * octave + sum(waves)


def articulate(x, blur):
    """(bins, frames), blurred or sharpened in time."""
    if blur == 0.0:
        return x
    if blur > 0.0:
        return gaussian_filter1d(x, blur, axis=1)
    return x - 1.5 * blur * (x - gaussian_filter1d(x, 2.5, axis=1))


def intone(f0, speaker, rng, step):
    """The speaker's melody; frames below 40 Hz have no voice and stay."""
    voiced = f0 > 40
    if not voiced.any():
        return f0
    mean = np.log(f0[voiced]).mean()
    contour = mean + speaker["span"] * (np.log(np.maximum(f0, 40)) - mean) + speaker["drift"] * curve(rng, len(f0), step)
    return np.where(voiced, np.clip(np.exp(contour) * speaker["pitch"], 55, 480), f0).astype(f0.dtype)
