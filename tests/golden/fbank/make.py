"""Writes the golden log-mel frames beside this file, or compares a release of the reference with them.

    python3 -m venv venv
    venv/bin/pip install kaldi-native-fbank==1.21.1 numpy
    venv/bin/python make.py              # writes *.samples.f32 and *.log-mel.f32
    venv/bin/python make.py --compare    # writes nothing; works with any release

See README.md for the files and for the choice of the release.
"""

import argparse
import wave
from importlib.metadata import version
from pathlib import Path

import kaldi_native_fbank as knf
import numpy as np

HERE = Path(__file__).parent
RATE = 16_000
BINS = 80
TOLERANCE = 1e-3
# Around the first, second and third frames: where a frame first exists, and where it is first complete.
LENGTHS = [1, 79, 80, 81, 239, 240, 279, 280, 281, 399, 400, 401, 439, 440, 441, 559, 560, 561]


def reference(samples):
    """The reference's frames of a signal, shape (frames, 80)."""
    # What sherpa-onnx 2.0.1 sets for streaming NeMo CTC models (online-recognizer-ctc-impl.h).
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = RATE
    options.frame_opts.frame_length_ms = 25
    options.frame_opts.frame_shift_ms = 10
    options.frame_opts.window_type = "hann"
    options.frame_opts.preemph_coeff = 0.97
    options.frame_opts.remove_dc_offset = False
    options.frame_opts.dither = 0
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = BINS
    options.mel_opts.low_freq = 0
    options.mel_opts.high_freq = 0  # Nyquist
    options.mel_opts.is_librosa = True
    options.use_energy = False
    fbank = knf.OnlineFbank(options)
    fbank.accept_waveform(RATE, samples)
    fbank.input_finished()
    frames = [fbank.get_frame(i) for i in range(fbank.num_frames_ready)]
    return np.array(frames, "<f4").reshape(-1, BINS)


def exactness_of_transform():
    """The share of values in the reference's Fourier transform that are the exact ones, rounded."""
    signal = np.zeros(512, "f4")
    signal[:400] = np.hanning(400) * noise(400)
    packed = np.array(knf.Rfft(512).compute(signal.tolist()), "f4")
    exact = np.fft.rfft(signal.astype("f8"))[1:-1].astype("c8")
    return np.mean([packed[2::2] == exact.real, np.abs(packed[3::2]) == np.abs(exact.imag)])


def noise(count):
    """White noise from a linear congruential generator, full scale."""
    state, out = 1, np.empty(count)
    for i in range(count):
        state = (1_664_525 * state + 1_013_904_223) % 2**32
        out[i] = state / 2**31 - 1
    return out


def signals():
    """Name -> samples. All are written beside the frames, but for the clip."""
    time = np.arange(RATE // 2) / RATE
    quarter = time[: RATE // 4]
    made = {
        "noise": noise(time.size),
        # Half of its values are at the floor.
        "noise-quiet": 5e-4 * noise(quarter.size),
        "noise-on-offset": 0.9 + 1e-3 * noise(quarter.size),
        "silence": np.zeros(quarter.size),
        # 20 Hz to 8 kHz.
        "chirp": np.sin(2 * np.pi * (20 * time + 7980 * time**2)),
        # The bins between its few harmonics hold next to nothing.
        "tone": np.sin(2 * np.pi * 440 * quarter),
        "square": np.where(np.arange(quarter.size) // 50 % 2 == 0, 1.0, -1.0),
    }
    return {name: samples.astype("<f4") for name, samples in made.items()}


def clip():
    with wave.open(str(HERE / "../../data/jfk.wav")) as file:
        assert file.getparams()[:3] == (1, 2, RATE)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype("f4") / 32_768


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--compare", action="store_true", help="compare with the files; write nothing")
    compare = parser.parse_args().compare

    exactness = exactness_of_transform()
    print(f"kaldi-native-fbank {version('kaldi-native-fbank')}: {exactness:.0%} of its transform is exact")
    if not compare and exactness < 0.99:
        raise SystemExit("this release transforms in single precision: install 1.21.1 (see README.md)")

    made = signals()
    cases = {"jfk": clip(), **made}
    cases |= {f"noise-{length}": made["noise"][:length] for length in LENGTHS}
    for name, samples in cases.items():
        frames = reference(samples)
        path = HERE / f"{name}.log-mel.f32"
        if compare:
            golden = np.fromfile(path, "<f4").reshape(-1, BINS)
            assert golden.shape == frames.shape, name
            difference = np.abs(golden.astype("f8") - frames)
            print(
                f"{name:16} {frames.shape[0]:5} frames, largest difference {difference.max(initial=0):.1e},"
                f" values beyond {TOLERANCE}: {(difference > TOLERANCE).sum()} of {difference.size}"
            )
        else:
            frames.tofile(path)
            if name in made:
                samples.tofile(HERE / f"{name}.samples.f32")


if __name__ == "__main__":
    main()
