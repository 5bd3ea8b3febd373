"""What is imported is what start-up costs."""

from __future__ import annotations

import json
import subprocess
import sys


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    return json.loads(done.stdout)


def test_the_labeler_is_imported_in_well_under_half_a_second():
    code = "import time; t = time.process_time(); import alpaca_labeler.handler.labeler; "
    code += "print(time.process_time() - t)"
    assert min(python(code) for _ in range(3)) < 0.5


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
