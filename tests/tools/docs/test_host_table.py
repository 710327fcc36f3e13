"""The table of hosts says what the code does, and says it of every method and of every family."""

import pytest
from host_table import COLUMNS, PAGE, TABLES, general, has, main, table, written

from token_pruning.hf import FAMILIES


@pytest.mark.parametrize("library", TABLES)
def test_the_page_is_what_the_code_does(library):
    if not has(library):
        pytest.skip(f"{library} is not installed; pip install -e .[hf]")
    text = PAGE.read_text()
    assert written(text, library, table(TABLES[library])) == text, "run python tools/docs/host_table.py"


def test_every_family_and_method_is_there():
    assert {family.title for family in FAMILIES} <= set(TABLES["transformers"])
    text = PAGE.read_text()
    for name in [*TABLES["timm"], *TABLES["transformers"]]:
        assert f"| {name} |" in text
    assert text.count(f"| family | {' | '.join(COLUMNS)} |") == 2


def test_a_reason_is_without_names():
    sentence = "ToMe cannot run XModel (docs/a.md has a table), as (ToMe, EViT)"
    assert general(sentence, "ToMe", "XModel") == "The method cannot run the model, as (the method, EViT)"
    sentence = "the method for windows is ToMe, not XModel"
    assert general(sentence, "ToMe", "XModel") == "The method for windows is ToMe, not the model"


def test_the_page_is_written_and_checked(tmp_path, monkeypatch, capsys):
    page = tmp_path / "host_table.md"
    text = PAGE.read_text()
    page.write_text(text.replace("| runs |", "| walks |"))
    few = {"timm": {name: TABLES["timm"][name] for name in list(TABLES["timm"])[:1]}, "none": {}}
    monkeypatch.setattr("host_table.PAGE", page)
    monkeypatch.setattr("host_table.TABLES", few)
    assert main(["--check"]) == 1 and "walks" in page.read_text()
    assert main([]) == 0 and main(["--check"]) == 0
    assert "none is not installed: its table is left as it is" in capsys.readouterr().out
    mended = page.read_text().partition("<!-- end of timm -->")[0]
    assert "walks" not in mended and "SigLIP" not in mended and "| runs |" in mended
