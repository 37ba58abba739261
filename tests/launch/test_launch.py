"""`ncf train --nproc`: what it makes, prints and refuses."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import torch

from launch.conftest import assert_close, metrics, single, train, weights
from launch.groups import group
from support import dataset_of, planted


def test_two_processes_make_what_one_makes_and_print_one_answer(
    folder: Path, alone: Path, pair: Path
) -> None:
    assert_close(pair, alone)
    assert json.loads((folder / "pair-out").read_text())["run"] == "pair"
    lines = (folder / "pair-err").read_text().splitlines()
    assert [re.sub(r"[\d.,]+", "N", line)[:12] for line in lines] == [
        "Training sma", "N parameters", *["epoch   N  lo"[:12]] * 4, "Artifact: pa",
    ]  # fmt: skip
    assert {path.name for path in pair.iterdir()} == {
        "artifact",
        "checkpoints",
        "events.jsonl",
        "launch",
        "run.json",
    }


def test_a_run_that_is_there_is_refused_with_one_sentence(folder: Path, pair: Path) -> None:
    before = metrics(pair)
    with group(
        [*train(), "--output", "pair", "--nproc", 2, "--max-restarts", 1, "--quiet"], folder
    ) as started:
        assert started.ended(2) == (
            "ncf: pair holds a run already: continue it with --resume, replace it with --overwrite, or choose another --output.\n"
        )
        assert started.out == ""
    assert metrics(pair) == before


HALVES = """
[pretraining.gmf.model]
kind = "gmf"
factors = 4
[pretraining.gmf.train]
epochs = 1
threads = 1
device = "cpu"
precision = "float32"
[pretraining.mlp.model]
kind = "mlp"
embedding = 6
tower = [6, 3]
[pretraining.mlp.train]
epochs = 1
threads = 1
device = "cpu"
precision = "float32"
"""


def test_more_processes_than_users_make_a_model_from_halves(folder: Path) -> None:
    held = [(user, [user, 3 + user, 9, 10]) for user in range(3)]
    train_rows = [(user, item) for user in range(3) for item in range(8) if item not in (user, 3 + user)]
    dataset_of(train_rows, 3, 12, held, held).save(folder / "few")
    (folder / "halves.toml").write_text((folder / "small.toml").read_text() + HALVES)
    one = single(folder, "few-1", data="few", recipe="halves.toml")
    with group(
        [*train("few", "halves.toml"), "--output", "few-4", "--nproc", 4, "--quiet"], folder
    ) as started:
        assert started.ended() == ""
        assert started.out.startswith("Test, weights of epoch 4, the last: HR@10")
        assert len(started.out.splitlines()) == 1
    for part in ("", "gmf", "mlp"):
        assert_close(folder / "few-4" / part, one / part)


def test_one_model_has_the_same_figures_to_the_bit_however_many_processes_judge_it(folder: Path) -> None:
    planted(users=5000, items=60, each=5).save(folder / "many")  # three parts, so that one of four has none
    recipe = (folder / "small.toml").read_text().replace("epochs = 4", "epochs = 0") + HALVES
    (folder / "fused.toml").write_text(recipe)
    one = single(folder, "judged-1", data="many", recipe="fused.toml")
    halves = {name: f"judged-1/{name}" for name in ("gmf", "mlp")}
    given = [word for name, path in halves.items() for word in (f"--{name}", path)]
    for processes in (2, 4):
        run = f"judged-{processes}"
        command = [*train("many", "fused.toml"), *given, "--output", run, "--nproc", processes, "--quiet"]
        with group(command, folder) as started:
            started.ended()
        for stage in ("test", "validation"):
            assert metrics(folder / run)[stage] == metrics(one)[stage]


@pytest.mark.parametrize("kind", ["mf", "history-neumf"])
def test_two_processes_make_the_same_history_to_the_bit(folder: Path, kind: str) -> None:
    recipe = (
        (folder / "small.toml")
        .read_text()
        .replace('kind = "neumf"', f'kind = "{kind}"\nhistory_dropout = 0.2')
    )
    assert kind in recipe
    (folder / f"{kind}.toml").write_text(recipe.replace("[train]", "[train]\nparts = 2\nhistory_every = 2"))
    one = single(folder, f"{kind}-1", recipe=f"{kind}.toml")
    command = [*train("data", f"{kind}.toml"), "--output", f"{kind}-2", "--nproc", 2, "--quiet"]
    with group(command, folder) as started:
        started.ended()
    two = weights(folder / f"{kind}-2")
    assert all(torch.equal(two[name], value) for name, value in weights(one).items())


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        (["--distributed", "horovod"], {}, "leave --distributed horovod out"),
        ([], {"WORLD_SIZE": "2", "RANK": "0"}, "torchrun has started this one already"),
        ([], {"HOROVOD_SIZE": "2"}, "Horovod has started this one already"),
    ],
)
def test_a_second_launcher_is_refused(
    folder: Path, arguments: list[str], environment: dict[str, str], sentence: str
) -> None:
    done = subprocess.run(
        [*map(str, train()), "--output", "none", "--nproc", "2", *arguments],
        cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert sentence in done.stderr


def test_what_a_person_sees_on_a_terminal(folder: Path) -> None:
    command = " ".join(map(str, [*train(), "--output", "seen", "--nproc", 2]))
    with group(["script", "-qec", command, "/dev/null"], folder) as started:
        started.ended()
        plain = re.sub(r"\x1b\[[\d;?]*\w", "", started.out)
    lines = [line.strip() for line in re.split(r"[\r\n]+", plain) if line.strip()]
    known = r"Training|[\d,]+ parameters|epoch +\d +loss|epoch \d .*/20 steps|Artifact|Test, weights"
    assert [line for line in lines if not re.match(known, line)] == []
    assert started.out.count("\x1b[?25l") == 4  # a bar an epoch hides the cursor: one process shows its own
    assert sum(line.startswith("Training") for line in lines) == 1
