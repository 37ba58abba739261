"""What a person sees: a progress bar on a terminal, plain lines in a log, tables of items.

The answer of a command goes to standard output, everything else to standard error. With `--json` the answer
is one JSON object and nothing else.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ncf.tracking.tracker import Silent

OUT = Console(highlight=False, soft_wrap=True)
ERR = Console(stderr=True, highlight=False, soft_wrap=True)
_REFRESH_SECONDS = 0.2


def headlines(figures: Mapping[str, float]) -> list[str]:
    """The metrics of `figures` that one line has room for, such as `HR@10 0.5000` and `NDCG@10 0.3000`.

    They are those at 10, or where there is no hit ratio, recall and NDCG at the largest cutoff.
    """
    if "hr@10" in figures:
        wanted = {"hr@10": "HR@10", "ndcg@10": "NDCG@10"}
    else:
        k = max((int(name[7:]) for name in figures if name.startswith("recall@")), default=10)
        wanted = {f"recall@{k}": f"Recall@{k}", f"ndcg@{k}": f"NDCG@{k}"}
    return [f"{label} {figures[name]:.4f}" for name, label in wanted.items() if name in figures]


def log(sentence: str) -> None:
    """Print `sentence` on standard error: it is not part of the answer."""
    ERR.print(sentence, markup=False)


class ConsoleTracker(Silent):
    """Prints one line per epoch, and a progress bar if standard error is a terminal."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._shown = 0.0

    def start(self, run: str, settings: Mapping[str, Any]) -> None:
        model, train = settings["model"], settings["train"]
        log(
            f"Training {run}: {model['kind']}, {train['epochs']} epochs, {train['negatives']} negatives per "
            "positive."
        )

    def progress(self, epoch: int, done: int, total: int) -> None:
        if not ERR.is_terminal:
            return
        if self._bar is None:
            self._bar = Progress(
                TextColumn("epoch {task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("steps"),
                TimeRemainingColumn(),
                console=ERR,
                transient=True,
                auto_refresh=False,
            )
            self._bar.start()
            self._bar.add_task(str(epoch + 1), total=total)
        if done == total or time.monotonic() - self._shown > _REFRESH_SECONDS:
            self._shown = time.monotonic()
            self._bar.update(self._bar.task_ids[0], completed=done, refresh=True)

    def epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        self.close()
        parts = [f"epoch {epoch:>3}", f"loss {figures['loss']:.4f}"]
        for stage in ("validation", "test"):
            own = {name.partition("_")[2]: value for name, value in figures.items() if name.startswith(stage)}
            parts += [f"{stage} {' '.join(headlines(own))}"] if own else []
        parts.append(f"{figures['seconds']:.1f} s ({figures['samples_per_second'] / 1e6:.2f} M samples/s)")
        log("  ".join(parts))

    def log(self, sentence: str) -> None:
        self.close()
        log(sentence)

    def finish(self, figures: Mapping[str, Any]) -> None:
        self.close()
        log(f"Artifact: {figures['artifact']}")

    def close(self) -> None:
        """Remove the progress bar from the terminal."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def items_table(title: str, rows: Sequence[Mapping[str, Any]], scores: Sequence[float]) -> Table:
    """A table of ranked items: `rows` with `id` and, if known, `title`, `year` and `genres`, and their
    `scores`."""
    columns = [name for name in ("title", "year", "genres") if any(row.get(name) for row in rows)]
    table = Table(title=title, title_justify="left")
    table.add_column("#", justify="right")
    table.add_column("item", justify="right")
    for name in columns:
        table.add_column(name)
    table.add_column("score", justify="right")
    for rank, (row, score) in enumerate(zip(rows, scores, strict=True), 1):
        shown = [str(row.get(name) or "") for name in columns]
        table.add_row(str(rank), str(row["id"]), *shown, f"{score:.3f}")
    return table
