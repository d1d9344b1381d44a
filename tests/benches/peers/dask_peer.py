"""Dask: a scheduler and two worker processes of one thread each."""

from distributed import Client, LocalCluster

from common import RESULT_BYTES, TASKS, chunks, large, measure, noop, noops


def main():
    options = dict(n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0)
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        client.gather(client.map(noop, range(100), pure=False))
        client.submit(large, 1000, pure=False).result()
        measure(
            single=lambda: client.gather(client.map(noop, range(TASKS), pure=False)),
            one=lambda number: client.submit(noop, number, pure=False).result(),
            mapped=lambda: sum(map(sum, client.gather(client.map(noops, chunks(), pure=False)))),
            result=lambda: client.submit(large, RESULT_BYTES, pure=False).result(),
        )


if __name__ == "__main__":
    main()
