"""Check that links inside a built site lead to files and headings that exist: python tools/docs/check_site.py site."""

import argparse
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """Links and anchors of one page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = [], {"", "__top"}
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        """Note what the tag links to and the names it gives."""
        attrs = dict(attrs)
        self.links += [attrs[key] for key in ("href", "src") if attrs.get(key)]
        self.anchors |= {attrs[key] for key in ("id", "name") if attrs.get(key)}


def broken(site):
    """Return (page, link) of all links to a file or a heading that the site lacks; other sites are not asked."""
    pages = {path.resolve(): Page(path) for path in sorted(Path(site).rglob("*.html")) if path.name != "404.html"}
    found = []
    for path, page in pages.items():
        for link in dict.fromkeys(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            known = target in pages and unquote(parts.fragment) not in pages[target].anchors
            if not target.exists() or known:
                found.append((path.relative_to(Path(site).resolve()).as_posix(), link))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", help="folder that mkdocs has built")
    found = broken(parser.parse_args().site)
    for page, link in found:
        print(f"{page}: {link} leads nowhere", file=sys.stderr)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
