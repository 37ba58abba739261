"""Serving NeuMF 32 on ML-1M over HTTP: `ncf serve` against a plain handler under AWS's serving stack
(TorchServe).

Ours: `ncf serve` with 1 and 2 workers, and our handlers under TorchServe. The peer:
`plain_handler/inference.py` under TorchServe, at its best setting of torch's threads and TorchServe's
workers, tried out first for each load. Load comes from a second process over 1 and 16 kept connections.
Bodies: the best ten of the whole catalogue for one user, seen items masked; and the best ten of 100 given
items (the workshop's payload). That the answers agree is checked first.

Parts (--only): latency (whole catalogue), candidates (given items), recall, memory (a million users, 200
thousand items, 64 factors, made-up weights), start, profile (where the time of a request goes). Latency
includes the client.

Under eight minutes on two quiet cores with an environment of scripts/install-torchserve; without one, the
parts that need the peer are left out, and the tables say so. --run takes a trained run instead of training.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common import ROOT, Report, command_line
from load import Load, load
from made_up import made_up_artifact
from ncf.sagemaker.jobs.package import code_files, pack_model
from ncf.serving.archive import pack
from ncf.serving.artifact import open_artifact
from ncf.serving.recommender import Recommender
from servers import memory_of, metrics_of, ncf_server, processor_seconds_of
from torchserve import Stack, post, torchserve

TORCHSERVE = ROOT / ".venv-torchserve"
PARTS = ("latency", "candidates", "recall", "memory", "start", "profile")
CONNECTIONS = (1, 16)
OURS, OURS_2 = "ncf serve, 1 worker", "ncf serve, 2 workers"
HANDLERS, PLAIN = "our handlers, TorchServe", "plain handler, TorchServe"
LARGE_USERS, LARGE_ITEMS, LARGE_FACTORS = 1_000_000, 200_000, 64
_BODIES, _GIVEN, _RECALL_USERS, _WARM_UP, _ASKED = 2_000, 100, 500, 200, 50


@dataclass(frozen=True)
class Setting:
    """How the plain handler runs."""

    threads: int
    workers: int


SETTINGS = tuple(Setting(threads, workers) for threads in (1, 2) for workers in (1, 2))


class Bench:
    """The run to serve, its bodies, and the servers, each started when it is first asked for."""

    def __init__(self, arguments: argparse.Namespace, report: Report, stack: ExitStack, folder: Path) -> None:
        self.report, self._stack, self.folder = report, stack, folder
        environment = Path(arguments.torchserve)
        self.environment = environment if (environment / "bin" / "torchserve").is_file() else None
        self.run = Path(arguments.run) if arguments.run else trained_run(folder / "run")
        self.seconds = arguments.seconds or (0.6 if arguments.quick else 2.0)
        self.rounds = arguments.rounds or (2 if arguments.quick else 4)
        self.quick = bool(arguments.quick)
        self.bodies = bodies_of(self.run)
        self._running: dict[tuple[str, Setting | None], Stack] = {}
        self._models: dict[str, Path] = {}

    def server(self, name: str, setting: Setting | None = None) -> Stack:
        """The running server of a competitor."""
        if (name, setting) not in self._running:
            started = self._stack.enter_context(self.started(name, setting))
            for body in self.bodies.values():
                load(started.port, body, 2, seconds=10.0, requests=_WARM_UP)
            self._running[name, setting] = started
        return self._running[name, setting]

    def names(self) -> list[str]:
        """The competitors that can be run here."""
        return [OURS, OURS_2, *([HANDLERS, PLAIN] if self.environment else [])]

    @contextmanager
    def started(self, name: str, setting: Setting | None = None) -> Iterator[Stack]:
        """A server of its own while the block runs."""
        if name in (OURS, OURS_2):
            with ncf_server(self.run, workers=1 if name == OURS else 2) as server:
                yield server
            return
        assert self.environment is not None
        setting = setting or Setting(1, 2)
        variables = {"PLAIN_THREADS": str(setting.threads)}
        model = self._model(name)
        with torchserve(self.environment, model, workers=setting.workers, variables=variables) as server:
            yield server

    def _model(self, name: str) -> Path:
        if name not in self._models:
            target = self.folder / f"{len(self._models)}.tar.gz"
            self._models[name] = (
                pack_model(self.run, target, code=True)
                if name == HANDLERS
                else packed_plain(self.run, target)
            )
        return self._models[name]

    def measure(self, name: str, kind: str, connections: int, setting: Setting | None = None) -> Load:
        """One repeat."""
        port = self.server(name, setting).port
        return load(port, self.bodies[kind], connections, seconds=self.seconds)


def trained_run(folder: Path) -> Path:
    """NeuMF with 32 factors on ML-1M by the recipe."""
    subprocess.run(
        [sys.executable, "-m", "ncf", "train", str(ROOT / "recipes" / "ml-1m-neumf.toml"), "--set",
         "model.factors=32", "--output", str(folder), "--quiet"],
        check=True, cwd=ROOT,
    )  # fmt: skip
    return folder


def packed_plain(run: Path, target: Path) -> Path:
    """model.tar.gz with the plain handler."""
    artifact = open_artifact(run)
    contents: dict[str, Path | bytes] = {path.name: path for path in artifact.folder.iterdir()}
    benchmarks = ROOT / "benchmarks"
    contents |= code_files() | {
        "code/inference.py": benchmarks / "plain_handler" / "inference.py",
        "code/port.py": benchmarks / "port.py",
    }
    return pack(contents, target)


def bodies_of(run: Path) -> dict[str, list[bytes]]:
    """Requests of both kinds for users drawn from the run's."""
    artifact = open_artifact(run)
    random = np.random.default_rng(0)
    users = random.permutation(artifact.users.ids)[:_BODIES].tolist()
    items = artifact.items.ids
    given = [random.choice(items, _GIVEN, replace=False).tolist() for _ in users]
    return {
        "catalogue": [json.dumps({"users": [user], "k": 10}).encode() for user in users],
        "given": [
            json.dumps({"user": [user] * _GIVEN, "item": list_, "k": 10}).encode()
            for user, list_ in zip(users, given, strict=True)
        ],
    }


