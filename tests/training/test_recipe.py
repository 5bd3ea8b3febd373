import pytest

from alpaca_labeler.training import recipe as recipes
from alpaca_labeler.training.recipe import RecipeError
from tests.support.pets_photos import TINY


def test_shipped_recipes_load_and_the_course_recipe_is_the_reference_projects():
    course = recipes.load("course")
    assert [recipes.load(name).name for name in ("default", "embedded")] == ["default", "embedded"]
    head, tuning = course.head, course.fine_tuning
    assert (course.input_size, course.batch_size) == (160, 32)
    assert (head.method, head.epochs, head.learning_rate) == ("gradient", 5, 1e-3)
    assert (tuning.from_layer, tuning.epochs, tuning.learning_rate) == ("120", 5, 1e-4)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("batch_size = 10", "", "batch_size is missing"),
        ("batch_size = 10", "batch_size = 10\nbach = 1", "unknown setting 'bach'"),
        ("batch_size = 10", "batch_size = 'x'", "batch_size = 'x' is not a whole number"),
        ("batch_size = 10", "batch_size = 0", "batch_size must be from 1 to 10000, not 0"),
        ("input_size = 32", "input_size = 33", "a multiple of 32"),
        ("train_sizes = [32]", "train_sizes = []", "is not a list of whole numbers"),
        ("train_sizes = [32]", "train_sizes = [32, 1.5]", "1.5 is not a whole number"),
        ("dropout = 0.1", "dropout = {}", "dropout = {} is not a number"),
        ("batch_size = 10", "batch_size = 10\nhead = 1", "at line"),
        ("cosine = true", "cosine = 1", "cosine = 1 is not true or false"),
        ("crop = 0.5", "crop = 0", "crop must be from 0.001 to 1, not 0.0"),
        ("share = 0.5", "share = 1", "positive_share must be from 0.001 to 0.999"),
        ("ema = 0.5", "ema = 1", "ema must be from"),
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
