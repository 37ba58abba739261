"""What a person sees: a bar and a time to go on a terminal, plain lines in a log, tables of items.

The answer of a command goes to standard output, everything else to standard error. With `--json` the answer
is one JSON object and nothing else.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from ncf.tracking.tracker import Phase, PhaseClock, Silent, Tracker, Trackers

if TYPE_CHECKING:
    from rich.progress import Progress

OUT = Console(highlight=False, soft_wrap=True)
ERR = Console(stderr=True, highlight=False, soft_wrap=True)
_REFRESH_SECONDS = 0.2
_WORTH_TELLING = 0.05


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
    """Prints one line per epoch. Phases have a bar if standard error is a terminal, else a line when they
    begin."""

    def __init__(self) -> None:
        self._phases: list[tuple[Phase, float]] = []
        self._bar: Progress | None = None
        self._shown = 0.0

    def phase_began(self, phase: Phase) -> None:
        self._phases.append((phase, time.monotonic()))
        if ERR.is_terminal:
            self._draw()
        elif not phase.of:  # an epoch has a line of its own when it ends
            log(f"Phase: {phase}")

    def phase_ended(self, phase: Phase, seconds: float) -> None:  # noqa: ARG002 - the summary has the seconds
        self.close()
        self._phases.pop()
        if self._phases and ERR.is_terminal:
            self._draw()

    def _draw(self) -> None:
        """Show the innermost phase: moving to and fro until it says how far it is."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self.close()
        columns = (
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"),
            TimeElapsedColumn(),
        )  # fmt: skip
        self._bar = Progress(*columns, console=ERR, transient=True, refresh_per_second=5)
        self._bar.add_task(str(self._phases[-1][0]), total=None, left="")
        self._bar.start()

    def advanced(self, done: int, total: int) -> None:
        if self._bar is None or not (done == total or time.monotonic() - self._shown > _REFRESH_SECONDS):
            return
        self._shown = time.monotonic()
        phase, began = self._phases[-1]
        left = time_left(phase, done, total, time.monotonic() - began)
        words = f"{done}/{total}" + (f", {written_time(left)} left" if left >= 1 else "")
        self._bar.update(self._bar.task_ids[0], completed=done, total=total, left=words)

    def start(self, run: str, settings: Mapping[str, Any]) -> None:
        model, train = settings["model"], settings["train"]
        log(
            f"Training {run}: {model['kind']}, {train['epochs']} epochs, {train['negatives']} negatives per "
            "positive."
        )

    def progress(self, epoch: int, done: int, total: int) -> None:  # noqa: ARG002 - the phase names the epoch
        self.advanced(done, total)

    def epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        self.close()
        parts = [f"epoch {epoch:>3}", f"loss {figures['loss']:.4f}"]
        for stage in ("validation", "test"):
            own = {name.partition("_")[2]: value for name, value in figures.items() if name.startswith(stage)}
            parts += [f"{stage} {' '.join(headlines(own))}"] if own else []
        parts.append(f"{figures['seconds']:.1f} s ({figures['samples_per_second'] / 1e6:.2f} M samples/s)")
        log("  ".join(parts))

    def log(self, sentence: str) -> None:
        log(sentence)  # above the bar, if there is one

    def finish(self, figures: Mapping[str, Any]) -> None:
        log(f"Artifact: {figures['artifact']}")
        if figures.get("phases"):
            log(summary(figures["phases"]))

    def close(self) -> None:
        """Remove the progress bar from the terminal."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def time_left(phase: Phase, done: int, total: int, seconds: float) -> float:
    """Seconds left of `phase` and of those of its name that follow, if all goes on as in its first `seconds`.

    Zero before anything is `done`.
    """
    return seconds * ((phase.of - phase.number + 1) * total - done) / done if done else 0.0


def written_time(seconds: float) -> str:
    """Seconds as a person says them: "8.2 s", "12 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def summary(phases: Mapping[str, float]) -> str:
    """One line: where the time of a run went, the longest first; what took no tenth of a second is left
    out."""
    longest = sorted(phases.items(), key=lambda phase: -phase[1])
    parts = [f"{name} {written_time(seconds)}" for name, seconds in longest if seconds >= _WORTH_TELLING]
    return f"Time: {written_time(sum(phases.values()))}" + (f" ({', '.join(parts)})" if parts else "")


@contextmanager
def timed(tracker: Tracker, name: str) -> Iterator[dict[str, float]]:
    """A phase before a run: shown by `tracker`, and in the seconds given once it is over."""
    clock = PhaseClock()
    with Trackers([clock, tracker]).phase(name):
        yield clock.seconds


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
