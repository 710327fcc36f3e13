"""Options of reducers and backbones with values of another type: a sentence that names the option."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from reducers import ALL

from mmcv_custom import PlainViTBackbone
from token_pruning import METHODS, build_reducer
from token_pruning.errors import SettingError
from token_pruning.option_types import check_option_types


def takes(
    whole: int = 0,
    number: float = 0.0,
    text: str = "",
    flag: bool = False,
    many: Sequence[float] | float | None = None,
    words: Sequence[str] = (),
    call: Callable | None = None,
) -> None:
    """Stand for a constructor."""


GOOD = [dict(whole=3), dict(whole=np.int64(3)), dict(number=3), dict(number=np.float32(0.5)), dict(number=float("inf"))]
GOOD += [dict(text="a"), dict(flag=True), dict(flag=1), dict(many=[1, 0.5]), dict(many=(1,)), dict(many=0.5)]
GOOD += [dict(many=None), dict(many=np.ones(2)), dict(words=["a"]), dict(call=print), dict(call=None), dict(other=3)]
BAD = {
    "whole": [1.5, "3", True, None, [3]],
    "number": ["0.5", None, float("nan"), True, [0.5]],
    "text": [3, None, ["a"]],
    "flag": ["False", 2, 0.0, None],
    "many": ["0.5", [None], [[1.0]], ["x"], {}, [float("nan")]],
    "words": ["a", [3]],
    "call": ["print", 3],
}


@pytest.mark.parametrize("options", GOOD, ids=str)
def test_values_of_the_annotated_types_pass(options):
    check_option_types(takes, options, "it")


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values], ids=str
)
def test_other_values_are_one_sentence(name, value):
    with pytest.raises(SettingError, match=rf"^it: {name} is .* and must be "):
        check_option_types(takes, {name: value}, "it")


@pytest.mark.parametrize("name", ALL)
def test_every_method_refuses_a_text_as_its_cost(name):
    option = METHODS[name].cost_param[0]
    with pytest.raises(SettingError, match=f"reducer {name}: {option} is 'half' and must be "):
        build_reducer({"type": name, option: "half"}, 24, 4)


@pytest.mark.parametrize(
    ("reducer", "message"),
    [
        (dict(type="Random", seed=10**400), "seed is 10+... and must be less than 2.62"),
        (dict(type="SViT", seed=-(10**30)), "seed is -10+ and must be less than 2.62"),
        (dict(type="Cropr", mlp_ratio=1e30), "mlp_ratio is 1e.30 and must be less than 2.62"),
        (dict(type="APT", thresholds=4.0, scales=10**9), "2 to 16 scales"),
    ],
    ids=str,
)
def test_numbers_that_are_too_large_are_one_sentence(reducer, message):
    with pytest.raises(SettingError, match=message):
        build_reducer(reducer, 24, 4)


@pytest.mark.parametrize("reducer", ["ToMe", 3, ["ToMe"], True])
def test_a_reducer_that_is_no_dict(reducer):
    with pytest.raises(SettingError, match=r"write dict\(type=NAME, ...\)"):
        build_reducer(reducer, 24, 4)
    with pytest.raises(SettingError, match="unknown reducer type"):
        build_reducer(dict(type=["ToMe"]), 24, 4)


@pytest.mark.parametrize("ratio", [-0.5, 0, float("inf")])
def test_cropr_refuses_an_mlp_without_channels(ratio):
    with pytest.raises(SettingError, match="mlp_ratio is .*; it must be above 0"):
        build_reducer(dict(type="Cropr", r=1, mlp_ratio=ratio), 24, 4)


def test_options_that_a_backbone_does_not_have():
    sizes = dict(embed_dim=24, depth=2, num_heads=2)
    with pytest.raises(SettingError, match="PlainViTBackbone has no option family any more: set model_name"):
        PlainViTBackbone(**sizes, family="eva02")
    with pytest.raises(SettingError, match="has no option 'depht': did you mean depth"):
        PlainViTBackbone(**sizes, depht=3)
    with pytest.raises(SettingError, match="PlainViTBackbone: depth is '2' and must be a whole number or None"):
        PlainViTBackbone(**dict(sizes, depth="2"))
