"""What is imported is what start-up costs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PREDICT = """
from alpaca_labeler.pipeline.labeler import Labeler
Labeler().predict("tests/photos/coffee.jpg")
"""
SLOW = ["boto3", "botocore", "tensorflow", "keras", "click"]


@pytest.mark.parametrize(
    ("does", "seconds", "without"),
    [
        ("import alpaca_labeler.handler.app", 0.25, ["numpy", "PIL", "boto3", "ai_edge_litert"]),
        ("import alpaca_labeler.table.bucket", 0.25, ["numpy", "PIL", "ai_edge_litert", *SLOW]),
        ("import alpaca_labeler.handler.current_model", 0.5, SLOW),
        (PREDICT, 10, [*SLOW, "alpaca_labeler.training", "alpaca_labeler.main"]),
    ],
)
def test_a_start_is_quick_and_imports_nothing_that_it_may_not_need(does, seconds, without):
    code = f"""
import json, sys, time
began = time.process_time()
{does}
took = time.process_time() - began
print(json.dumps([took, [name for name in {without} if name in sys.modules]]))
"""
    command = [sys.executable, "-c", code]
    found = [json.loads(subprocess.check_output(command).splitlines()[-1]) for _ in range(3)]
    assert min(took for took, _ in found) < seconds
    assert found[0][1] == []
