"""Ray: two workers. A large result is not sent, but shared: driver and worker are on one machine."""

import ray

import common
from common import RESULT_BYTES, TASKS, chunks, measure

OBJECT_STORE_BYTES = 2 << 30


def main():
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", object_store_memory=OBJECT_STORE_BYTES)
    noop, noops, large = map(ray.remote, (common.noop, common.noops, common.large))
    ray.get([noop.remote(number) for number in range(100)])
    ray.get(large.remote(1000))
    measure(
        single=lambda: ray.get([noop.remote(number) for number in range(TASKS)]),
        one=lambda number: ray.get(noop.remote(number)),
        mapped=lambda: sum(map(sum, ray.get([noops.remote(numbers) for numbers in chunks()]))),
        result=lambda: ray.get(large.remote(RESULT_BYTES)),
    )


if __name__ == "__main__":
    main()
