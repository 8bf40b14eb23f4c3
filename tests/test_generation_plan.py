"""What is to be made follows from conditions and seed alone, and wrong conditions are refused by name."""

import math

import pyarrow as pa
import pytest

from genview import tables
from genview.config.views import ViewSet
from genview.errors import GenviewError
from genview.generation import plan

KEYS = ["a", "b/c", "d"]


def conditions(**changes) -> pa.Table:
    values = {
        "key": KEYS, "caption": ["a red star", "a ring", "a cross"], "noise_level": [0, 200, 400],
        "guidance_scale": [8.0, 4.0, 2.0],
        "random_noise_level": [300, 100, 0], "random_guidance_scale": [2.0, 6.0, 8.0],
        "noise_level_from": ["adaptive"] * 3, "guidance_scale_from": ["adaptive"] * 3,
    }  # fmt: skip
    return pa.table({name: (values | changes)[name] for name in tables.CONDITIONS.names})


def make(view: ViewSet, table: pa.Table | None = None, **changes) -> list[plan.ViewRequest]:
    options = {"seed": 1} | changes
    return plan.requests(KEYS, conditions() if table is None else table, "views", view, **options)


def test_each_mode_takes_its_conditions():
    image, text, both = (make(ViewSet(mode=mode)) for mode in ("img", "txt", "imgtxt"))
    assert [request.prompt for request in image] == ["", "", ""]
    assert [request.guidance_scale for request in image] == [10.0] * 3
    assert [request.noise_level for request in image] == [0, 200, 400]
    assert [request.noise_level for request in text] == [None] * 3
    assert [request.prompt for request in text] == ["a red star", "a ring", "a cross"]
    assert [(r.noise_level, r.guidance_scale) for r in both] == [(0, 8.0), (200, 4.0), (400, 2.0)]


def test_rows_in_another_order_make_the_same_requests():
    table = conditions()
    assert make(ViewSet(mode="imgtxt"), table.take([2, 0, 1])) == make(ViewSet(mode="imgtxt"), table)


def test_constant_conditions_need_no_table():
    table = conditions(noise_level=[None] * 3, guidance_scale=[None] * 3)
    made = make(ViewSet(mode="imgtxt", noise_level=300, guidance_scale=5), table)
    assert {(r.noise_level, r.guidance_scale) for r in made} == {(300, 5.0)}


def test_random_values_are_those_that_were_drawn_for_the_study():
    view = ViewSet(mode="imgtxt", noise_level="random", guidance_scale="random")
    assert [(r.noise_level, r.guidance_scale) for r in make(view)] == [(300, 2.0), (100, 6.0), (0, 8.0)]
    with pytest.raises(GenviewError, match=r"noise level that is missing.*'d'"):
        make(view, conditions(random_noise_level=[300, 100, None]))


def test_each_image_has_a_seed_of_its_own():
    made = make(ViewSet(mode="img", samples=3))
    assert [(r.key, r.sample) for r in made] == [(key, sample) for key in KEYS for sample in range(3)]
    assert len({r.seed for r in made}) == 9
    assert not {r.seed for r in made} & {r.seed for r in make(ViewSet(mode="imgtxt", samples=3))}


def test_strategies_of_one_mode_share_their_noise():
    adaptive, constant = make(ViewSet(mode="img")), make(ViewSet(mode="img", noise_level=100))
    assert [r.seed for r in adaptive] == [r.seed for r in constant]


@pytest.mark.parametrize("mode", ["txt", "imgtxt"])
@pytest.mark.parametrize("empty", [None, "", "  "])
def test_missing_captions_are_named_in_text_modes(mode, empty):
    table = conditions(caption=["a red star", empty, empty])
    with pytest.raises(GenviewError, match=r"2 image\(s\) have no caption.*'b/c', 'd'"):
        make(ViewSet(mode=mode), table)
    assert len(make(ViewSet(mode="img"), table)) == 3


@pytest.mark.parametrize("level", [None, math.nan, -1, 1000, 2.5])
def test_a_level_that_is_no_level_is_refused(level):
    table = conditions(noise_level=pa.array([0.0, level, 100.0], pa.float64()))
    with pytest.raises(GenviewError, match=r"noise level.*0\.\.999: 'b/c'"):
        make(ViewSet(mode="img"), table)
    assert len(make(ViewSet(mode="txt"), table)) == 3


@pytest.mark.parametrize("scale", [None, math.nan, math.inf, 0.5, -3.0])
def test_a_scale_that_is_no_scale_is_refused(scale):
    with pytest.raises(GenviewError, match=r"guidance scale that is missing.*'d'"):
        make(ViewSet(mode="txt"), conditions(guidance_scale=pa.array([8.0, 4.0, scale], pa.float64())))


def test_a_key_without_conditions_is_named():
    with pytest.raises(GenviewError, match="have no row in the conditions: 'a'"):
        make(ViewSet(mode="img"), conditions().slice(1))


def test_a_level_beyond_the_pipelines_schedule_is_refused():
    with pytest.raises(GenviewError, match=r"0\.\.299: 'd'"):
        make(ViewSet(mode="img"), maximum_level=299)
