"""Named phases: what each took, one line that sums them up, and where a run leaves them."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ncf.experiment import RunOptions, train
from ncf.tracking import console
from ncf.tracking import tracker as tracker_module
from ncf.tracking.tracker import JsonLines, Phase, PhaseClock, Tracker, Trackers
from support import checkerboard, experiment


class Ticks:
    """A clock that goes on by one second whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What goes to standard error, on a terminal or not."""

    def begin(terminal: bool) -> io.StringIO:
        text = io.StringIO()
        monkeypatch.setattr(console, "ERR", Console(file=text, force_terminal=terminal, width=100))
        return text

    return begin


def test_inner_phases_do_not_count_twice_and_phases_of_a_name_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker_module.time, "perf_counter", Ticks())
    clock = PhaseClock({"reading": 7.0})
    with clock.phase("initialization"), clock.phase("closed form"):
        pass
    for number in (1, 2):
        with clock.phase("epoch", number, 2):
            pass
    assert clock.seconds == {"reading": 7.0, "initialization": 2.0, "closed form": 1.0, "epoch": 2.0}


def test_a_phase_that_fails_has_ended(tmp_path: Path) -> None:
    clock = PhaseClock()
    with pytest.raises(KeyError), Trackers([clock, JsonLines(tmp_path / "events.jsonl")]).phase("test"):
        raise KeyError
    assert list(clock.seconds) == ["test"]
    (event,) = map(json.loads, (tmp_path / "events.jsonl").read_text().splitlines())
    assert (event["event"], event["name"]) == ("phase", "test")


@pytest.mark.parametrize(
    ("phase", "done", "total", "seconds", "left"),
    [
        (Phase("closed form"), 3, 5, 6.0, 4.0),
        (Phase("closed form"), 0, 5, 6.0, 0.0),
        (Phase("closed form"), 5, 5, 6.0, 0.0),
        (Phase("epoch", 4, 20), 10, 40, 1.0, 67.0),
        (Phase("epoch", 20, 20), 40, 40, 1.0, 0.0),
    ],
)
def test_time_left(phase: Phase, done: int, total: int, seconds: float, left: float) -> None:
    assert console.time_left(phase, done, total, seconds) == pytest.approx(left)


@pytest.mark.parametrize(
    ("phases", "line"),
    [
        ({"reading": 0.01, "epoch": 8.25, "closed form": 31.4}, "Time: 40 s (closed form 31 s, epoch 8.2 s)"),
        ({"epoch": 600.0, "test": 60.0}, "Time: 11 min (epoch 10 min, test 60 s)"),
        ({"reading": 0.01}, "Time: 0.0 s"),
    ],
)
def test_the_summary_is_one_line_with_the_longest_first(phases: dict[str, float], line: str) -> None:
    assert console.summary(phases) == line


def test_a_log_gets_a_line_for_each_phase_but_not_for_each_epoch(shown: Any) -> None:
    text, tracker = shown(terminal=False), console.ConsoleTracker()
    with tracker.phase("closed form") as advance:
        advance(1, 5)
    with tracker.phase("epoch", 1, 2):
        tracker.progress(0, 1, 9)
    tracker.finish({"artifact": "a", "phases": {"closed form": 2.0}})
    assert text.getvalue() == "Phase: closed form\nArtifact: a\nTime: 2.0 s (closed form 2.0 s)\n"


def test_a_terminal_shows_the_phase_how_far_it_is_and_the_outer_one_again(
    shown: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console.time, "monotonic", Ticks())
    text, tracker = shown(terminal=True), console.ConsoleTracker()
    with tracker.phase("initialization"):
        with tracker.phase("epoch", 4, 20) as advance:
            advance(1, 2)
        between = text.tell()
        tracker.log("a note")
    assert "epoch 4/20" in text.getvalue()[:between]
    assert "1/2, " in text.getvalue()[:between]
    assert "initialization" in text.getvalue()[between:]
    assert "Phase:" not in text.getvalue()


def test_a_run_leaves_the_summary_in_its_metrics_and_events(tmp_path: Path) -> None:
    began: list[str] = []

    class Watch(Tracker):
        def phase_began(self, phase: Phase) -> None:
            began.append(str(phase))

    settings = experiment("gmf", epochs=2, init="spectral")
    options = RunOptions(tracker=Watch(), phases={"reading": 0.5})
    run = train(checkerboard(), settings, tmp_path / "run", options=options)
    phases = json.loads((run.artifact / "metrics.json").read_text())["phases"]
    assert phases == run.metrics["phases"]
    assert phases["reading"] == 0.5
    assert list(phases)[1:3] == ["initialization", "closed form"]
    assert list(phases)[-4:] == ["test", "verdict", "writing", "index for serving"]
    assert {"epoch 1/2", "epoch 2/2"} <= set(began)
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert events[-1]["phases"] == phases
    assert [event["name"] for event in events if event["event"] == "phase"] == [
        "closed form", "initialization", "test", "verdict", "writing", "index for serving",
    ]  # fmt: skip
