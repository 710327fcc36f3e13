"""The site's hooks make links valid; the check of a built site finds what leads nowhere."""

import logging

import pytest
from scripts import load_script

PAGES = {"methods.md", "api/token_pruning.md", "configs/segvit/README.md", "ops/README.md", "images/gains.png"}


def hooks():
    return load_script("tools/docs/site_hooks.py")


@pytest.mark.parametrize(
    ("page", "link", "there"),
    [
        ("faq.md", "methods.md#merged-tokens", "methods.md#merged-tokens"),
        ("faq.md", "#here", "#here"),
        ("faq.md", "https://x.org/a.md", "https://x.org/a.md"),
        ("faq.md", "../configs/segvit/README.md", "configs/segvit/README.md"),
        ("faq.md", "../token_pruning/methods", "https://r.org/p/tree/main/token_pruning/methods"),
        ("faq.md", "../setup.py", "https://r.org/p/blob/main/setup.py"),
        ("api/inference.md", "../methods.md", "../methods.md"),
        ("configs/segvit/README.md", "../../docs/methods.md", "../../methods.md"),
        ("configs/segvit/README.md", "../../ops/README.md#tests", "../../ops/README.md#tests"),
    ],
)
def test_links_lead_to_pages_or_to_files_of_the_repository(page, link, there):
    text = "[a]({0}) `[a]({0})`\n```\n[a](../setup.py)\n```\n<img src='{0}'>"
    made = hooks().rewritten(text.format(link), page, PAGES, "https://r.org/p/")
    assert made == f"[a]({there}) `[a]({link})`\n```\n[a](../setup.py)\n```\n<img src='{there}'>"


def test_a_link_to_no_file_is_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        hooks().rewritten("[a](../none.py)", "faq.md", PAGES, "https://r.org/p")
    assert "docs/faq.md links to ../none.py, which does not exist" in caplog.text


def test_what_leads_nowhere_in_a_built_site_is_found(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/index.html").write_text('<h1 id="top">T</h1><a href="../a.html">a</a>')
    good = '<a href="sub/#top">a</a><a href="https://x.org/none">b</a><a href="#">c</a>'
    (tmp_path / "a.html").write_text(good)
    check = load_script("tools/docs/check_site.py")
    assert check.broken(tmp_path) == []
    (tmp_path / "a.html").write_text(good + '<a href="sub/#none">a</a><img src="none.png">')
    assert check.broken(tmp_path) == [("a.html", "sub/#none"), ("a.html", "none.png")]


def test_pages_outside_of_docs_are_in_the_navigation():
    text = (hooks().ROOT / "mkdocs.yml").read_text()
    assert not [name for name in hooks().OUTSIDE if f": {name}\n" not in text]
