import pytest

from alpaca_labeler.handler import settings
from alpaca_labeler.handler.settings import SettingsError

WELL = {"RESULTS_URI": "s3://results/labels/", "INPUT_URI": "s3://photos/"}


@pytest.mark.parametrize(
    "more", [{}, {"MODEL_URI": "", "CORES": ""}, {"RESULTS_URI": "s3://results/labels"}]
)
def test_two_variables_are_enough_and_empty_ones_count_as_not_set(more):
    found = settings.from_environment({**WELL, **more})
    assert (found.results, found.input, found.model) == (*WELL.values(), None)
    assert (found.cores, found.max_pixels) == (1, 100_000_000)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("RESULTS_URI", value) for value in ("", "results/labels")),
        *(("INPUT_URI", value) for value in ("", "s3://")),
        *(("CORES", "99"), ("CORES", "many"), ("MAX_PIXELS", "1.5")),
        ("COMPACT_AFTER_SECONDS", "-1"),
    ],
)
def test_an_invalid_variable_is_named_with_what_it_holds(name, value):
    with pytest.raises(SettingsError, match=name) as caught:
        settings.from_environment({**WELL, name: value})
    assert value.upper() in str(caught.value).upper()


@pytest.mark.parametrize(
    ("given", "results"),
    [("", "labels/"), ("labels/in/", "labels/"), ("lab", "labels"), ("labels/", "labels")],
)
def test_input_and_results_that_overlap_are_refused_and_neighbours_are_not(given, results):
    where = {"RESULTS_URI": f"s3://one/{results}"}
    with pytest.raises(SettingsError, match="overlap"):
        settings.from_environment({"INPUT_URI": f"s3://one/{given}", **where})
    settings.from_environment({"INPUT_URI": "s3://one/photos/", **where})