def best_settings(bench: Bench, kinds: Sequence[str]) -> dict[tuple[str, int], Setting]:
    """For each load the setting of the plain handler that serves it best: p50 for one connection, requests/s
    for more."""
    rows, best = [], {}
    measured: dict[tuple[str, int], dict[Setting, Load]] = {}
    for setting in SETTINGS:
        with bench.started(PLAIN, setting) as server:
            for kind in kinds:
                load(server.port, bench.bodies[kind], 2, seconds=5.0, requests=_WARM_UP)
                for connections in CONNECTIONS:
                    one = load(server.port, bench.bodies[kind], connections, seconds=min(2.0, bench.seconds))
                    measured.setdefault((kind, connections), {})[setting] = one
    for (kind, connections), of in measured.items():
        best[kind, connections] = (
            min(of, key=lambda s: of[s].p50) if connections == 1 else max(of, key=lambda s: of[s].per_second)
        )
        for setting, one in of.items():
            mark = "best" if setting == best[kind, connections] else ""
            rows.append(
                [
                    kind,
                    connections,
                    setting.threads,
                    setting.workers,
                    f"{one.p50:.2f}",
                    f"{one.per_second:,.0f}",
                    mark,
                ]
            )
    bench.report.table(
        "Settings of the plain handler",
        ["load", "connections", "torch threads", "workers", "p50 ms", "requests/s", ""],
        rows,
    )
    bench.report.keep(
        "plain_settings",
        [{"load": kind, "connections": n, **asdict(one)} for (kind, n), one in best.items()],
    )
    return best


