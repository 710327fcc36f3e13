import pytest
from mmengine.config import ConfigDict

from mmcv_custom.errors import ConfigError, building_from_config


def test_a_key_that_a_config_lacks_is_named():
    with pytest.raises(ConfigError, match="the config does not fit: the key 'rpn' is missing"), building_from_config():
        ConfigDict(rcnn=dict()).rpn  # noqa: B018  as mmdet's detectors read it


def test_an_attribute_that_code_lacks_is_a_bug():
    with pytest.raises(AttributeError), building_from_config():
        object().rpn  # noqa: B018
