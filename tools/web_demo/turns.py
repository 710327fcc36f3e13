"""Queue of requests in which users take turns, so that none waits longer because another one sends more.

A user is an address. A request gets its turn when it arrives: the current one, or the one after the last turn that its
user has had. A user who sends ten images at once so gets turns far ahead, and whoever comes then with a single image is
served before the second of them. All is forgotten when the queue is empty.
"""

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

Turn = tuple[int, int]  # the turn, and the number of the request, which orders equal turns

USERS = 1000  # whose last turns are remembered
READ = 4  # waiting requests whose body may be in memory; the others wait unread


class QueueFullError(Exception):
    """There is no place left for a request."""


class Gate:
    """Let ``places`` requests in at a time; those that wait enter in the order of their turns."""

    def __init__(self, places: int) -> None:
        self.free = places
        self.waiting: list[tuple[Turn, asyncio.Future]] = []  # a heap

    async def enter(self, turn: Turn) -> None:
        """Wait for a place; raise QueueFullError if ``drop_after`` takes the request out."""
        if self.free:  # then none waits
            self.free -= 1
            return
        entry = (turn, asyncio.get_running_loop().create_future())
        heapq.heappush(self.waiting, entry)
        try:
            await entry[1]
        except asyncio.CancelledError:
            if entry in self.waiting:
                self._remove(entry)
            elif not entry[1].cancelled() and not entry[1].exception():  # it got its place at the same moment
                self.leave()
            raise

    def leave(self) -> None:
        """Give the place to the request whose turn is next."""
        while self.waiting:
            _, place = heapq.heappop(self.waiting)
            if not place.done():  # its request was not cancelled
                place.set_result(None)
                return
        self.free += 1

    def drop_after(self, turn: Turn) -> bool:
        """Take out the waiting request of the last turn if that is after ``turn``; return whether it was."""
        last = max(self.waiting, default=None, key=lambda entry: entry[0])
        if last is None or last[0][0] <= turn[0]:
            return False
        self._remove(last)
        last[1].set_exception(QueueFullError())
        return True

    def _remove(self, entry: tuple[Turn, asyncio.Future]) -> None:
        self.waiting.remove(entry)
        heapq.heapify(self.waiting)


class RequestQueue:
    """Queue in which one request runs and ``length`` others wait, at most ``READ`` of them in memory."""

    def __init__(self, length: int) -> None:
        read = min(length, READ)
        self.unread = length - read  # places for requests without a body
        self.reading, self.running = Gate(read + 1), Gate(1)
        self.now = 0  # turn of the latest request that ran
        self.last: dict[str, int] = {}  # last turns of users
        self.requests, self.numbers = 0, itertools.count()

    @asynccontextmanager
    async def slot(self, user: str) -> AsyncIterator[Turn]:
        """Wait until the body may be read, and hold its place in memory in the body of ``async with``.

        Raises:
            QueueFullError: too many wait, and none of them is the later one of a user with several.
        """
        turn = max(self.now, self.last.get(user, -1) + 1), next(self.numbers)
        full = not self.reading.free and len(self.reading.waiting) >= self.unread
        if full and not self.reading.drop_after(turn):
            raise QueueFullError
        self.last[user] = turn[0]
        if len(self.last) > USERS:  # the next turn begins for all
            self.now, self.last = self.now + 1, {user: turn[0]}
        self.requests += 1
        try:
            await self.reading.enter(turn)
            try:
                yield turn
            finally:
                self.reading.leave()
        finally:
            self.requests -= 1
            if not self.requests:
                self.last.clear()

    @asynccontextmanager
    async def running_alone(self, turn: Turn) -> AsyncIterator[None]:
        """Wait until no other request runs, and let none run in the body of ``async with``."""
        await self.running.enter(turn)
        self.now = max(self.now, turn[0])
        try:
            yield
        finally:
            self.running.leave()
