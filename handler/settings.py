"""The function's environment variables as one validated object.

An invalid environment fails at start, naming the variable, what it holds and what it should hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alpaca_labeler import storage
from alpaca_labeler.errors import LabelerError


class SettingsError(LabelerError):
    """A variable is missing or wrong. The message names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says."""

    results: str
    """RESULTS_URI: the table's prefix, `s3://bucket/labels/`, with its slash."""
    input: str
    """INPUT_URI: `s3://bucket/` or `s3://bucket/prefix`. Images elsewhere are refused."""
    model: str | None
    """MODEL_URI: a bundle or a pointer; None is the bundle inside the package."""
    cores: int
    """CORES: images decoded and classified at a time."""
    max_pixels: int
    """MAX_PIXELS: largest width x height of an image."""
    compact_after_seconds: int
    """COMPACT_AFTER_SECONDS: a part that has waited this long is merged in any case."""
    queue: str | None
    """QUEUE_URL: the queue for images that a direct call leaves; if None, that call raises."""


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read and validate the variables. An empty one counts as not set.

    Raises `SettingsError`.
    """
    results = _s3_uri(environment, "RESULTS_URI", "s3://my-results/labels/")
    results = f"{results.rstrip('/')}/"
    photos = _s3_uri(environment, "INPUT_URI", "s3://my-photos/")
    if results.startswith(photos) or photos.startswith(results):
        raise SettingsError(
            f"RESULTS_URI={results!r} and INPUT_URI={photos!r} overlap, so each result would "
            "trigger the function again; give results a bucket or a prefix of their own"
        )
    return Settings(
        results=results,
        input=photos,
        model=environment.get("MODEL_URI") or None,
        cores=_number(environment, "CORES", 1, 1, 16),
        max_pixels=_number(environment, "MAX_PIXELS", 100_000_000, 1, 1_000_000_000),
        compact_after_seconds=_number(environment, "COMPACT_AFTER_SECONDS", 86_400, 0, 10**9),
        queue=environment.get("QUEUE_URL") or None,
    )


def _s3_uri(environment: Mapping[str, str], name: str, example: str) -> str:
    value = environment.get(name) or ""
    try:
        return storage.S3_SCHEME + "/".join(storage.split_s3(value))
    except storage.NotFound:
        raise SettingsError(f"{name} must be an S3 URI like {example}, not {value!r}") from None


def _number(
    environment: Mapping[str, str], name: str, default: int, lowest: int, highest: int
) -> int:
    value = environment.get(name) or str(default)
    if value.isdecimal() and lowest <= int(value) <= highest:
        return int(value)
    raise SettingsError(f"{name}={value!r}: must be a whole number from {lowest:,} to {highest:,}")
