"""How far to believe one's own model: trained on 2 x 50 photos, judged on strangers' photos.

ALPACA_SHARED=FOLDER python -m tests.benchmarks.bench_pairs

Each pair is trained as a user would train it: two folders and the shipped recipe. Training draws
from the photos of one gathering, the judges are all photos of the others, of other sources. The
table is that of training/NOTES.md.
"""

from __future__ import annotations

import csv
import os
import random
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from alpaca_labeler.model import bundle
from alpaca_labeler.training import compare, dataset, metrics, provenance

ROOT = Path(__file__).parents[2]
PAIRS = (
    *("sheep/goat", "horse/cow", "donkey/horse", "fluffy_dog/sheep"),
    *("alpaca/sheep", "cow/sheep", "goat/cow", "alpaca/horse"),
)
TRAINED_ON, JUDGED_ON = "train_extra", ("train_more", "train_more2")
PHOTOS = 50
"""Photos per class to train on."""
WEIGHTS = "weights/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"


ROW = (
    "| {pair} | {photos} | {accuracy:.3f} | {auc:.3f} | {reviewed:.0%} | {caught:.0%} "
    "| {expected:.0f} / {mistakes} |"
)


def photos(shared: Path, gathering: str) -> Iterator[tuple[str, Path, str]]:
    """Yield (kind, file, source) of each photo of a gathering."""
    with open(shared / gathering / "SOURCES.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            path = Path(row["file"])
            yield path.parent.name, shared / gathering / path, row["source"]


def arrange(shared: Path, pair: str, folder: Path) -> None:
    """Link the pair's photos into `folder`: train/KIND and judge/KIND."""
    kinds = pair.split("/")
    known, seen = defaultdict(list), set()
    for kind, path, source in photos(shared, TRAINED_ON):
        known[kind].append(path)
        seen.update([source] * (kind in kinds))
    chosen = [
        (f"train/{kind}", path)
        for kind in kinds
        for path in random.Random(1).sample(sorted(known[kind]), min(PHOTOS, len(known[kind])))
    ]
    chosen += [
        (f"judge/{kind}", path)
        for gathering in JUDGED_ON
        for kind, path, source in photos(shared, gathering)
        if kind in kinds and source not in seen
    ]
    for place, path in chosen:
        (folder / place).mkdir(parents=True, exist_ok=True)
        (folder / place / f"{path.parents[1].name}-{path.name}").symlink_to(path)


def measure(shared: Path, pair: str) -> dict[str, float]:
    """Train on a pair, and judge by strangers' photos."""
    with tempfile.TemporaryDirectory(prefix="pairs-") as scratch:
        folder = Path(scratch)
        arrange(shared, pair, folder)
        words = ["train", folder / "train", "--weights", shared / WEIGHTS]
        words += ["--output", folder / "run"]
        command = [sys.executable, "-m", "alpaca_labeler", *map(str, words)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        model = provenance.Model(bundle.load(str(folder / "run")), None)
        card = model.bundle.card
        data = dataset.load(str(folder / "judge"), card.input_size, positive=card.labels[1])
        said, _ = compare.answer(model, data)
    worth = metrics.review(said)
    return {
        "photos": len(data.photos),
        "accuracy": float(said.right.mean()),
        "auc": metrics.auc(said.truth, said.probabilities),
        "reviewed": worth["needs_review"],
        "caught": worth["errors_in_review"],
        "expected": float(np.minimum(said.probabilities, 1 - said.probabilities).sum()),
        "mistakes": int((~said.right).sum()),
    }


def verdict(found: list[dict[str, float]]) -> str:
    """Return how the results stand to what is promised."""
    mistakes, judged = sum(r["mistakes"] for r in found), sum(r["photos"] for r in found)
    caught = sum(r["caught"] * r["mistakes"] for r in found if r["mistakes"]) / max(mistakes, 1)
    reviewed = sum(r["reviewed"] * r["photos"] for r in found) / judged
    near = sum(r["mistakes"] / 2 <= r["expected"] <= r["mistakes"] * 2 for r in found)
    return (
        f"All pairs: review holds {caught:.0%} of the mistakes in {reviewed:.0%} of the photos; "
        f"the expected number of mistakes is within a factor of two of the true one for {near} of "
        f"{len(found)} pairs."
    )


def main() -> None:
    """Measure, print."""
    if not (folder := os.environ.get("ALPACA_SHARED")):
        sys.exit("set ALPACA_SHARED to the folder that holds the gatherings of photos")
    found = list[dict[str, float]]()
    print("| pair | photos | accuracy | AUC | review | caught | mistakes expected / true |")
    print("|---|---|---|---|---|---|---|")
    for pair in PAIRS:
        found.append(measure(Path(folder).resolve(), pair))
        print(ROW.format(pair=pair, **found[-1]), flush=True)
    print(f"\n{verdict(found)}")


if __name__ == "__main__":
    main()
