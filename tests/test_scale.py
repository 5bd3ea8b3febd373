"""The tables of docs/scale.md follow from its figures."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/scale.md").read_text(encoding="utf-8")
INFRA = (ROOT / "infra/README.md").read_text(encoding="utf-8")
GB_SECOND = 0.0000166667 * 1.7275


def number(cell):
    return float(cell.split()[0].replace(",", ""))


def table(text, header):
    """Return the rows of the table whose header begins so, each as its cells."""
    lines = text[text.index(f"| {header} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


FIGURES = {row[0]: number(row[1]) for row in table(TEXT, "figure")}
PHOTO = FIGURES["labelling a photo"] / 1e3 + (FIGURES["a fetch"] + FIGURES["writing a part"]) / 1e5
ROW = FIGURES["merging a row"] / 1e6 + 2 * FIGURES["a row"] / (FIGURES["one S3 stream"] * 1e6)


@pytest.mark.parametrize("row", table(TEXT, "photos"), ids=" ".join)
def test_what_a_size_takes_is_computed(row):
    photos, workers, prefixes, listings, tables = map(number, row[:5])
    limits = {
        "workers": photos * PHOTO / workers,
        "S3 GET": photos / (FIGURES["S3 GET"] * prefixes),
        "listing": photos / (FIGURES["listing"] * listings),
    }
    first = max(limits, key=limits.__getitem__)
    billed = workers * limits[first] if first == "S3 GET" else photos * PHOTO
    assert row[5:] == [
        f"{limits[first] / 60:,.0f} min",
        first,
        f"{photos / tables * FIGURES['a row'] / 1e9:.2f}",
        f"{photos / tables * ROW:,.0f}",
        f"{photos * 0.752e-6 + billed * GB_SECOND:,.2f}",
    ]


@pytest.mark.parametrize("row", table(TEXT, "rows"), ids=" ".join)
def test_what_a_table_costs_is_computed(row):
    rows = number(row[0])
    days = min(1, 0.05 * rows / 10_000)
    wanted = [rows * ROW, 30 / days, rows / (10_000 * days)]
    dollars = 30 / days * rows * ROW * GB_SECOND
    assert row[1:] == [*(f"{cell:,.0f}" for cell in wanted), f"{dollars:.2f}"]


def test_a_table_meets_its_limits_where_the_page_says():
    found = [number(row[1]) for row in table(TEXT, "limit")]
    in_bytes = [5e9 / FIGURES["a row"], 900 / ROW, 10_000 * 64e6 / FIGURES["a row"]]
    assert found == pytest.approx(in_bytes, rel=0.01)


def test_the_cost_of_a_million_adds_up():
    *parts, total = table(INFRA, "| backfill")
    for column in (1, 2):
        cells = [number(row[column]) for row in parts]
        assert sum(cells) == pytest.approx(number(total[column].strip("*")), abs=0.02)
        assert cells[0] == pytest.approx(1e4 * (100 * PHOTO * GB_SECOND + 2e-7), abs=0.005)
