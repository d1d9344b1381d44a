"""IPython Parallel: a controller and two engines."""

import logging

import ipyparallel

from common import CHUNK, MAP_ITEMS, RESULT_BYTES, TASKS, large, measure, noop


def main():
    cluster = ipyparallel.Cluster(n=2, log_level=logging.ERROR)
    client = cluster.start_and_connect_sync(activate=False)
    try:
        view = client.load_balanced_view()
        # The engines import the functions from this directory.
        client[:].apply_sync(add_path, __file__)
        view.map_sync(noop, range(100))
        client[0].apply_sync(large, 1000)
        measure(
            single=lambda: view.map_async(noop, range(TASKS), chunksize=1).get(),
            one=lambda number: view.apply_sync(noop, number),
            mapped=lambda: sum(view.map_async(noop, range(MAP_ITEMS), chunksize=CHUNK).get()),
            result=lambda: client[0].apply_sync(large, RESULT_BYTES),
        )
    finally:
        cluster.stop_cluster_sync()


def add_path(file):
    import os
    import sys

    sys.path.insert(0, os.path.dirname(file))


if __name__ == "__main__":
    main()
