"""BENCH.md out of the figures of `bench/run`: plain functions of the figures, nothing is measured here."""

from statistics import median

SIDES = {
    "sori-ort": "Sori on ONNX Runtime",
    "sori-tract": "Sori on tract",
    "sherpa": "sherpa-onnx, same package",
    "sherpa-nemo": "sherpa-onnx, NeMo layout",
    "sherpa-nemo-fixed": "sherpa-onnx, NeMo layout, fixed shapes",
}
MB = 1e6


def markdown(figures):
    parts = [
        "# Benchmark",
        "Written by `make bench`; do not edit. [docs/performance.md](docs/performance.md) says where the time goes.",
        goals(figures),
        ratios(figures),
        absolute(figures),
        streams(figures),
        limits(figures),
        sizes(figures),
        how(figures),
    ]
    return "\n\n".join(parts) + "\n"


class Runs:
    """The runs, by chunk, precision and side."""

    def __init__(self, figures):
        self.by_key = {}
        for run in figures["runs"]:
            key = (run["chunk"], run["precision"], run["side"])
            self.by_key.setdefault(key, {})[run["round"]] = run
        self.chunks = sorted({chunk for chunk, _, _ in self.by_key})

    def median(self, field, chunk, precision, side):
        return median(run[field] for run in self.by_key[chunk, precision, side].values())

    def ratios(self, field, chunk, one, other):
        """Of `one` to `other`, each a (precision, side), in every round."""
        ours, theirs = self.by_key[chunk, *one], self.by_key[chunk, *other]
        return [ours[number][field] / theirs[number][field] for number in ours]

    def ratio(self, *arguments):
        return median(self.ratios(*arguments))


def goals(figures):
    """What is promised, what was found in the worst case on each engine, and whether that is good enough."""
    runs = Runs(figures)
    both = ("fp32", "int8")
    engines = ("sori-ort", "sori-tract")

    def ratio(field, rival, precisions=both):
        def found(side, chunk, precision):
            return runs.ratio(field, chunk, (precision, side), (precision, rival))

        return found, precisions

    def itself(field, unit, precisions):
        return lambda side, chunk, precision: runs.median(field, chunk, precision, side) / unit, precisions

    def int8(side, chunk, _):
        return runs.ratio("cpu", chunk, ("int8", side), ("fp32", side))

    rows = [
        ("CPU to sherpa-onnx, same package", 0.75, "", engines, ratio("cpu", "sherpa")),
        ("memory to sherpa-onnx, same package", 0.5, "", engines, ratio("memory", "sherpa")),
        ("CPU to sherpa-onnx, NeMo layout", 0.5, "", engines, ratio("cpu", "sherpa-nemo")),
        ("CPU to Sori on ONNX Runtime, fp32", 1.25, "", ["sori-tract"], ratio("cpu", "sori-ort", ["fp32"])),
        ("CPU, int8 to fp32", 1.0, "", engines, (int8, ["int8"])),
        ("start to ready", 150, " ms", engines, itself("ready", 1e-3, both)),
        ("peak memory, fp32", 40, " MB", engines, itself("memory", MB, ["fp32"])),
        ("peak memory, int8", 25, " MB", engines, itself("memory", MB, ["int8"])),
    ]
    cells = []
    for what, limit, unit, sides, (found, precisions) in rows:
        shown = {}
        for side in sides:
            value, chunk, precision = max(
                (found(side, chunk, precision), chunk, precision) for chunk in runs.chunks for precision in precisions)
            number = f"{value:.2f}" if unit == "" else f"{value:.0f}{unit}"
            shown[side] = f"{number} ({chunk} ms, {precision}), {'met' if value <= limit else '**missed**'}"
        cells.append([what, f"≤ {limit}{unit}", *(shown.get(side, "-") for side in engines)])
    return (
        "## Goals\n\nEach in its worst case of all chunk lengths and precisions. `--engine auto` takes tract on processors"
        " with AVX2 and neither AVX-512 nor VNNI, elsewhere ONNX Runtime.\n\n"
        + table(["what", "goal", *(SIDES[side] for side in engines)], cells))


