"""Notice that another node of a run is gone or silent.

A network that goes silent closes no connection: processes would wait for each other until their timeout. So the
launcher of each node, which is idle otherwise, counts up in the store where the nodes have met, and watches the others.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from datetime import timedelta

from torch.distributed import TCPStore

MEET_S = 1800  # until the store of the first node can be reached
END_S = 20  # for the processes of this node to end
DONE = "done"


class NodeWatch:
    """Watch the other nodes in two threads; when one is silent, say so and stop this process as Ctrl-C would.

    Attributes:
        lost: the sentence about a silent node, or None.
    """

    def __init__(self, address: str, port: int, node: int, nodes: int, timeout: float) -> None:
        """Start to watch.

        Args:
            address: of the first node.
            port: of the store there.
            node: number of this node.
            nodes: number of nodes.
            timeout: seconds that a node may be silent for.
        """
        self.address, self.port, self.node, self.nodes, self.timeout = address, port, node, nodes, timeout
        self.lost: str | None = None
        self.ended = threading.Event()
        self.seen: dict[int, tuple[str, float]] = {}  # node -> its last count and when it was new
        self.store: TCPStore | None = None
        self.beats = threading.Thread(target=self._beat, daemon=True)
        self.beats.start()
        threading.Thread(target=self._judge, daemon=True).start()

    def end(self) -> None:
        """Tell the other nodes that this one has ended."""
        self.ended.set()
        self.beats.join(2)

    def _beat(self) -> None:
        try:
            self.store = self._meet()
            if self.node:
                self.seen[0] = "", time.monotonic()  # it runs, because its store does
            count = 0
            while not self.ended.wait(min(5, self.timeout / 8)):
                count += 1
                self.store.set(f"node_watch/{self.node}", str(count))
                self._look()
            self.store.set(f"node_watch/{self.node}", DONE)
            self.store.check([DONE])  # an answer: the line above has arrived
        except Exception:  # the first node is gone; _judge says so
            pass

    def _meet(self) -> TCPStore:
        """Return the store of the first node as soon as it is there.

        TCPStore by itself tries again after longer and longer pauses; a network that goes silent in one of them, when
        the processes have met already, would not be noticed.
        """
        end = time.monotonic() + MEET_S
        while True:
            try:
                socket.create_connection((self.address, self.port), 5).close()
                break
            except OSError:
                if time.monotonic() > end or self.ended.wait(0.5):
                    raise
        timeout = timedelta(seconds=MEET_S)
        return TCPStore(self.address, self.port, is_master=False, wait_for_workers=False, timeout=timeout)

    def _look(self) -> None:
        for node in range(self.nodes):
            key = f"node_watch/{node}"
            if node != self.node and self.store.check([key]):
                count = self.store.get(key).decode()
                if count == DONE or count != self.seen.get(node, ("",))[0]:
                    self.seen[node] = count, time.monotonic()

    def _judge(self) -> None:
        while not self.ended.wait(min(1, self.timeout / 8)):
            for node, (count, when) in sorted(self.seen.items()):
                if count != DONE and time.monotonic() - when > self.timeout:
                    self._stop(node)
                    return

    def _stop(self, node: int) -> None:
        where = f" ({self.address}:{self.port})" if node == 0 else ""
        self.lost = (
            f"node {node}{where} has been silent for {self.timeout:.0f} s: it is down, its launcher was killed, or the "
            f"network between it and this node, {self.node}, is; the processes of this node are stopped. Start all "
            "nodes again (a training: with --resume); NODE_TIMEOUT sets how long a node may be silent"
        )
        print(f"{self.lost}.", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(END_S)
        os._exit(1)  # it waits for the silent node itself; its processes end with it
