"""The queue of the web page: users take turns, places are bounded and come back."""

import asyncio
from collections import Counter

import pytest
from scripts import load_script

turns = load_script("tools/web_demo/turns.py")


async def work(queue, user, served):
    async with queue.slot(user) as turn:
        await asyncio.sleep(0)  # the body
        async with queue.running_alone(turn):
            for _ in range(8):  # the model takes longer
                await asyncio.sleep(0)
            served.append(user)


async def loop(queue, user, served, images):
    while len(served) < images:
        await work(queue, user, served)


def test_a_user_with_one_request_at_a_time_gets_as_much_as_one_with_eight():
    async def main():
        queue, served = turns.RequestQueue(30), []
        await asyncio.gather(*(loop(queue, user, served, 300) for user in ["greedy"] * 8 + ["modest", "third"]))
        return Counter(served)

    counts = asyncio.run(main())
    assert min(counts.values()) >= 0.9 * max(counts.values()) and sum(counts.values()) >= 300


def test_the_single_image_of_a_second_user_is_among_the_next():
    async def main():
        queue, served = turns.RequestQueue(30), []
        many = [asyncio.create_task(work(queue, "a", served)) for _ in range(20)]
        await asyncio.sleep(0)
        await asyncio.gather(work(queue, "b", served), *many)
        return served.index("b"), len(served)

    place, images = asyncio.run(main())
    assert place <= 3 and images == 21


def test_a_full_queue_drops_the_last_request_of_the_user_with_several():
    async def main():
        queue, served = turns.RequestQueue(6), []
        many = [asyncio.create_task(work(queue, "a", served)) for _ in range(9)]
        await asyncio.sleep(0)
        others = [asyncio.create_task(work(queue, user, served)) for user in ("b", "c", "d")]
        found = await asyncio.gather(*many, *others, return_exceptions=True)
        assert not queue.last and (queue.reading.free, queue.running.free) == (turns.READ + 1, 1)
        return served, found

    served, found = asyncio.run(main())
    assert Counter(served) == Counter(a=5, b=1, c=1)  # d finds only users with one request each: 7 places
    refused = [i for i, one in enumerate(found) if isinstance(one, turns.QueueFullError)]
    assert refused == [5, 6, 7, 8, 11]


@pytest.mark.parametrize("length", [0, 2])
def test_few_bodies_are_in_memory(length):
    async def main():
        queue, served = turns.RequestQueue(length), []
        await asyncio.gather(*(work(queue, str(i), served) for i in range(9)), return_exceptions=True)
        return served

    assert asyncio.run(main()) == [str(i) for i in range(length + 1)]


def test_places_of_cancelled_requests_come_back():
    async def main():
        queue, served = turns.RequestQueue(8), []
        tasks = [asyncio.create_task(work(queue, str(i), served)) for i in range(9)]
        for _ in range(2):  # at every stage: waiting unread, waiting to run, running
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not queue.last and (queue.reading.free, queue.running.free) == (turns.READ + 1, 1)
        assert not queue.reading.waiting and not queue.running.waiting
        return served

    assert set(asyncio.run(main())) >= {"1", "3", "5", "7"}


def test_few_users_are_remembered():
    async def main():
        queue, served = turns.RequestQueue(4), []
        async with queue.slot("stays"):  # so that the queue is never empty
            for i in range(2 * turns.USERS):
                await work(queue, str(i), served)
                assert len(queue.last) <= turns.USERS + 1
        return len(served), len(queue.last)

    assert asyncio.run(main()) == (2 * turns.USERS, 0)
