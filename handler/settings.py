"""The function's environment variables as one validated object.

An invalid environment fails at start, naming the variable, what it holds and what it should hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from alpaca_labeler import storage
from alpaca_labeler.errors import LabelerError

LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


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
    log_level: str
    """LOG_LEVEL."""


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read and validate the variables. An empty one counts as not set.

    Raises `SettingsError`.
    """
    results = _s3_uri(environment, "RESULTS_URI", "s3://my-results/labels/")
    results = f"{results.rstrip('/')}/"
    photos = _s3_uri(environment, "INPUT_URI", "s3://my-photos/")
    if storage.split_s3(results)[1] == "":
        raise SettingsError(
            f"RESULTS_URI={results!r}: needs a prefix below the bucket, as s3://my-results/labels/"
        )
    if results.startswith(photos) or photos.startswith(results):
        raise SettingsError(
            f"RESULTS_URI={results!r} and INPUT_URI={photos!r} overlap, so each result would "
            "trigger the function again; give results a bucket or a prefix of their own"
        )
    level = (environment.get("LOG_LEVEL") or "INFO").upper()
    if level not in LOG_LEVELS:
        raise SettingsError(f"LOG_LEVEL={level!r}: must be one of {', '.join(LOG_LEVELS)}")
    return Settings(
        results=results,
        input=photos,
        model=environment.get("MODEL_URI") or None,
        cores=_number(environment, "CORES", 1, 1, 16),
        max_pixels=_number(environment, "MAX_PIXELS", 100_000_000, 1, 1_000_000_000),
        compact_after_seconds=_number(environment, "COMPACT_AFTER_SECONDS", 86_400, 0, 10**9),
        queue=environment.get("QUEUE_URL") or None,
        log_level=level,
    )


def _s3_uri(environment: Mapping[str, str], name: str, example: str) -> str:
    value = environment.get(name) or ""
    if not value:
        raise SettingsError(f"{name} is not set: it must be an S3 URI like {example}")
    try:
        bucket, key = storage.split_s3(value)
    except storage.NotFound:
        raise SettingsError(f"{name}={value!r}: must be an S3 URI like {example}") from None
    return f"{storage.S3_SCHEME}{bucket}/{key}"


def _number(
    environment: Mapping[str, str], name: str, default: int, lowest: int, highest: int
) -> int:
    value = environment.get(name) or str(default)
    try:
        number = int(value)
    except ValueError:
        number = lowest - 1
    if not lowest <= number <= highest:
        raise SettingsError(
            f"{name}={value!r}: must be a whole number from {lowest:,} to {highest:,}"
        )
    return number