def compare(
    bench: Bench, kind: str, title: str, plain: dict[tuple[str, int], Setting]
) -> dict[tuple[str, int], Load]:
    """All competitors in turns, at 1 and 16 connections; the medians over the rounds."""
    repeats: dict[tuple[str, int], list[Load]] = {}
    assert_same(bench, kind, plain)
    for _ in range(bench.rounds):
        for connections in CONNECTIONS:
            for name in bench.names():
                setting = plain.get((kind, connections)) if name == PLAIN else None
                one = bench.measure(name, kind, connections, setting)
                repeats.setdefault((name, connections), []).append(one)
    medians = {key: median(of) for key, of in repeats.items()}
    rows = [
        [
            name,
            n,
            f"{one.p50:.2f}",
            f"{one.p99:.2f}",
            f"{one.longest:.1f}",
            f"{one.per_second:,.0f}",
            one.errors,
            *(_times(medians, kind_of, name, n) for kind_of in ("p50", "per_second")),
        ]
        for (name, n), one in sorted(medians.items(), key=lambda pair: pair[0][1])
    ]
    columns = [
        "server",
        "connections",
        "p50 ms",
        "p99 ms",
        "max ms",
        "requests/s",
        "errors",
        "x p50",
        "x requests/s",
    ]
    bench.report.table(title, columns, rows)
    bench.report.keep(
        kind,
        [
            {"server": name, "connections": n, "repeats": [asdict(one) for one in of]}
            for (name, n), of in repeats.items()
        ],
    )
    return medians


def assert_same(bench: Bench, kind: str, plain: dict[tuple[str, int], Setting]) -> None:
    """All competitors name the same items in the same order, or there is nothing to compare."""
    for body in bench.bodies[kind][:_ASKED]:
        lists = {}
        for name in bench.names():
            status, answer = post(
                bench.server(name, plain.get((kind, 1)) if name == PLAIN else None).port, body
            )
            assert status == 200, (name, answer)
            found = json.loads(answer)["recommendations"]
            lists[name] = [one["item"] for one in (found if name == PLAIN else found[0]["items"])]
        if len({tuple(one) for one in lists.values()}) > 1:
            raise SystemExit(f"The competitors do not agree about {body[:60]!r}: {lists}")


def median(of: Sequence[Load]) -> Load:
    """Each figure's median over the repeats; errors are added up."""
    middle = {
        name: statistics.median(getattr(one, name) for one in of)
        for name in ("seconds", "per_second", "mean", "p50", "p99", "longest", "client_seconds")
    }
    return Load(requests=sum(one.requests for one in of), errors=sum(one.errors for one in of), **middle)


def ratio(medians: dict[tuple[str, int], Load], what: str, name: str, connections: int) -> float:
    """How many times better than the plain handler; NaN without it."""
    plain = medians.get((PLAIN, connections))
    if plain is None:
        return float("nan")
    mine = medians[name, connections]
    return plain.p50 / mine.p50 if what == "p50" else mine.per_second / plain.per_second


def _times(medians: dict[tuple[str, int], Load], what: str, name: str, connections: int) -> str:
    times = ratio(medians, what, name, connections)
    return f"{times:.1f}" if times == times else "–"


def latency(bench: Bench, plain: dict[tuple[str, int], Setting]) -> None:
    """The whole catalogue."""
    medians = compare(bench, "catalogue", "Ten best of 3,706 items, seen ones masked", plain)
    one, many = medians[OURS, 1], medians[OURS_2, 16]
    target = bench.report.target
    target("whole catalogue, 1 connection: p50 in ms", one.p50, 1.0, at_least=False)
    target("whole catalogue, 1 connection: p99 in ms", one.p99, 4.0, at_least=False)
    target("whole catalogue, 16 connections, 2 workers: p99 in ms", many.p99, 30.0, at_least=False)
    target(
        "whole catalogue: errors of ours",
        sum(medians[n, c].errors for n in (OURS, OURS_2) for c in CONNECTIONS),
        0,
        at_least=False,
    )
    if bench.environment:
        target(
            "whole catalogue, 1 connection: times the plain handler's p50",
            ratio(medians, "p50", OURS, 1),
            20.0,
        )
        target(
            "whole catalogue, 16 connections, 2 workers: times its requests/s",
            ratio(medians, "per_second", OURS_2, 16),
            20.0,
        )
        target(
            "whole catalogue, 1 connection: our handlers under TorchServe, times its p50",
            ratio(medians, "p50", HANDLERS, 1),
            3.0,
        )
        target(
            "whole catalogue, 16 connections: our handlers under TorchServe, times its requests/s",
            ratio(medians, "per_second", HANDLERS, 16),
            3.0,
        )


