"""Real processes over gloo: what they make together is what one process makes alone."""

from datetime import timedelta
from pathlib import Path

import pytest
import torch

from ncf.errors import ConfigError
from ncf.training.kernels.batch import RowGradient
from ncf.training.parallel.communicator import SingleProcess
from ncf.training.parallel.connect import processes
from support import dataset_of, planted
from together import HALVES, losses, metrics, run, weights


def ended_well(size: int, output: Path, *more: str, **settings: object) -> Path:
    """`run`, after which all processes must have succeeded."""
    ended = run(size, output, *more, **settings)
    assert [process.returncode for process in ended] == [0] * size, [process.stderr for process in ended]
    return output


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of two processes."""
    return ended_well(2, tmp_path_factory.mktemp("pair"), "train.optimizer=dense")


@pytest.mark.parametrize("optimizer", ["dense", "lazy"])
def test_two_processes_make_the_update_of_one(pair: Path, tmp_path: Path, optimizer: str) -> None:
    choice = f"train.optimizer={optimizer}"
    single = ended_well(1, tmp_path / "1", choice)
    two = pair if optimizer == "dense" else ended_well(2, tmp_path / "2", choice)
    assert losses(two) == pytest.approx(losses(single), rel=1e-4)
    for name, value in weights(single, 0).items():
        assert torch.equal(weights(two, 0)[name], weights(two, 1)[name]), name
        torch.testing.assert_close(weights(two, 0)[name], value, rtol=2e-2, atol=2e-4)


def test_three_processes_and_steps_of_two_groups(tmp_path: Path) -> None:
    users, items = 12, 10
    rows = [(user, item) for user in range(users) for item in range(4)]
    dataset_of(rows, users, items, [(user, [5, 6, 7]) for user in range(users)]).save(tmp_path / "data")
    tiny = ["train.batch_size=2", "train.epochs=1", "model.kind=gmf"]
    ended_well(3, tmp_path, *tiny, data=str(tmp_path / "data"))
    for name, value in weights(tmp_path, 0).items():
        assert all(torch.equal(value, weights(tmp_path, rank)[name]) for rank in (1, 2))


def test_a_stop_that_one_is_asked_for_stops_all_and_all_resume_from_the_first_ones_checkpoint(
    pair: Path, tmp_path: Path
) -> None:
    stopped = run(2, tmp_path, "train.optimizer=dense", stopper=1, steps=5)
    assert [(p.returncode, p.stdout.splitlines()[-1]) for p in stopped] == [(130, "stopped")] * 2
    assert [path.name for path in tmp_path.glob("run*")] == ["run"]
    ended_well(2, tmp_path, "train.optimizer=dense")
    for rank in (0, 1):
        for name, value in weights(pair, rank).items():
            assert torch.equal(weights(tmp_path, rank)[name], value), name
    assert losses(tmp_path) == losses(pair)


def test_one_process_stops_four_go_on_and_stop_and_two_end_it(tmp_path: Path) -> None:
    longer = ("train.epochs=3", "train.batch_size=270")
    single = ended_well(1, tmp_path / "single", *longer)
    handed = tmp_path / "handed"
    assert [p.returncode for p in run(1, handed, *longer, stopper=0, steps=25)] == [130]
    four = run(4, handed, *longer, stopper=3, steps=21)
    assert [p.returncode for p in four] == [130] * 4
    assert "Resumed after 1 epochs and 6 steps." in four[0].stdout
    two = run(2, handed, *longer)
    assert [p.returncode for p in two] == [0, 0]
    assert "Resumed after 2 epochs and 8 steps." in two[0].stdout
    assert losses(handed) == pytest.approx(losses(single), rel=1e-5)
    for name, value in weights(single, 0).items():
        torch.testing.assert_close(weights(handed, 0)[name], value, rtol=1e-3, atol=1e-5)


def test_more_processes_than_users_make_a_model_from_halves(tmp_path: Path) -> None:
    held = [(user, [user, 3 + user, 9, 10]) for user in range(3)]
    rows = [(user, item) for user in range(3) for item in range(8) if item not in (user, 3 + user)]
    dataset_of(rows, 3, 12, held, held).save(tmp_path / "few")
    given = {"data": str(tmp_path / "few")}
    single = ended_well(1, tmp_path / "1", *HALVES, **given)
    four = ended_well(4, tmp_path / "4", *HALVES, **given)
    for part in ("run", "run/gmf", "run/mlp"):
        one, other = (path / part / "artifact" for path in (single, four))
        assert {path.name for path in one.iterdir()} == {path.name for path in other.iterdir()}
    assert losses(four) == pytest.approx(losses(single), rel=1e-5)
    for name, value in weights(single, 0).items():
        torch.testing.assert_close(weights(four, 0)[name], value, rtol=1e-3, atol=1e-5)
    # The second time the halves are there, on process 0 only.
    ended_well(4, tmp_path / "4", *HALVES, **given)
    assert torch.equal(weights(four, 0)["gmf.user_table"], weights(four, 3)["gmf.user_table"])


def test_one_model_has_the_same_figures_to_the_bit_however_many_processes_evaluate_it(tmp_path: Path) -> None:
    planted(users=5000, items=60, each=5).save(tmp_path / "many")  # three parts, so that one of four has none
    settings = (*HALVES, "train.epochs=0", "evaluation.bootstrap=20")
    single = ended_well(1, tmp_path / "1", *settings, data=str(tmp_path / "many"))
    halves = {name: str(single / "run" / name) for name in ("gmf", "mlp")}
    for size in (2, 4):
        several = ended_well(size, tmp_path / str(size), *settings, data=str(tmp_path / "many"), **halves)
        for stage in ("test", "validation"):
            assert metrics(several)[stage] == metrics(single)[stage]


@pytest.mark.parametrize("kind", ["mf", "history-neumf"])
def test_two_processes_make_the_same_history_to_the_bit(tmp_path: Path, kind: str) -> None:
    settings = [f"model.kind={kind}", "train.parts=2", "train.epochs=1"]
    settings += ["model.history_dropout=0.2", "train.history_every=2"] if kind != "mf" else []
    single, two = (ended_well(size, tmp_path / str(size), *settings) for size in (1, 2))
    assert all(torch.equal(weights(two, 0)[name], value) for name, value in weights(single, 0).items())


@pytest.mark.parametrize(
    ("difference", "settings"),
    [
        ("data", {"data": "others"}),
        ("recipe", {"set": [[], ["train.seed=1"]]}),
        ("version of ncf", {"version": ["0.0.6", "0.0.7"]}),
    ],
)
def test_processes_that_do_not_belong_together_refuse_to_begin(
    tmp_path: Path, difference: str, settings: dict[str, object]
) -> None:
    if difference == "data":
        for seed in (0, 1):
            planted(users=40, items=60, seed=seed).save(tmp_path / f"others-{seed}")
        settings = {"data": [str(tmp_path / f"others-{seed}") for seed in (0, 1)]}
    first, second = run(2, tmp_path, **settings)
    assert first.returncode == second.returncode == 2
    for process in (first, second):
        assert process.stderr.count(f"Processes 0 and 1 do not have the same {difference} (") == 1
        assert "Traceback" not in process.stderr
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_there_is_refused_and_left_as_it_is(pair: Path) -> None:
    before = metrics(pair)
    first, second = run(2, pair, "train.optimizer=dense", resume=False)
    assert first.returncode == second.returncode == 2
    assert "run holds a run already" in first.stderr
    assert metrics(pair) == before


def test_others_that_never_come_are_named() -> None:
    meeting = timedelta(seconds=1)
    with (
        pytest.raises(ConfigError, match="could not meet"),
        processes("127.0.0.1", 1, 1, 2, meeting=meeting),
    ):
        pass


def test_a_single_process_exchanges_nothing() -> None:
    gradient = {torch.zeros(1): RowGradient(None, torch.ones(1))}
    with processes("nowhere", 1, 0, 1) as communicator:
        assert isinstance(communicator, SingleProcess)
        assert communicator.add(gradient) == gradient
