"""The rooms of the house: who may import whom, and what is in the function's package."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

from tests.support.package import ROOMS, copied

ROOT = Path(__file__).parents[1]
FLOORS = [
    {"errors"},
    {"storage"},
    {"photos"},
    {"model", "table"},
    {"pipeline"},
    {"handler", "training", "console"},
    {"manifest", "report"},
    {"label", "review", "models", "job"},
    {"main"},
    {"__main__"},
]
"""From the ground up. A room imports from lower floors only."""


def room_of(module: str) -> str | None:
    """Return the room of a module by its name; None for the package itself and for others."""
    parts = module.split(".")
    if parts[0] in {"handler", "training"}:
        return parts[0]
    return parts[1] if parts[0] == "alpaca_labeler" and len(parts) > 1 else None


def imports(path: Path) -> set[str]:
    """Return the modules that a file imports from this project, by their absolute names."""
    tree, found = ast.parse(path.read_text(encoding="utf-8")), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files() -> list[Path]:
    tops = [ROOT / name for name in ("alpaca_labeler", "handler", "training")]
    links = {ROOT / "alpaca_labeler" / name for name in ("handler", "training")}
    return [path for top in tops for path in top.rglob("*.py") if not links & {*path.parents}]


def test_arrows_run_down_only():
    floor = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
    up = []
    for path in files():
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        here = room_of(name)
        if here is None or name == "alpaca_labeler.__init__":
            continue
        for module in imports(path):
            there = room_of(module)
            if there not in {None, here, "__version__"} and floor[there] >= floor[here]:
                up.append(f"{name} imports {module}")
    assert up == []


def test_no_module_is_loaded_under_two_names():
    """handler/ and training/ are links inside the package: a bare import would load a copy."""
    bare = [
        f"{path} imports {module}"
        for path in (*files(), *(ROOT / "tests").rglob("*.py"), ROOT / "infra/sam_local.py")
        for module in imports(path)
        if module.split(".")[0] in {"handler", "training", "cli"}
    ]
    assert bare == []


def test_the_functions_package_is_what_it_imports(tmp_path):
    package = copied(tmp_path)
    assert not [*package.rglob("photos.csv"), *package.rglob("requirements.*")]
    code = """
import importlib, json, sys
importlib.import_module("handler.app")
importlib.import_module("handler.current_model")
from alpaca_labeler.pipeline import pool
from alpaca_labeler.table import bucket
print(json.dumps(sorted(sys.modules)))
"""
    environment = {"POWERTOOLS_METRICS_NAMESPACE": "test", "PYTHONDONTWRITEBYTECODE": "1"}
    environment["PYTHONPATH"] = str(package)
    command = [sys.executable, "-P", "-c", code]
    loaded = set(json.loads(subprocess.check_output(command, cwd=package, env=environment)))
    rooms = {name.split(".")[1] for name in loaded if name.startswith("alpaca_labeler.")}
    assert rooms == {Path(room).stem for room in ROOMS} - {"__init__"}
    assert loaded.isdisjoint({"click", "jinja2", "tensorflow", "keras", "alpaca_labeler.console"})
