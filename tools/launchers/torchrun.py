"""torchrun, except that a mistake of the user (exit status 2 of a process) ends it without a traceback of its own."""

import logging
import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run


def main():
    # Its report of a failed process is part of the exception below.
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    try:
        run(parse_args(None))
    except ChildFailedError as error:
        _, first = error.get_first_failure()
        if first.exitcode == 2:  # the process has said what is wrong
            sys.exit(2)
        raise


if __name__ == "__main__":
    main()
