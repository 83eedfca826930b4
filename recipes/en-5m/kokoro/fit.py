"""Fits kokoro-world.npz: usage: fit.py TEACHDIR [--epochs E]. pip install pyworld scipy soundfile"""
import argparse, glob, os, sys, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import parts as k, numpy as np, pyworld, soundfile as sf
from scipy.signal import resample_poly
a = argparse.ArgumentParser(); a.add_argument("teach"); a.add_argument("--epochs", type=int, default=8); a.add_argument("--inorm", type=int, default=1); a.add_argument("--drop", type=float, default=0.2); a.add_argument("--out", default=f"{k.HOME}/kokoro-world.npz"); a = a.parse_args()
rng = np.random.default_rng(1); t0 = time.time()
X, F, S, Y = [], [], [], []
for p in sorted(glob.glob(f"{a.teach}/*.npz")):
    c = p[:-4] + ".world.npy"
    z = np.load(p); f0 = z["f0"].astype(np.float64)
    if not os.path.exists(c):
        w, _ = sf.read(p[:-4] + ".wav"); w = resample_poly(w, 2, 3) + rng.normal(0, 1e-5, (len(w) * 2 + 2) // 3)
        f = np.where(f0 > 50, f0, 0.0); t = (np.arange(len(f)) + 0.5) * 0.0125
        sp = pyworld.cheaptrick(w, f, t, k.RATE, fft_size=k.FFT)
        ap = pyworld.d4c(w, f, t, k.RATE, fft_size=k.FFT)
        mel = np.stack([np.interp(k.GRID, k.BINHZ, r) for r in np.log(sp)])
        np.save(c, np.hstack([mel, 20 * np.log10(ap[:, [192]])]).astype(np.float32))   # bin 192 = 3 kHz
    X.append(z["feats"]); F.append(f0); S.append(z["style"]); Y.append(np.load(c)[:len(f0)])
print(len(X), "clips", round(sum(map(len, F)) / 80 / 60, 1), "min", round(time.time() - t0), "s analysis", flush=True)
allx = np.concatenate(X).astype(np.float32); ally = np.concatenate(Y); st = np.stack(S)[:, :128]
net = dict(fm=allx.mean(0), fs=allx.std(0) + 1e-3, sm=st.mean(0), ss=st.std(0) + 1e-3, om=ally.mean(0), os=ally.std(0) + 1e-3); del allx
if a.inorm: net["inorm"] = np.ones(1)
net["os"][:k.POINTS] = net["os"][:k.POINTS].mean()
print("os", net["os"][:3], net["os"][-1]); hold = max(4, len(X) // 20)
xs = [k.inputs(x, f, s, net).astype(np.float16) for x, f, s in zip(X, F, S)]
ys = [(y - net["om"]) / net["os"] for y in Y]
xv, yv = np.concatenate(xs[-hold:]).astype(np.float32), np.concatenate(ys[-hold:]); xt, yt = np.concatenate(xs[:-hold]), np.concatenate(ys[:-hold]).astype(np.float32); del xs, ys, X
loud = (yv[:, :k.POINTS].mean(1) > 0)
I, H, O = xt.shape[1], 512, yt.shape[1]
P = dict(w1=rng.normal(0, (2 / I) ** .5, (I, H)), b1=np.zeros(H), w2=rng.normal(0, (2 / H) ** .5, (H, H)), b2=np.zeros(H), w3=rng.normal(0, (1 / H) ** .5, (H, O)), b3=np.zeros(O))
P = {n: v.astype(np.float32) for n, v in P.items()}; M = {n: np.zeros_like(v) for n, v in P.items()}; V = {n: np.zeros_like(v) for n, v in P.items()}
B, step = 512, 0; total = a.epochs * (len(xt) // B)
for e in range(a.epochs):
    perm = rng.permutation(len(xt)); loss = 0
    for b in range(len(xt) // B):
        ix = perm[b * B:(b + 1) * B]; x, y = xt[ix].astype(np.float32), yt[ix]
        if a.drop: x *= (rng.random(x.shape, np.float32) > a.drop).astype(np.float32) / (1 - a.drop)
        z1 = x @ P["w1"] + P["b1"]; h1 = np.maximum(z1, 0); z2 = h1 @ P["w2"] + P["b2"]; h2 = np.maximum(z2, 0); d2 = (rng.random(h2.shape, np.float32) > a.drop).astype(np.float32) / (1 - a.drop); h2 = h2 * d2; o = h2 @ P["w3"] + P["b3"]
        g = (o - y) * (2 / len(y)); loss += float(((o - y) ** 2).mean())
        G = dict(w3=h2.T @ g, b3=g.sum(0)); g2 = (g @ P["w3"].T) * (z2 > 0) * d2; G["w2"] = h1.T @ g2; G["b2"] = g2.sum(0); g1 = (g2 @ P["w2"].T) * (z1 > 0); G["w1"] = x.T @ g1; G["b1"] = g1.sum(0)
        step += 1; lr = 1e-3 * min(1, step / 100) * (0.5 + 0.5 * np.cos(np.pi * step / total))
        for n in P:
            M[n] += 0.1 * (G[n] - M[n]); V[n] += 0.001 * (G[n] ** 2 - V[n])
            P[n] -= lr * (M[n] / (1 - 0.9 ** step) / (np.sqrt(V[n] / (1 - 0.999 ** step)) + 1e-8) + (1e-2 * P[n] if n[0] == "w" else 0))
    v = (k.forward(xv, P) - yv) * net["os"]
    print("epoch", e, "train", round(loss / (len(xt) // B), 4), "held-out env rms dB", np.round(np.sqrt((v[:, :k.POINTS] ** 2).mean()) * 4.343, 2), "voiced loud", np.round(np.sqrt((v[loud][:, :k.POINTS] ** 2).mean()) * 4.343, 2), "ap dB", np.round(np.sqrt((v[:, -1] ** 2).mean()), 2), round(time.time() - t0), "s", flush=True)
np.savez(a.out, **net, **P)
