"""torchrun, except that a process that fails ends it with one sentence and its exit status, without a traceback.

The process has said on its own what went wrong. Exit status: that of the process; 128 and the number of the signal if
one ended it, as shells count; 2 if the processes cannot meet; 1 if another node was lost.
"""

import logging
import os
import signal
import sys

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a store that is gone is said below, not as a stack of frames
from node_watch import NodeWatch
from torch.distributed import DistError
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

USER_MISTAKE = 2


def main():
    # Their reports are part of the exceptions below.
    for name in ("multiprocessing.api", "agent.server.api"):
        logging.getLogger(f"torch.distributed.elastic.{name}").setLevel(logging.CRITICAL)
    args = parse_args(None)
    watch = watched(args)
    try:
        run(args)
    except ChildFailedError as error:
        sys.exit(report({rank: failure.exitcode for rank, failure in error.failures.items()}))
    except SignalException as error:  # Ctrl-C, or the end of a job: the processes are stopped
        sys.exit(1 if watch and watch.lost else 128 + error.sigval)
    except DistError as error:
        reason = str(error).splitlines()[0]
        say(
            f"the processes cannot meet at {args.master_addr}:{args.master_port} ({reason}): set PORT to a free port "
            "and MASTER_ADDR to the address of the first node, on all nodes alike"
        )
        sys.exit(USER_MISTAKE)
    finally:
        if watch:
            watch.end()


def watched(args):
    """Return the watch over the other nodes, or None if there are none."""
    if args.nnodes in ("1", "1:1") or args.rdzv_backend != "static":
        return None
    text = os.environ.get("NODE_TIMEOUT") or "40"
    try:
        timeout = float(text)
        if not timeout > 0:
            raise ValueError
    except ValueError:
        say(f"NODE_TIMEOUT is {text}; it must be a number of seconds, e.g. 40")
        sys.exit(USER_MISTAKE)
    return NodeWatch(args.master_addr, args.master_port, args.node_rank, int(args.nnodes), timeout)


def report(statuses):
    """Say which process failed, unless it ended on a mistake of the user, and return the exit status.

    Args:
        statuses: rank -> exit status, negative for a signal. The end of one process often makes others fail, and the
            rest are stopped with SIGTERM.
    """
    ranks = sorted(statuses, key=lambda rank: (_causes(statuses[rank]), rank))
    status = statuses[ranks[0]]
    if status == USER_MISTAKE:
        return status
    if status > 0:
        say(f"rank {ranks[0]} ended with exit status {status}; its own message is above")
        return status
    name = signal.Signals(-status).name
    why = ", which the system sends when memory runs out" if -status == signal.SIGKILL else ""
    say(f"rank {ranks[0]} died (signal {-status}: {name}{why}); the other processes were stopped")
    return 128 - status


def _causes(status):
    """Return the place of an exit status in the order of what causes the others."""
    order = [status == USER_MISTAKE, status < 0 and status != -signal.SIGTERM, status > 0, True]
    return order.index(True)


def say(sentence):
    print(f"{sentence}.", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
