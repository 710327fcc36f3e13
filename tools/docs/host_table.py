"""Write docs/host_table.md: which method runs on which family of models; every cell is one forward of a small model.

python tools/docs/host_table.py           # where transformers is not installed, its table is left as it is
python tools/docs/host_table.py --check   # write nothing, exit with 1 if the page is not what it would be
"""

import argparse
import importlib.util
import re
import sys
from pathlib import Path

import torch
from host_models import TIMM, TRANSFORMERS, WINDOW

import token_pruning
from token_pruning import METHODS, find_host

PAGE = Path(__file__).resolve().parents[2] / "docs/host_table.md"
TABLES = {"timm": TIMM, "transformers": TRANSFORMERS}
COLUMNS = sorted(METHODS)


def has(library):
    """Return whether the library of a table is installed."""
    return importlib.util.find_spec(library) is not None


def outcome(model, method):
    """Return None if the method runs on a model, else the sentence with which it is refused."""
    settings = dict(METHODS[method].keep_all)
    if method == "CubistMerge" and any(hasattr(module, "window_size") for module in model.modules()):
        settings["window_size"] = WINDOW
    try:
        token_pruning.apply(model, dict(type=method, **settings))
    except (TypeError, ValueError) as error:
        return general(str(error), method, type(model).__name__)
    host = find_host(model)
    height, width = (6 * side for side in host.patch_embed.patch_size)
    with torch.no_grad():
        out = model(torch.zeros(1, 3, height, width))
    assert (out if isinstance(out, torch.Tensor) else out.last_hidden_state).isfinite().all()
    return None


def general(sentence, method, kind):
    """Return a refusal without the names of the method and of the class, so that equal reasons are equal."""
    # A sentence about windows names the method for them, whatever method it refuses.
    sentence = re.sub(rf"(?<!for windows is )\b{method}\b", "the method", sentence)
    sentence = re.sub(rf"\b{kind}\b", "the model", sentence)
    sentence = re.sub(r" \((the model|[\w.]+|docs/[^)]*)\)", "", sentence)
    return sentence[0].upper() + sentence[1:]


def table(models):
    """Return the lines of a table of families and methods, and of the reasons that its letters stand for."""
    reasons, rows = {}, []
    for family, build in models.items():
        cells, model = [], build()
        for method in COLUMNS:
            why = outcome(model, method)
            cells.append("runs" if why is None else reasons.setdefault(why, chr(ord("a") + len(reasons))))
        rows.append([family, *cells])
    lines = [["family", *COLUMNS], ["---"] * (1 + len(COLUMNS)), *rows]
    notes = [f"- {letter}: {why}." for why, letter in reasons.items()]
    return [f"| {' | '.join(line)} |" for line in lines] + ["", *notes]


def written(text, library, lines):
    """Return the page with another table of ``library``."""
    start, end = f"<!-- table of {library}: made by tools/docs/host_table.py -->", f"<!-- end of {library} -->"
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    return "\n".join([before + start, "", *lines, "", end]) + after


def main(argv=None):
    """Write or check the page; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args(argv)
    text = before = PAGE.read_text()
    for library, models in TABLES.items():
        if has(library):
            text = written(text, library, table(models))
        else:
            print(f"{library} is not installed: its table is left as it is")
    if args.check:
        return int(text != before)
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
