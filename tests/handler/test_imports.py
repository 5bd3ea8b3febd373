"""What is imported is what start-up costs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("module", "seconds", "without"),
    [
        ("app", 0.25, ["numpy", "PIL", "boto3", "ai_edge_litert"]),
        ("compaction", 0.25, ["numpy", "PIL", "ai_edge_litert"]),
        ("labeler", 0.5, ["boto3", "tensorflow", "keras"]),
        ("current_model", 0.5, ["boto3", "tensorflow", "keras"]),
    ],
)
def test_a_module_is_imported_quickly_and_without_what_it_may_not_need(module, seconds, without):
    code = f"""
import json, sys, time
began = time.process_time()
import alpaca_labeler.handler.{module}
took = time.process_time() - began
print(json.dumps([took, [name for name in {without} if name in sys.modules]]))
"""
    found = [python(code) for _ in range(3)]
    assert min(took for took, _ in found) < seconds
    assert found[0][1] == []


def test_labelling_a_file_imports_neither_boto3_nor_tensorflow(photos):
    code = f"""
import json, sys
from alpaca_labeler.handler.labeler import Labeler
Labeler().predict({str(photos / "coffee.jpg")!r})
slow = ["boto3", "botocore", "tensorflow", "keras", "click"]
slow += ["alpaca_labeler.training", "alpaca_labeler.main"]
print(json.dumps([name for name in slow if name in sys.modules]))
"""
    assert python(code) == []


def test_no_module_of_the_handler_imports_tensorflow():
    code = """
import importlib, json, os, pkgutil, sys
from alpaca_labeler import handler
sys.modules["tensorflow"] = sys.modules["keras"] = None
for module in pkgutil.iter_modules(handler.__path__):
    if module.name not in {"app", "settings"}:  # they ask for the function's environment
        importlib.import_module(f"alpaca_labeler.handler.{module.name}")
print(json.dumps(sorted(
    name for name in sys.modules
    if name.startswith("alpaca_labeler.") and not name.startswith("alpaca_labeler.handler")
)))
"""
    assert python(code) == []


def test_help_imports_no_numpy():
    code = """
import json, sys
from alpaca_labeler.main import main
try: main(["label", "--help"], standalone_mode=True)
except SystemExit: pass
print(json.dumps([name for name in ("boto3", "PIL", "numpy") if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
