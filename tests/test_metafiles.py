"""metafile.yml of the config families: what they name exists, and results say of what."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("metafile.yml")), ids=lambda path: path.parent.name)
def test_metafile(path):
    content = yaml.safe_load(path.read_text())
    collections = {one["Name"]: one for one in content["Collections"]}
    assert all((ROOT / one["README"]).is_file() for one in collections.values())
    for model in content["Models"]:
        assert (ROOT / model["Config"]).is_file() and Path(model["Config"]).stem == model["Name"]
        assert model["In Collection"] in collections
        assert all(result["Metrics"] and result["Dataset"] and result["Task"] for result in model["Results"])
