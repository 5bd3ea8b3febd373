"""A parameter that is changed reaches what it is for, above all the function that the queue calls.

SAM's own translator translates the template, since what SAM adds decides what a changed parameter
reaches.
"""

import pytest

from tests.support.cloudformation import deployed, source

ARRIVES = {
    "ExistingInputBucket": ("my-farm", "LabelFunction"),
    "InputPrefix": ("inbox/", "LabelFunction"),
    "InputKmsKeyArn": ("arn:aws:kms:eu-central-1:111122223333:key/0a1b", "LabelRole"),
    "MaxPixels": ("25000000", "LabelFunction"),
    "NoncurrentDays": ("7", "InputBucket"),
    "ExistingResultsBucket": ("old-results", "LabelFunction"),
    "CompactAfterSeconds": ("3600", "CompactFunction"),
    "ModelUri": ("s3://b-1/models/alpaca/latest.json", "LabelFunction"),
    "Architecture": ("x86_64", "LabelFunction"),
    "MemorySize": ("3538", "LabelFunction"),
    "PermissionsBoundary": ("arn:aws:iam::111122223333:policy/b", "LabelRole"),
    "BatchSize": ("10", "LabelFunctionPhotos"),
    "MaximumConcurrency": ("7", "LabelFunctionPhotos"),
    "AlarmEmail": ("kim@farm.example", "AlarmTopic"),
    "LogLevel": ("DEBUG", "LabelFunction"),
    "LogDays": ("3", "LabelLogs"),
}
"""Parameter: (another value, what must change)."""


@pytest.mark.parametrize("parameter", source()["Parameters"])
def test_a_changed_parameter_alone_arrives(parameter):
    value, where = ARRIVES[parameter]
    before, after = deployed()[where], deployed(**{parameter: value})[where]
    assert before != after
    assert value in repr(after)


def test_the_queue_calls_the_function_itself():
    """A version never changes, and SAM moves an alias only for new code, not for a parameter."""
    stack = deployed()
    assert stack["LabelFunctionPhotos"][1]["FunctionName"] == "<LabelFunction>"
    assert not {kind for kind, _ in stack.values()} & {"AWS::Lambda::Alias", "AWS::Lambda::Version"}


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
    _, function = deployed(MaxPixels=pixels, MemorySize=memory)["LabelFunction"]
    assert function["Environment"]["Variables"]["CORES"] == cores
    # docs/robustness.md: 17 bytes per pixel for the worst kind, WebP, and 130 MB for all else.
    assert int(cores) * int(pixels) * 17 + 130e6 < int(memory) * 2**20