def ratios(figures):
    runs = Runs(figures)
    rows = []
    pairs = [(f"{SIDES[one]} / {SIDES[other]}", one, other) for one, other in [
        ("sori-ort", "sherpa"), ("sori-ort", "sherpa-nemo"), ("sori-ort", "sherpa-nemo-fixed"),
        ("sori-tract", "sherpa"), ("sori-tract", "sori-ort")]]
    for chunk in runs.chunks:
        for what, one, other in pairs:
            cells = [f"{chunk} ms", what]
            for field in ("cpu", "memory"):
                for precision in ("fp32", "int8"):
                    values = runs.ratios(field, chunk, (precision, one), (precision, other))
                    cells.append(spread(values, field == "cpu"))
            rows.append(cells)
    int8 = [
        [f"{chunk} ms", *(spread(runs.ratios("cpu", chunk, ("int8", side), ("fp32", side)), True)
                          for side in ("sori-ort", "sori-tract", "sherpa", "sherpa-nemo"))]
        for chunk in runs.chunks]
    return (
        "## Ratios\n\nBelow 1 the first needs less. Median of the rounds; in brackets the least and the most.\n\n"
        + table(["chunk", "", "CPU fp32", "CPU int8", "memory fp32", "memory int8"], rows)
        + "\n\nCPU of int8 to that of fp32:\n\n"
        + table(["chunk", *(SIDES[side] for side in ("sori-ort", "sori-tract", "sherpa", "sherpa-nemo"))], int8))


def spread(values, bounds):
    text = f"{median(values):.2f}"
    return f"{text} ({min(values):.2f} to {max(values):.2f})" if bounds and len(values) > 1 else text


def absolute(figures):
    runs = Runs(figures)
    rows = []
    for chunk in runs.chunks:
        for precision in ("fp32", "int8"):
            for side, name in SIDES.items():
                def of(field):
                    return runs.median(field, chunk, precision, side)

                live = f"{of('p50'):.2f} / {of('p99'):.2f}" if side.startswith("sori-") else "-"
                rows.append([
                    f"{chunk} ms", precision, name, f"{of('cpu') * 1e3:.2f}", f"{of('cpu') * chunk:.2f}", live,
                    f"{of('memory') / MB:.1f}", f"{of('memory_long') / MB:.1f}", f"{of('ready') * 1e3:.0f}",
                    f"{of('words'):.0f}"])
    return (
        "## Absolute figures\n\n"
        "Of this machine and this day; medians. *CPU* is that of the whole process, user and system, from its start "
        "to its end, in milliseconds per second of audio and per chunk. *p50 / p99* is the wall time of a chunk in "
        "`sori bench`. *Peak* is the largest resident memory, libraries included, on 11 seconds of speech, and on all "
        "of it, which sherpa-onnx reads as a whole. *Ready* is the wall time of a process that hears 0.2 seconds.\n\n"
        + table(["chunk", "", "", "CPU, ms/s", "CPU, ms/chunk", "p50 / p99, ms", "peak, MB", "peak long, MB",
                 "ready, ms", "words"], rows))


def streams(figures):
    rows, groups = [], {}
    for run in figures["streams"]:
        groups.setdefault((run["engine"], run["precision"], run["way"]), []).append(run)
    cores = figures["machine"]["cores"]
    for (engine, precision, way), found in groups.items():
        wall, cpu, memory = (median(run[field] for run in found) for field in ("wall", "cpu", "memory"))
        rows.append([
            SIDES[f"sori-{engine}"], precision, way, f"{1 / wall / cores:.0f}", f"{1 / cpu:.0f}", f"{memory / MB:.0f}"])
    one = figures["streams"][0]
    return (
        f"## Several streams\n\n{one['streams']} streams at once on {cores} cores, chunks of {one['chunk']} ms. "
        "*Followed* is how many live streams a core follows by the wall clock, start included, with whatever else the "
        "machine did; *paid for* how many a core could follow by the CPU time used, if none had to wait.\n\n"
        + table(["", "", "", "followed, per core", "paid for, per core", "peak, MB, all"], rows))


