"""What is imported is what start-up costs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("module", "seconds", "without"),
    [
        ("handler.app", 0.25, ["numpy", "PIL", "boto3", "ai_edge_litert", "click"]),
        ("table.bucket", 0.25, ["numpy", "PIL", "ai_edge_litert", "click"]),
        ("pipeline.labeler", 0.5, ["boto3", "tensorflow", "keras", "click"]),
        ("handler.current_model", 0.5, ["boto3", "tensorflow", "keras", "click"]),
    ],
)
def test_a_module_is_imported_quickly_and_without_what_it_may_not_need(module, seconds, without):
    code = f"""
import json, sys, time
began = time.process_time()
import alpaca_labeler.{module}
took = time.process_time() - began
print(json.dumps([took, [name for name in {without} if name in sys.modules]]))
"""
    found = [python(code) for _ in range(3)]
    assert min(took for took, _ in found) < seconds
    assert found[0][1] == []


def test_labelling_a_file_imports_neither_boto3_nor_tensorflow(photos):
    code = f"""
import json, sys
from alpaca_labeler.pipeline.labeler import Labeler
Labeler().predict({str(photos / "coffee.jpg")!r})
slow = ["boto3", "botocore", "tensorflow", "keras", "click"]
slow += ["alpaca_labeler.training", "alpaca_labeler.main"]
print(json.dumps([name for name in slow if name in sys.modules]))
"""
    assert python(code) == []
