"""If these fail, the default study pulls images towards captions too hard or not enough."""

import subprocess
import sys

import pytest

from genview.data import scenes
from genview.guidance.lexical import answer, constraints, score_of


def test_counts_of_the_drawn_scenes_are_right():
    right = exact = 0
    for index in range(2000):
        scene = scenes.scene(index, seed=77)
        count = len(constraints(scene.caption))
        exact += count == scene.constraints
        right += score_of(count) == score_of(scene.constraints)
    assert right >= 0.97 * 2000 and exact >= 0.95 * 2000  # the issue asks for 90 % of the scores


@pytest.mark.parametrize(
    ("caption", "score"),
    [
        # no constraint: broad kinds, feelings, abstractions
        ("a dog", 1),
        ("dogs", 1),
        ("a photo of a cat", 1),
        ("A giraffe.", 1),
        ("a beautiful and amazing day", 1),
        ("the happiest moment of my life", 1),
        ("love is all you need", 1),
        ("abstract concept of freedom", 1),
        ("vector illustration of a happy family", 1),
        ("A fire hydrant.", 1),
        ("sushi", 1),
        # one to three
        ("a red car", 2),
        ("the car is red", 2),
        ("A sliced orange.", 2),
        ("A sleeping capybara.", 2),
        ("Two wild boars.", 2),
        ("a glass of water", 2),
        ("A pine wreath.", 2),
        ("an oil painting of a dog", 2),
        ("aerial view of the city", 2),
        ("a man riding a wave on top of a surfboard .", 2),
        ("A black and white cat", 2),
        ("a bathroom with a toilet , sink and mirror", 2),
        ("A group of people standing around a kitchen.", 2),
        ("an apple on the left and a banana on the right", 2),
        ("cute puppy isolated on white background", 2),
        ("dog in the snow", 2),
        # four to six
        ("An orange cat sleeping on a wooden bench", 3),
        ("Three zebras grazing on green grass near a waterhole.", 3),
        ("A black and white photo of a woman holding an umbrella in the rain", 3),
        ("there are many birds flying over the lake in the morning", 3),
        ("a young girl in a pink dress holding a teddy bear", 3),
        # more
        ("a light blue vintage car parked in front of an old brick building at night", 4),
        ("A large brown teddy bear sitting on a white leather sofa next to a small table lamp, oil painting", 4),
        (
            "young woman with long curly hair wearing a red dress, black boots and a straw hat walks her small dog "
            "along a sandy beach at sunset",
            4,
        ),
    ],
)
def test_ordinary_captions(caption, score):
    found = constraints(caption)
    assert score_of(len(found)) == score, found


@pytest.mark.parametrize(
    ("caption", "named"),
    [
        ("an orange cat", {"colour: orange"}),
        ("a sliced orange", {"appearance: sliced"}),
        ("a light blue car", {"colour: blue"}),
        ("a red car and a red truck", {"colour: red", "thing: truck"}),
        ("a cat at the top left", {"vertical place: top", "horizontal place: left"}),
        ("a sign at the top of a hill", {"thing: hill"}),
        ("a man walking to the left", {"action: walking"}),
        ("a close-up of a bee", {"viewpoint: close-up"}),
        ("a striped metal box on a plain background", {"pattern: striped", "material: metal", "pattern: plain"}),
    ],
)
def test_the_reasons_are_those_a_reader_would_give(caption, named):
    assert set(answer(caption, explain=True).explanation.split("; ")) == named


def test_a_caption_in_another_script_is_not_scored():
    made = answer("赤い車")
    assert made.score is None and "not English" in made.raw_answer


@pytest.mark.parametrize("caption", ["1234", "!!!", "🐕", "a", "the of and", "x" * 10_000, "a\x00b", "\n\t red \n dog"])
def test_odd_captions_do_not_stop_the_study(caption):
    assert answer(caption).score in (None, 1, 2)


@pytest.mark.parametrize(
    "caption", ["A tennis ball.", "A brown hen.", "A pair of open scissors.", "An owl.", "A piano."]
)
def test_short_captions_of_photos_are_poor_in_constraints(caption):
    assert answer(caption).score in (1, 2)


def test_no_torch_is_loaded():
    """A job per shard would pay seconds for a model library that it does not use."""
    code = "import sys, genview.guidance.lexical, genview.guidance.scoring; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