def limits(figures):
    found, runs = figures["limits"], Runs(figures)
    rows = []
    for graph in found["graphs"]:
        chunk, precision, constants = graph["chunk"], graph["precision"], graph["constants"]
        arithmetic = graph["multiply_adds"] / found["multiply_adds"] * 1e3
        reading, again = (constants / rate * 1e3 for rate in (found["memory"], found["bytes"][str(constants)]))
        shares = (
            f"{runs.median('cpu', chunk, precision, side) * chunk / max(arithmetic, again):.1f}"
            for side in ("sori-ort", "sori-tract"))
        rows.append([
            f"{chunk} ms", precision, f"{graph['multiply_adds'] / 1e6:.1f} M", f"{constants / MB:.1f} MB",
            f"{arithmetic:.2f}", f"{reading:.2f}", f"{again:.2f}", *shares])
    return (
        "## The limit\n\n"
        f"This core does {found['multiply_adds'] / 1e9:.1f} G fused multiply-adds of floats a second and reads "
        f"{found['memory'] / 1e9:.1f} GB/s of memory (`bench/peak.c`). A chunk cannot take less than its multiply-adds, "
        "nor less than reading its weights once. Weights may stay in the last cache between two chunks: *reread* is "
        "the time of reading a buffer of their size again and again. Milliseconds per chunk; the last columns say how "
        "many times the larger of arithmetic and rereading the whole process takes. 8-bit products may go faster than "
        "floats, by what the processor's instructions offer; the table counts them as floats.\n\n"
        + table(["chunk", "", "multiply-adds", "constants", "arithmetic", "from memory", "reread",
                 "Sori on ONNX Runtime, times", "Sori on tract, times"], rows))


def sizes(figures):
    rows = [[f"`{name}`", f"{size / MB:.2f}"] for name, size in figures["sizes"].items()]
    return "## Sizes\n\n" + table(["", "MB"], rows)


def how(figures):
    machine, speech = figures["machine"], figures["speech"]
    busy = (
        f"The machine was busy: other processes used {machine['others']:.2f} of its {machine['cores']} cores. CPU "
        "times and ratios of runs in turns stand; wall times are longer than on a quiet machine."
        if machine["others"] > 0.1 else "The machine was quiet.")
    memory = f"{machine['memory'] / 1e9:.1f} GB"
    facts = [
        ["command", f"`{figures['command']}`"],
        ["date", figures["date"]],
        ["machine", f"{machine['processor']}, {machine['cores']} cores, {memory}, {machine['system']}"],
        ["model", f"{figures['model']['checkpoint']}, {figures['model']['tokens']} tokens"],
        *([name, version] for name, version in figures["versions"].items()),
    ]
    return (
        "## How it was measured\n\n" + table(["", ""], facts) + "\n\n"
        f"{speech['seconds']} seconds of speech: `{speech['file']}`, 11 seconds, again and again. {figures['rounds']} "
        "rounds, in each of which every side runs every case once, in an order that moves on by one each round; "
        f"{machine['minutes']} minutes in all. Each process runs on core {machine['core']} alone, with one thread for "
        f"the model. {busy}\n\n"
        "The sides are commands, without Python: `sori transcribe`, and `sherpa-onnx` of PyPI's `sherpa-onnx-bin`, "
        "which brings its own ONNX Runtime. *NeMo layout* is a graph with random weights and the same geometry, as "
        "`bench/nemo_layout.py` writes it: what NeMo's cache-aware export computes, node by node; *fixed shapes* "
        "spares it what follows from a dynamic time axis.")


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
