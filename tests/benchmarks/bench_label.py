"""What labelling costs over the bare cost of decoding and inference. Run by hand:

    python tests/benchmarks/bench_label.py [FOLDER]

On one core, in interleaved rounds, it measures (a) the floor: read a file, decode it scaled, run
the 8-bit model; (b) the in-process `Labeler`; (c) `alpaca label --workers 1 --relabel`, the whole
process.
"""

from __future__ import annotations

import io
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from handler import bundle
from handler.classifier import Classifier
from handler.labeler import Labeler
from handler.storage import ImageVersion

ROUNDS = 5
ROOT = Path(__file__).parents[2]
TARGET_RATIO, TARGET_MB = 1.3, 150


def default_folder():
    """The data set where it is at hand, else the photos of the tests."""
    shared = Path(os.environ.get("ALPACA_SHARED", ROOT.parent / "shared")) / "dataset"
    return shared if shared.is_dir() else ROOT / "tests/photos"


def floor(paths, classifier):
    """The least that any labeller must do."""
    size = classifier.card.input_size
    for path in paths:
        with open(path, "rb") as file:
            image = Image.open(io.BytesIO(file.read()))
        scale = min(image.size) / size
        image.draft("RGB", tuple(math.ceil(side / max(scale, 1)) for side in image.size))
        image.load()
        square = np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.NEAREST))
        classifier.logit(square)


def labelled(paths, labeler):
    """The same by the library."""
    for outcome in labeler.label(ImageVersion(path) for path in paths):
        assert outcome.row


def command(words, folder):
    """The same by the command. Returns the peak memory of each process in MB."""
    run = subprocess.Popen(
        [sys.executable, "-m", "cli", "label", *words, "--workers", "1", "--relabel",
         "--manifest", f"{folder}/m.jsonl"],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    peaks = {}
    while run.poll() is None:
        for pid in (run.pid, *_children(run.pid)):
            peaks[pid] = max(peaks.get(pid, 0), _peak(pid))
        time.sleep(0.05)
    assert run.returncode == 0
    return list(peaks.values())


def _children(pid):
    try:
        return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _peak(pid):
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0)


def main():
    """Measure and print."""
    folder = sys.argv[1] if len(sys.argv) > 1 else str(default_folder())
    suffixes = {".jpg", ".jpeg", ".png"}
    paths = sorted(str(p) for p in Path(folder).rglob("*") if p.suffix.lower() in suffixes)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    classifier, labeler = Classifier(bundle.load()), Labeler()
    peaks = []
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "nothing").mkdir()
        tasks = {
            "a  floor": lambda: floor(paths, classifier),
            "b  Labeler": lambda: labelled(paths, labeler),
            "c  alpaca label": lambda: peaks.append(command([folder], scratch)),
            "   its start and end": lambda: command([f"{scratch}/nothing"], scratch),
        }
        times = {name: [] for name in tasks}
        for _ in range(ROUNDS):
            for name, task in tasks.items():
                began = time.perf_counter()
                task()
                times[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(found) for name, found in times.items()}
    medians["c  without start"] = medians["c  alpaca label"] - medians["   its start and end"]
    print(f"{len(paths)} photos in {folder}, one core, median of {ROUNDS} rounds")
    for name, seconds in medians.items():
        print(
            f"{name:22} {seconds:7.2f} s  {1000 * seconds / len(paths):6.2f} ms a photo  "
            f"{len(paths) / seconds:6.1f} photos/s  {seconds / medians['a  floor']:5.2f} x floor"
        )
    most = [max(found) for found in zip(*peaks, strict=False)]
    print(f"peak memory: parent {most[0]:.0f} MB, worker {most[1]:.0f} MB, both {sum(most):.0f} MB")
    print(f"target: c at most {TARGET_RATIO} x floor, below {TARGET_MB} MB")


if __name__ == "__main__":
    main()
