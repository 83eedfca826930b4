"""Teacher clips: full Kokoro audio with the vocoder's inputs, for fit.py. usage: TRANSCRIPTS OUT --start N --count K [--part I/N]"""
import sys, os, argparse, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import parts as k, numpy as np, soundfile as sf
a = argparse.ArgumentParser(); a.add_argument("tr"); a.add_argument("out"); a.add_argument("--start", type=int, default=14000); a.add_argument("--count", type=int, default=300); a.add_argument("--part", default="0/1", help="I/N: every N-th line from the I-th, and its share of the count"); a = a.parse_args()
part, parts = map(int, a.part.split("/"))
os.makedirs(a.out, exist_ok=True)
s = k.load(k.graphs()[0]); sp = k.Speakers(); rd = k.Reader(); tot=0; t0=time.time(); n=0
for i, key, text in k.lines(a.tr, a.start):
    if n * parts >= a.count: break
    if i % parts != part or len(text) > 180: continue
    n += 1
    if os.path.exists(f"{a.out}/{key}.npz"): continue
    d = sp.draw(i); ids = rd(text, d, i)
    if ids is None: continue
    st = sp.style(d, len(ids))
    y, f, f0 = s.run(None, {"tokens": np.array([[0, *ids, 0]], np.int64), "style": st, "speed": np.array([d["speed"]], np.float32)})
    np.savez(f"{a.out}/{key}.npz", feats=f[0].T.astype(np.float16), f0=f0.ravel(), style=st[0], text=text)
    sf.write(f"{a.out}/{key}.wav", y, 24000); tot += len(y)/24000
    if n % 20 == 0: print(n, round(tot/60,1), "min", round(tot/(time.time()-t0),2), "x", flush=True)