def candidates(bench: Bench, plain: dict[tuple[str, int], Setting]) -> None:
    """Given items."""
    medians = compare(bench, "given", f"Ten best of {_GIVEN} given items", plain)
    if bench.environment:
        bench.report.target(
            "given items, 1 connection: times the plain handler's p50", ratio(medians, "p50", OURS, 1), 10.0
        )
        bench.report.target(
            "given items, 16 connections, 2 workers: times its requests/s",
            ratio(medians, "per_second", OURS_2, 16),
            8.0,
        )


def recall(bench: Bench) -> None:
    """Share of the exact best ten that the server finds, and that the plain handler has the same best ten."""
    found, exact = Recommender.open(bench.run), Recommender.open(bench.run, exact=True)
    users = [json.loads(body)["users"][0] for body in bench.bodies["catalogue"][:_RECALL_USERS]]
    pairs = list(zip(found.recommend(users, 10), exact.recommend(users, 10), strict=True))
    share = statistics.fmean(len(set(a.items) & set(b.items)) / max(1, len(b.items)) for a, b in pairs)
    same = sum(a.items == b.items for a, b in pairs)
    bench.report.log(
        f"recall@10 against exact scoring, {len(users)} users: {share:.4f}; the same list for {same}."
    )
    bench.report.target("recall@10 against exact scoring", share, 0.999)
    bench.report.keep("recall", {"users": len(users), "recall": share, "same_lists": same})


def memory(bench: Bench) -> None:
    """What one and two workers hold when nearly all pages of the tables have been read, against the size of
    the weights."""
    users, items = (20_000, 5_000) if bench.quick else (LARGE_USERS, LARGE_ITEMS)
    random, rows, kept = np.random.default_rng(1), [], []
    for kind in ("gmf", "neumf"):
        folder = made_up_artifact(bench.folder / f"large-{kind}", kind, users, items, LARGE_FACTORS)
        weights = (folder / "model.safetensors").stat().st_size / 2**20
        whole = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
        bodies = [touching(users, items, random) for _ in range(80)]
        bodies += [json.dumps({"users": [user]}).encode() for user in random.integers(0, users, 20).tolist()]
        for workers in (1, 2):
            with ncf_server(folder, workers=workers) as server:
                began = memory_of(server.group)
                answered = load(server.port, bodies, 16, seconds=30.0, requests=2 * len(bodies))
                full = memory_of(server.group)
            assert not answered.errors, answered
            rows.append(
                [
                    kind,
                    workers,
                    f"{weights:,.0f}",
                    f"{whole:,.0f}",
                    f"{began.pss:,.0f}",
                    f"{full.pss:,.0f}",
                    f"{full.rss:,.0f}",
                    f"{full.pss / weights:.2f}",
                    f"{server.start_seconds:.1f}",
                ]
            )
            kept.append(
                {
                    "kind": kind,
                    "workers": workers,
                    "weights_mib": weights,
                    "artifact_mib": whole,
                    "at_start": asdict(began),
                    "loaded": asdict(full),
                    "start_seconds": server.start_seconds,
                }
            )
            if not bench.quick:
                bench.report.target(
                    f"{kind}, {workers} worker(s): memory (PSS) times the weights",
                    full.pss / weights,
                    1.5,
                    at_least=False,
                )
    bench.report.table(
        f"Memory in MiB: {users:,} users, {items:,} items, {LARGE_FACTORS} factors",
        [
            "model",
            "workers",
            "weights",
            "artifact",
            "PSS at start",
            "PSS loaded",
            "RSS loaded",
            "PSS / weights",
            "start s",
        ],
        rows,
    )
    bench.report.keep("memory", kept)


def touching(users: int, items: int, random: np.random.Generator) -> bytes:
    """A request that reads the rows of 500 users and 100 items."""
    asked = {
        "users": random.integers(0, users, 500).tolist(),
        "candidates": random.integers(0, items, 100).tolist(),
    }
    return json.dumps(asked).encode()


