"""A parameter that is changed reaches what it is for, above all the function that the queue calls.

SAM's own translator translates the template, since what SAM adds (an alias, a version) decides
what a changed parameter reaches.
"""

import pytest

from tests.support.cloudformation import deployed, translated

ARRIVES = {
    "ExistingInputBucket": ("my-farm", "function"),
    "InputPrefix": ("inbox/", "function"),
    "InputKmsKeyArn": ("arn:aws:kms:eu-central-1:111122223333:key/0a1b", "role"),
    "MaxBytes": ("20000", "function"),
    "MaxPixels": ("25000000", "function"),
    "ExistingResultsBucket": ("old-results", "function"),
    "CompactEvery": ("rate(5 minutes)", "CompactFunctionRegularly"),
    "CompactAfterSeconds": ("3600", "CompactFunction"),
    "ModelUri": ("s3://b-1/models/alpaca/latest.json", "function"),
    "ModelRefreshSeconds": ("10", "function"),
    "Architecture": ("x86_64", "function"),
    "MemorySize": ("3538", "function"),
    "Threads": ("4", "function"),
    "BatchSize": ("10", "mapping"),
    "BatchWindow": ("1", "mapping"),
    "MaximumConcurrency": ("7", "mapping"),
    "BackfillConcurrency": ("9", "Backfill"),
    "AlarmTopicArn": ("arn:aws:sns:eu-central-1:111122223333:me", "DeadLettersAlarm"),
    "FailurePercent": ("33", "FailureRateAlarm"),
    "LogLevel": ("DEBUG", "function"),
    "LogDays": ("3", "LabelLogs"),
}
"""Parameter: (another value, what must change)."""


def called_by_the_queue(resources):
    """Return what runs when a message arrives, as three parts: mapping, function, its role."""
    [mapping] = [p for kind, p in resources.values() if kind == "AWS::Lambda::EventSourceMapping"]
    target = mapping["FunctionName"].strip("<>").removesuffix(".Arn")
    kind, function = resources[target]
    if kind == "AWS::Lambda::Alias":
        # A version never changes, so what it was made from is what runs: only another one counts.
        function = function["FunctionVersion"]
        target = resources[function.strip("<>").removesuffix(".Version")][1]["FunctionName"]
        target = target.strip("<>")
    role = resources[target][1]["Role"].strip("<>").removesuffix(".Arn")
    return {"mapping": mapping, "function": function, "role": resources[role][1]}


@pytest.fixture(scope="module")
def before():
    return deployed()


def test_every_parameter_is_tried():
    assert set(translated()[0]["Parameters"]) == set(ARRIVES)


@pytest.mark.parametrize("parameter", ARRIVES)
def test_a_changed_parameter_alone_arrives(before, parameter):
    value, where = ARRIVES[parameter]
    after = deployed(**{parameter: value})
    if where in after:
        assert after[where] != before.get(where)
        assert value in repr(after[where]) or where not in before
        return
    assert called_by_the_queue(after)[where] != called_by_the_queue(before)[where]
    assert value in repr(called_by_the_queue(after)[where])


def test_an_alias_that_no_parameter_moves_would_be_noticed():
    with_alias = deployed()
    version = {"FunctionName": "<LabelFunction>"}
    with_alias["Version1"] = ("AWS::Lambda::Version", version)
    with_alias["Live"] = ("AWS::Lambda::Alias", {"FunctionVersion": "<Version1.Version>"})
    [mapping] = [p for kind, p in with_alias.values() if kind == "AWS::Lambda::EventSourceMapping"]
    mapping["FunctionName"] = "<Live>"
    assert called_by_the_queue(with_alias)["function"] == "<Version1.Version>"


@pytest.mark.parametrize(
    ("pixels", "memory", "cores"),
    [
        ("100000000", "1769", "1"),
        ("100000000", "7076", "4"),
        ("200000000", "3538", "1"),
        ("200000000", "7076", "2"),
    ],
)
def test_photos_in_decoding_fit_the_memory(pixels, memory, cores):
    function = called_by_the_queue(deployed(MaxPixels=pixels, MemorySize=memory))["function"]
    assert function["Environment"]["Variables"]["CORES"] == cores
    # docs/robustness.md: 17 bytes per pixel for the worst kind, WebP, and 130 MB for all else.
    assert int(cores) * int(pixels) * 17 + 130e6 < int(memory) * 2**20
