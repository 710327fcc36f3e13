"""The command `token-pruning`: the project's tools by short names, from any folder.

token-pruning configs [PATTERN]          the names of the configs, which every tool takes instead of a path
token-pruning train CONFIG ...           tools/train.py
token-pruning test CONFIG CHECKPOINT ... tools/test.py
token-pruning predict IMAGE CONFIG CHECKPOINT ...
token-pruning tokens IMAGE CONFIG CHECKPOINT ...   what each block computed
token-pruning video FILM CONFIG CHECKPOINT ...
token-pruning speed ...                  times of models in turns
token-pruning finetune FOLDER ...        your own images
token-pruning web ...                    a page with a slider
"""

from __future__ import annotations

import fnmatch
import os
import sys
from collections.abc import Sequence

from ..shipped import ROOT, config_names
from .closed_pipe import ending_with_the_reader

TOOLS = {
    "train": "tools/train.py",
    "test": "tools/test.py",
    "predict": "image_demo.py",
    "tokens": "selector_demo.py",
    "video": "video_demo.py",
    "speed": "speed_test.py",
    "finetune": "tools/quickstart/finetune.py",
    "web": "tools/web_demo",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Become the tool that the first argument names, or answer and return an exit code."""
    name, *rest = [*(sys.argv[1:] if arguments is None else arguments)] or ["--help"]
    if name in TOOLS:
        # In place of this process, so that signals and exit codes are the tool's own.
        os.execv(sys.executable, [sys.executable, str(ROOT / TOOLS[name]), *rest])
    if name == "configs":
        names = fnmatch.filter(config_names(), f"*{rest[0]}*" if rest else "*")
        if not names:
            print(f"token-pruning: no config has {rest[0]} in its name; without it, all are listed", file=sys.stderr)
            return 2
        with ending_with_the_reader():
            print("\n".join(names))
        return 0
    if name not in ("-h", "--help"):
        print(f"token-pruning: there is no {name}; choose from {', '.join([*TOOLS, 'configs'])}", file=sys.stderr)
        return 2
    with ending_with_the_reader():
        print(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
