"""The families' metafile.yml list every config, and their figures are those of the pages and rows they name."""

import json
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = yaml.safe_load((ROOT / "model-index.yml").read_text())["Import"]
INDEX = {name: yaml.safe_load((ROOT / name).read_text()) for name in FILES}
COLLECTIONS = [one for content in INDEX.values() for one in content["Collections"]]
# Pages that quote the original authors' figures, beside the README of the family.
QUOTED = ["docs/coming_from.md", "docs/classification.md"]


def models(content):
    return {model["Config"]: model for model in content["Models"]}


def test_the_index_names_every_family():
    assert sorted(FILES) == sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("configs/*/metafile.yml"))


@pytest.mark.parametrize("name", FILES)
def test_every_config_of_the_family_is_listed_once(name):
    listed = [model["Config"] for model in INDEX[name]["Models"]]
    assert sorted(listed) == sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / name).parent.rglob("*.py"))


def test_collections_have_their_files_and_models_their_collections():
    names = [one["Name"] for one in COLLECTIONS]
    assert len(names) == len(set(names))
    assert not [one["Name"] for one in COLLECTIONS for key in ("README", "Code") if not (ROOT / one[key]).exists()]
    every = [model for content in INDEX.values() for model in content["Models"]]
    assert len({model["Name"] for model in every}) == len(every)
    assert {model["In Collection"] for model in every} <= set(names)


@pytest.mark.parametrize("name", FILES)
def test_figures_are_those_of_their_sources(name):
    for config, model in models(INDEX[name]).items():
        for result in model.get("Results", []):
            (figure,) = result["Metrics"].values()
            if result["Source"].startswith("published: "):
                pages = [(ROOT / name).parent / "README.md", *(ROOT / page for page in QUOTED)]
                assert any(str(figure) in page.read_text() for page in pages if page.exists()), (config, figure)
            else:
                rows = json.loads((ROOT / result["Source"]).read_text())["rows"]
                (score,) = [row["fine_tuned"] for row in rows if row["config"] == config]
                assert round(score, 1) == figure, config