def start(bench: Bench) -> None:
    """Seconds from the command to the first 200 of /ping, and to the first answer: TorchServe pings before it
    has a model."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in bench.names()}
    for _ in range(1 if bench.quick else 2):
        for name, of in times.items():
            with bench.started(name) as server:
                began = time.perf_counter()
                post(server.port, bench.bodies["catalogue"][0])
                of.append((server.start_seconds, server.start_seconds + time.perf_counter() - began))
    rows = [
        [name, *(f"{statistics.median(one[which] for one in of):.2f}" for which in (0, 1))]
        for name, of in times.items()
    ]
    bench.report.table(
        "Start, seconds (median)", ["server", "until /ping is 200", "until the first answer"], rows
    )
    bench.report.keep("start", times)


def profile(bench: Bench) -> None:
    """Where the time of a request goes, one connection, one worker."""
    server, rows, kept = bench.server(OURS), [], {}
    for kind in ("catalogue", "given"):
        before, processor = metrics_of(server.port), processor_seconds_of(server.group)
        one = load(server.port, bench.bodies[kind], 1, seconds=2 * bench.seconds)
        after, used = metrics_of(server.port), processor_seconds_of(server.group) - processor
        parts = {
            "client: send until the answer is whole": one.mean,
            "server: body read until the answer is ready": _each(
                before, after, "ncf_request_seconds_sum", one
            ),
            "compute thread: read, answer, write": _each(before, after, "ncf_compute_seconds_sum", one),
            "recommender: model, retrieval, ids": _each(before, after, "ncf_model_seconds_total", one),
            "processor time of the server": 1000 * used / one.requests,
        }
        rows += [
            [kind, what, f"{1000 * value:,.0f}", f"{value / one.mean:.0%}"] for what, value in parts.items()
        ]
        kept[kind] = parts
    bench.report.table(
        "Where a request's time goes",
        ["load", "part, each within the one above", "µs", "of the client's"],
        rows,
    )
    bench.report.keep("profile", kept)


def _each(before: dict[str, float], after: dict[str, float], name: str, one: Load) -> float:
    """Milliseconds a request."""
    return 1000 * (after[name] - before.get(name, 0.0)) / one.requests


def parse() -> argparse.Namespace:
    """The options of all benchmarks and of this one."""
    parser = command_line(__doc__)
    parser.add_argument("--run", help="a trained run or artifact, instead of training NeuMF 32 on ML-1M")
    parser.add_argument(
        "--torchserve",
        default=str(TORCHSERVE),
        help="environment of scripts/install-torchserve; .venv-torchserve by default",
    )
    parser.add_argument("--only", help=f"comma-separated: {', '.join(PARTS)}")
    parser.add_argument("--seconds", type=float, help="of each repeat")
    arguments = parser.parse_args()
    arguments.parts = arguments.only.split(",") if arguments.only else list(PARTS)
    wrong = [part for part in arguments.parts if part not in PARTS]
    if wrong:
        parser.error(f"--only knows {', '.join(PARTS)}, and not {', '.join(wrong)}")
    return arguments


def main() -> None:
    """Run the parts that were asked for."""
    arguments = parse()
    report = Report("serving", arguments)
    parts: dict[str, Any] = {"recall": recall, "memory": memory, "start": start, "profile": profile}
    compared = {"latency": "catalogue", "candidates": "given"}
    with tempfile.TemporaryDirectory(prefix="ncf-bench-") as name, ExitStack() as stack:
        bench = Bench(arguments, report, stack, Path(name))
        if bench.environment is None:
            report.log(
                f"There is no TorchServe in {arguments.torchserve}: the peer and our handlers under "
                "TorchServe were not measured."
            )
        kinds = [compared[part] for part in arguments.parts if part in compared]
        plain = best_settings(bench, kinds) if kinds and bench.environment else {}
        for part in arguments.parts:
            if part in compared:
                (latency if part == "latency" else candidates)(bench, plain)
            else:
                parts[part](bench)
    report.write()


if __name__ == "__main__":
    main()
