"""Label photos in bulk with a model of your own.

>>> from alpaca_labeler import Labeler
>>> Labeler().predict("tests/photos/alpaca.jpg").label
'alpaca'

The names in `__all__` are the public API; everything else may change. They are imported when they
are first used, so that the `alpaca` command starts at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alpaca_labeler.errors import LabelerError
    from alpaca_labeler.model.classifier import Prediction
    from alpaca_labeler.pipeline.labeler import Failed, Labeler

__all__ = ["Failed", "Labeler", "LabelerError", "Prediction", "__version__"]

_HOMES = {
    "Failed": "pipeline.labeler",
    "Labeler": "pipeline.labeler",
    "LabelerError": "errors",
    "Prediction": "model.classifier",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # 50 ms of each worker's start

        return version("alpaca-labeler")
    if name in _HOMES:
        return getattr(importlib.import_module(f"alpaca_labeler.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
