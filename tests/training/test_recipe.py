import pytest

from alpaca_labeler.training import recipe as recipes
from alpaca_labeler.training.recipe import RecipeError
from tests.support.pets_photos import TINY


def test_the_course_recipe_is_the_reference_projects():
    course = recipes.load("course")
    assert (course.input_size, course.batch_size, course.split) == (160, 32, "reference")
    assert (course.head.method, course.head.epochs, course.head.learning_rate) == (
        "gradient",
        5,
        1e-3,
    )
    tuning = course.fine_tuning
    assert (tuning.from_layer, tuning.epochs, tuning.learning_rate) == ("120", 5, 1e-4)


def test_the_default_recipe_loads():
    assert recipes.load("default").name == "default"


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("batch_size = 10", "", "batch_size is missing"),
        ("batch_size = 10", "batch_size = 10\nbach = 1", "unknown setting 'bach'"),
        ("batch_size = 10", "batch_size = 'x'", "batch_size = 'x' is not a whole number"),
        ("batch_size = 10", "batch_size = 0", "batch_size must be at least 1"),
        ("input_size = 32", "input_size = 33", "multiple of 32"),
        ("cosine = true", "cosine = 1", "cosine = 1 is not true or false"),
        ("crop = 0.5", "crop = 0", "crop must be above 0"),
        ("oversize = 1.5", "oversize = 0.5", "oversize must be at least 1"),
        ("ema = 0.5", "ema = 1", "ema must be"),
        ('method = "logistic"', 'method = "magic"', "logistic or gradient"),
        ("[head]", "[head", "at line"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, old, new, complaint):
    file = tmp_path / "mine.toml"
    file.write_text(TINY.replace(old, new))
    with pytest.raises(RecipeError, match=r"mine\.toml") as refusal:
        recipes.load(str(file))
    assert complaint in str(refusal.value)


def test_an_unknown_recipe_is_answered_with_those_there_are():
    with pytest.raises(RecipeError, match="course, default"):
        recipes.load("curse")
