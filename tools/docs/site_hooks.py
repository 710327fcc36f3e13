"""Hooks of the site's build (mkdocs.yml): pages and links outside of docs/.

The Markdown files stay where the repository's readers look for them. Files of ``OUTSIDE`` become pages of the site
under their own paths; a link leads to a page where its target is one, and to the file in the repository otherwise. A
target that does not exist is a warning, which ``make docs`` turns into an error.
"""

import logging
import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = ["CHANGELOG.md", "CONTRIBUTING.md", "data/README.md", "ops/README.md", "pretrained/README.md"]
OUTSIDE += sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("README.md"))
CODE = re.compile(r"^ *(```+|~~~+).*?^ *\1 *$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\]\()([^)\s]+)(\))|((?:src|href)=[\"'])([^\"']+)([\"'])")
log = logging.getLogger("mkdocs.plugins.site_hooks")  # --strict counts its warnings


def slugify(heading, separator):
    """Return the name that the repository's pages give to a heading (tests/test_links.py checks links by it)."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", separator)


def on_config(config):
    """Name headings as the repository's pages do."""
    config.mdx_configs["toc"]["slugify"] = slugify
    return config


def on_files(files, config):
    """Add the pages outside of docs/."""
    from mkdocs.structure.files import File

    for name in OUTSIDE:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Make a page's relative links lead to pages of the site or to files of the repository."""
    pages = {file.src_uri for file in files}
    return rewritten(markdown, page.file.src_uri, pages, config.repo_url)


def rewritten(markdown, name, pages, repo_url):
    """Return the text of the page ``name`` with links as the site needs them; code stays as it is."""
    source = name if name in OUTSIDE else f"docs/{name}"

    def link(match):
        before, target, after = match.group(1, 2, 3) if match[2] else match.group(4, 5, 6)
        return before + _target(target, name, source, pages, repo_url) + after

    parts, end = [], 0
    for code in CODE.finditer(markdown):
        parts += [LINK.sub(link, markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, LINK.sub(link, markdown[end:])])


def _target(target, name, source, pages, repo_url):
    path, _, heading = target.partition("#")
    if not path or re.match(r"[a-z]+:", path):
        return target
    file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if not (ROOT / file).exists():
        log.warning(f"{source} links to {target}, which does not exist")
    page = file.removeprefix("docs/") if file.startswith("docs/") else file if file in OUTSIDE else None
    heading = f"#{heading}" if heading else ""
    if page in pages:
        return posixpath.relpath(page, posixpath.dirname(name) or ".") + heading
    kind = "tree" if (ROOT / file).is_dir() else "blob"
    return f"{repo_url.rstrip('/')}/{kind}/main/{file}{heading}"
