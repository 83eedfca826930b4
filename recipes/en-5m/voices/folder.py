"""A folder of utterances that several processes make, and its manifest."""
import json
import multiprocessing
import os

import numpy as np
import soundfile as sf

RATE = 16000


class Folder:
    """OUT/audio/*.flac (16 kHz mono) and OUT/manifest.jsonl. `done` has the keys that are there already."""

    def __init__(self, out):
        os.makedirs(f"{out}/audio", exist_ok=True)
        self.path, self.done, self.seconds = f"{out}/manifest.jsonl", set(), 0.0
        if os.path.exists(self.path):
            for row in map(json.loads, open(self.path, encoding="utf-8")):
                self.done.add(os.path.splitext(os.path.basename(row["audio_filepath"]))[0])
                self.seconds += row["duration"]

    def fill(self, make, tasks, jobs, hours=float("inf")):
        """Adds what `make(task)` gives, (key, row or why there is none), until there are so many hours in all."""
        if self.seconds >= hours * 3600:
            return
        with open(self.path, "a", encoding="utf-8") as manifest, multiprocessing.Pool(jobs) as pool:
            for key, row in pool.imap_unordered(make, tasks, chunksize=4):
                if isinstance(row, str):
                    print(f"{key} is left out: {row}", flush=True)
                    continue
                manifest.write(json.dumps(row) + "\n")
                manifest.flush()
                self.seconds += row["duration"]
                if self.seconds >= hours * 3600:
                    pool.terminate()
                    return


def write(out, key, samples, row):
    """Writes an utterance at the level it has; its line of the manifest, or why it is no utterance."""
    if not 0.8 * RATE < len(samples) < 25 * RATE or not np.isfinite(samples).all():
        return key, f"{len(samples) / RATE:.1f} s"
    sf.write(f"{out}/audio/{key}.flac", samples, RATE, subtype="PCM_16")
    return key, {"audio_filepath": f"audio/{key}.flac", "duration": round(len(samples) / RATE, 3), **row}


def levelled(samples, rng):
    """At a random level of speech, without clipping."""
    samples = samples * 10 ** (rng.uniform(-28, -18) / 20) / (np.sqrt((samples ** 2).mean()) + 1e-9)
    return samples * min(1.0, 0.98 / (np.abs(samples).max() + 1e-9))
