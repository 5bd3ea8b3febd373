import pytest

from alpaca_labeler.handler import settings
from alpaca_labeler.handler.settings import SettingsError

WELL = {"RESULTS_URI": "s3://results/labels/", "INPUT_URI": "s3://photos/"}


def test_two_variables_are_enough():
    found = settings.from_environment(WELL)
    assert (found.results, found.input, found.model) == (*WELL.values(), None)
    assert (found.cores, found.max_pixels) == (1, 100_000_000)


def test_an_empty_variable_counts_as_not_set():
    assert settings.from_environment({**WELL, "MODEL_URI": "", "CORES": ""}).model is None


def test_the_results_end_in_a_slash():
    given = {**WELL, "RESULTS_URI": "s3://results/labels"}
    assert settings.from_environment(given).results == "s3://results/labels/"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RESULTS_URI", ""),
        ("RESULTS_URI", "results/labels"),
        ("RESULTS_URI", "s3://results"),
        ("INPUT_URI", ""),
        ("INPUT_URI", "s3://"),
        ("CORES", "99"),
        ("CORES", "many"),
        ("MAX_PIXELS", "1.5"),
        ("COMPACT_AFTER_SECONDS", "-1"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_an_invalid_variable_is_named_with_what_it_holds(name, value):
    with pytest.raises(SettingsError, match=name) as caught:
        settings.from_environment({**WELL, name: value})
    assert value.upper() in str(caught.value).upper()


@pytest.mark.parametrize(
    ("given", "results"),
    [
        ("s3://one/", "s3://one/labels/"),
        ("s3://one/labels/in/", "s3://one/labels/"),
        ("s3://one/lab", "s3://one/labels"),
        ("s3://one/labels/", "s3://one/labels"),
    ],
)
def test_input_and_results_that_overlap_are_refused(given, results):
    with pytest.raises(SettingsError, match="overlap"):
        settings.from_environment({"INPUT_URI": given, "RESULTS_URI": results})


def test_input_and_results_may_be_neighbours():
    settings.from_environment({"INPUT_URI": "s3://one/photos/", "RESULTS_URI": "s3://one/labels/"})
