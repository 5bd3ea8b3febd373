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
        ("batch_size = 10", "", "missing required field `batch_size`"),
        ("batch_size = 10", "batch_size = 10\nbach = 1", "unknown field `bach`"),
        ("batch_size = 10", "batch_size = 'x'", "Expected `int`, got `str` - at `$.batch_size`"),
        ("batch_size = 10", "batch_size = 0", ">= 1 - at `$.batch_size`"),
        ("input_size = 32", "input_size = 33", "multiple of 32 - at `$.input_size`"),
        ("train_sizes = [32]", "train_sizes = []", "length >= 1 - at `$.train_sizes`"),
        (
            "train_sizes = [32]",
            "train_sizes = [32, 1.5]",
            "Expected `int`, got `float` - at `$.train_sizes[1]`",
        ),
        ("dropout = 0.1", "dropout = {}", "Expected `float`, got `object` - at `$.dropout`"),
        ("batch_size = 10", "batch_size = 10\nhead = 1", "at line"),
        ("cosine = true", "cosine = 1", "Expected `bool`, got `int` - at `$.fine_tuning.cosine`"),
        ("crop = 0.5", "crop = 0", ">= 0.001 - at `$.augmentation.crop`"),
        ("share = 0.5", "share = 1", "<= 0.999 - at `$.sampling.positive_share`"),
        ("ema = 0.5", "ema = 1", "<= 0.99999 - at `$.fine_tuning.ema`"),
        ('method = "logistic"', 'method = "magic"', "'magic' - at `$.head.method`"),
        ("dropout = 0.1", "dropout = nan", "at `$.dropout`"),
        ("[head]", "[head", "at line"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, old, new, complaint):
    file = tmp_path / "mine.toml"
    file.write_text(TINY.replace(old, new))
    with pytest.raises(RecipeError, match=r"mine\.toml") as refusal:
        recipes.load(str(file))
    assert complaint in str(refusal.value)
