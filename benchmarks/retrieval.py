"""Retrieval against exact scoring: recall@10, latency of one request, users a second, on real and planted
catalogues.

    retrieval.py real RUN...              trained runs, by name: ml-1m-neumf=runs/neumf …
    retrieval.py planted ITEMS...         made-up catalogues of these sizes with a fitted NeuMF
    retrieval.py sweep RUN...             recall by rank and candidates
    retrieval.py lists ITEMS              recall and latency by lists looked through

Known users are drawn at random with what they have seen hidden. Visitors are known users folded in from half
of their items (`ncf.serving.fold_in`); strangers are vectors of known users with noise of half a standard
deviation. Latency is of `top` alone, one query at a time, one thread. Set OPENBLAS_NUM_THREADS=1.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from threadpoolctl import threadpool_limits

from common import Report, command_line, timed
from ncf.data import Csr
from ncf.serving.fold_in import FoldIn
from ncf.serving.numpy_model import Floats, GmfBranch, NumpyModel, Rows
from ncf.serving.retrieval import calibration
from ncf.serving.retrieval.brute_force import BruteForce
from ncf.serving.retrieval.index import Scan, padded
from ncf.serving.retrieval.ivf import IvfIndex
from ncf.serving.retrieval.landmarks import QueryVectors
from ncf.serving.retrieval.retriever import Retriever
from planted import planted_network

K = 10
_EXACT_PAIRS = 6 * 10**7
_BATCH = 256
Crowd = tuple[Floats, list[Rows]]


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("part", choices=["real", "planted", "sweep", "lists"])
    parser.add_argument("of", nargs="+", help="NAME=RUN, or numbers of items")
    parser.add_argument("--users", type=int, default=1000, help="users of each kind at most")
    parser.add_argument("--index-threads", type=int, default=1, help="faiss's threads in a request")
    arguments = parser.parse_args()
    arguments.output = arguments.output or str(
        Path(__file__).parent / "results" / f"retrieval-{arguments.part}.json"
    )
    torch.set_num_threads(1)
    report = Report("retrieval", arguments)
    if arguments.part == "real":
        for name, network, seen in map(_run, arguments.of):
            _measured(report, name, network, seen, arguments, wanted=0.9995)
    elif arguments.part == "planted":
        for items in map(int, arguments.of):
            network, seen = planted_network(items)
            _measured(report, f"planted {items:,}", network, seen, arguments, wanted=0.999)
    elif arguments.part == "sweep":
        for name, network, seen in map(_run, arguments.of):
            _sweep(report, name, network, seen, arguments.users)
    else:
        _lists(report, *planted_network(int(arguments.of[0])), arguments)
    report.write()


def _run(named: str) -> tuple[str, NumpyModel, Csr]:
    name, _, path = named.rpartition("=")
    folder = Path(path) / "artifact" if (Path(path) / "artifact").is_dir() else Path(path)
    arrays = [
        np.load(folder / f"seen_{of}.npy", mmap_mode="r", allow_pickle=False) for of in ("offsets", "items")
    ]
    return name or path, NumpyModel(load_file(folder / "model.safetensors")), Csr(*arrays)


def _measured(
    report: Report, name: str, network: NumpyModel, seen: Csr, arguments: argparse.Namespace, wanted: float
) -> None:
    """Build, save, open, and compare with exact scoring for each kind of user."""
    built: list[Retriever] = []
    with threadpool_limits(1, "blas"):  # as writing an artifact does
        wall, processor = timed(lambda: built.append(Retriever.build(network, seen, seed=0)))
    with tempfile.TemporaryDirectory() as folder:
        built[0].save(Path(folder))
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
        retrieval = Retriever.open(Path(folder), network)
        _index_threads(retrieval, arguments.index_threads)
        rows = [
            (kind, *_row(network, retrieval, crowd, arguments.quick))
            for kind, crowd in _crowds(network, seen, arguments).items()
        ]
    what = _what(retrieval)
    report.table(
        f"{name}: built in {wall:.0f} s ({processor:.0f} processor s), {size / 2**20:.1f} MiB, {what}",
        ("users", "recall@10", "p50 µs", "p99 µs", "exact p50 µs", "users/s a thread", "widened"),
        [
            (
                kind,
                f"{found:.5f}",
                f"{p50:,.0f}",
                f"{p99:,.0f}",
                f"{exact:,.0f}",
                f"{rate:,.0f}",
                f"{wide:.2%}",
            )
            for kind, found, p50, p99, exact, rate, wide in rows
        ],
    )
    report.keep(
        name,
        {
            "build_seconds": wall,
            "build_processor_seconds": processor,
            "bytes": size,
            "what": what,
            "rows": rows,
        },
    )
    for kind, found, *_ in rows:
        report.target(f"{name}, {kind}: recall@10", found, wanted)


def _crowds(network: NumpyModel, seen: Csr, arguments: argparse.Namespace) -> dict[str, Crowd]:
    random = np.random.default_rng(7)
    count = int(np.clip(_EXACT_PAIRS // network.items, 20, 100 if arguments.quick else arguments.users))
    users = random.permutation(network.users)[:count]
    hidden = [np.asarray(seen.row(int(user))) for user in users]
    vectors = network.user_vectors(users)
    halves = [random.permutation(rows)[: -(-len(rows) // 2)] for rows in hidden]
    noise = 0.5 * vectors.std(axis=0) * random.standard_normal(vectors.shape, np.float32)
    return {
        "known": (vectors, hidden),
        "visitors": (FoldIn.build(network, seen, seed=0).vectors(halves), halves),
        "strangers": (vectors + noise, hidden),
    }


def _row(
    network: NumpyModel, retrieval: Retriever, crowd: Crowd, quick: bool
) -> tuple[float, float, float, float, float, float]:
    """Recall, p50 and p99 of one request, p50 of an exact one (µs), users a second in batches, share
    widened."""
    vectors, hidden = crowd
    queries, exact = network.queries(vectors), BruteForce(network)
    expected: list[Rows] = []
    exact_times: list[float] = []
    for user in range(len(queries)):
        began = time.perf_counter()
        expected.append(exact.top(queries[user, None], K, hidden[user : user + 1])[1][0])
        exact_times.append(time.perf_counter() - began)
    found: list[Rows] = []
    times: list[float] = []
    for _ in range(1 if quick else 3):
        found.clear()
        for user in range(len(queries)):
            began = time.perf_counter()
            found.append(retrieval.top(queries[user, None], K, hidden[user : user + 1])[1][0])
            times.append(time.perf_counter() - began)
    common = [len(np.intersect1d(*both)) for both in zip(expected, found, strict=True)]
    return (
        sum(common) / (K * len(queries)),
        1e6 * float(np.percentile(times, 50)),
        1e6 * float(np.percentile(times, 99)),
        1e6 * float(np.median(exact_times)),
        _rate(retrieval, queries[:_BATCH], hidden[:_BATCH]),
        _widened(retrieval, queries),
    )


def _rate(retrieval: Retriever, queries: Floats, hidden: list[Rows]) -> float:
    """Users a processor second, the best of a few passes over one batch."""
    seconds = []
    for _ in range(7):
        began = time.thread_time()
        retrieval.top(queries, K, hidden)
        seconds.append(time.thread_time() - began)
    return len(queries) / min(seconds)


def _widened(retrieval: Retriever, queries: Floats) -> float:
    if retrieval._fitted is None or retrieval._vectors is None:
        return 0.0
    return float((retrieval._vectors(queries)[1] > retrieval._fitted.limit).mean())


def _what(retrieval: Retriever) -> str:
    fitted = retrieval._fitted
    if fitted is None:
        return "exact"
    landmarks = fitted.landmarks
    parts = [f"{fitted.candidates} candidates"]
    if landmarks is not None:
        parts.insert(0, f"rank {landmarks.solve_LR.shape[1]}, {len(landmarks.rows_L)} landmarks")
    if isinstance(fitted.index, IvfIndex):
        parts.append(f"{fitted.index.probes} of {fitted.index.lists} lists")
    return ", ".join(parts)


def _index_threads(retrieval: Retriever, threads: int) -> None:
    if retrieval._fitted is not None and isinstance(retrieval._fitted.index, IvfIndex):
        import faiss

        faiss.omp_set_num_threads(threads)


def _sweep(report: Report, name: str, network: NumpyModel, seen: Csr, count: int) -> None:
    """Recall by rank and candidates, the rest as it is built."""
    random = np.random.default_rng(0)
    first, second = calibration._two_samples(random, network.users)
    queries = network.queries(calibration.QuerySample.of(network, first, seen, random).vectors_BW)
    basis = calibration._basis(network, queries, np.arange(network.items))
    if basis is None:
        return
    calibration_queries = calibration.CalibrationQueries.of(
        network, calibration.QuerySample.of(network, second[:count], seen, random), None
    )
    gmf = [half.item_table.T for half in network.branches if isinstance(half, GmfBranch)]
    steps, rows = (15, 25, 50, 100, 200), []
    for rank in [rank for rank in calibration._RANKS if rank <= basis.rank]:
        landmarks = basis.landmarks(rank)
        items = np.concatenate([*gmf, basis.items_KI[:rank], basis.means_I[None]])
        vectors, residuals = QueryVectors(network, landmarks)(calibration_queries.queries_MQ)
        recall = partial(calibration_queries.recall, Scan(padded(items), network.items), vectors)
        rows.append((rank, len(landmarks.rows_L), float(np.median(residuals)), *map(recall, steps)))
    report.table(
        f"{name}: recall@10 by rank and candidates",
        ("rank", "landmarks", "residual", *map(str, steps)),
        [(rank, marks, f"{rest:.3f}", *(f"{of:.4f}" for of in found)) for rank, marks, rest, *found in rows],
    )
    report.keep(name, rows)


def _lists(report: Report, network: NumpyModel, seen: Csr, arguments: argparse.Namespace) -> None:
    """Recall and latency by lists looked through."""
    retrieval = Retriever.build(network, seen, seed=0)
    _index_threads(retrieval, arguments.index_threads)
    assert retrieval._fitted is not None
    assert isinstance(retrieval._fitted.index, IvfIndex)
    known, rows = _crowds(network, seen, arguments)["known"], []
    for probes in (4, 8, 16, 32, 64, 128, 256):
        retrieval._fitted.index.probes = probes
        found, p50, p99, *_ = _row(network, retrieval, known, arguments.quick)
        rows.append((probes, found, p50, p99))
    report.table(
        f"planted {network.items:,}: {_what(retrieval)}",
        ("lists", "recall@10", "p50 µs", "p99 µs"),
        [(probes, f"{found:.5f}", f"{p50:,.0f}", f"{p99:,.0f}") for probes, found, p50, p99 in rows],
    )
    report.keep("lists", rows)


if __name__ == "__main__":
    main()
