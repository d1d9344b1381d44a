"""What the measurements of all peers have in common.

Each measures, on two workers: single tasks a second, the round trip of one task, the items a second of a map, and the
bytes a second of one large result. The last line of standard output is JSON, under the names that the table uses.
"""

import json
import os
import signal
import time

MAP_ITEMS = 1_000_000
CHUNK = 1_000  # by hand, where a peer has no maps of its own that make chunks
RESULT_BYTES = 256 << 20
TRIPS = 500
END_S = 300  # a peer that takes longer hangs, and ends, so that the others are measured
TASKS = int(os.environ.get("PEER_TASKS", 10_000))  # by the environment: workers, which have arguments of their own, import this


def noop(number):
    return number


def noops(numbers):
    return [number for number in numbers]


def large(size):
    import numpy

    return numpy.ones(size, dtype="u1")


def chunks():
    return [range(first, first + CHUNK) for first in range(0, MAP_ITEMS, CHUNK)]


def timed(call):
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


def measure(single, one, mapped, result):
    """Takes four functions: TASKS results of single tasks, one result for a number, the sum of the map, the large result."""
    signal.alarm(END_S)
    seconds, numbers = timed(single)
    assert sum(numbers) == TASKS * (TASKS - 1) // 2, "the results of the single tasks are wrong"
    figures = {"single.per_second": TASKS / seconds}

    trips = []
    for number in range(TRIPS):
        seconds, came = timed(lambda: one(number))
        assert came == number, "the result of a task is wrong"
        trips.append(seconds * 1e6)
    figures["latency.p50_us"] = sorted(trips)[TRIPS // 2]

    seconds, came = timed(mapped)
    assert came == MAP_ITEMS * (MAP_ITEMS - 1) // 2, "the results of the map are wrong"
    figures["map.per_second"] = MAP_ITEMS / seconds

    seconds, came = timed(result)
    assert len(came) == RESULT_BYTES and came[-1] == 1, "the large result is wrong"
    figures["bulk.mb_per_second"] = RESULT_BYTES / 1e6 / seconds

    print(json.dumps(figures))
