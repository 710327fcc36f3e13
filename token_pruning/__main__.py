"""The command `token-pruning`; it is in the core to say in one sentence that the toolboxes are missing."""

import sys
from importlib import import_module


def main() -> int:
    """Run the tool that the first argument names and return its exit code; 2 if the toolboxes are not installed."""
    try:
        command = import_module("mmcv_custom.cli.__main__")
    except ModuleNotFoundError as error:
        print(f"token-pruning: {error}", file=sys.stderr)
        return 2
    return command.main()


if __name__ == "__main__":
    sys.exit(main())
