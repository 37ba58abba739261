"""`--distributed smddp` with a double of Amazon's library, which is proprietary and runs only on large
instances.

This tests our side: the name of the backend, that only the default group is used, and that the weights are
those of gloo. Amazon's library itself was not run.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

import support
from ncf.errors import ConfigError
from ncf.training.parallel.connect import connect
from processes import free_port

HERE = Path(__file__).parent
RECIPE = """
name = "small"
[model]
kind = "neumf"
factors = 8
embedding = 8
tower = [8, 4]
[train]
epochs = 2
batch_size = 256
threads = 1
precision = "float32"
[evaluation]
bootstrap = 0
"""


def on_path(folder: Path) -> str:
    """`PYTHONPATH` with this folder first."""
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.toml").write_text(RECIPE)
    support.planted(users=60, items=50).save(tmp_path / "data")
    return tmp_path


def torchrun(folder: Path, *program: object) -> subprocess.CompletedProcess[str]:
    """Run the program in two processes, with the double on their path."""
    agent = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    double = {"PYTHONPATH": on_path(HERE / "double"), "SMDDP_DOUBLE_LOG": str(folder / "groups")}
    done = subprocess.run(
        [*agent, *map(str, program)], cwd=folder, env={**os.environ, **double, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def groups(folder: Path) -> list[str]:
    """The groups that were made, over all processes."""
    return sorted((folder / "groups").read_text().splitlines())


def test_it_is_the_backend_of_that_name_and_speaks_through_the_default_group(tmp_path: Path) -> None:
    seen = [json.loads(line) for line in torchrun(tmp_path, HERE / "probe.py").stdout.splitlines()]
    assert [process["backend"] for process in seen] == ["smddp", "smddp"]
    assert [process["all"] for process in seen] == [[0, 1], [0, 1]]
    assert [process["shared"] for process in seen] == ["from 0", "from 0"]
    assert [process["collected"] for process in seen] == [[[7, 7]], [[7, 7]]]
    assert all("does not make subgroups" in process["second group"] for process in seen)


def test_it_trains_what_gloo_trains_and_asks_for_no_second_group(folder: Path) -> None:
    train = ("-m", "ncf", "train", "small.toml", "--data", "data", "--quiet")
    torchrun(folder, *train, "--output", "smddp", "--distributed", "smddp")
    assert groups(folder) == ["group 1 of process 0 of 2", "group 1 of process 1 of 2"]
    torchrun(folder, *train, "--output", "gloo", "--distributed", "torchrun")
    assert len(groups(folder)) == 2
    ours, theirs = (load_file(folder / run / "artifact" / "model.safetensors") for run in ("smddp", "gloo"))
    assert ours.keys() == theirs.keys()
    assert all((ours[name] == theirs[name]).all() for name in ours)


def test_a_training_job_takes_its_ranks_from_the_launcher_of_aws(folder: Path) -> None:
    """That launcher is `mpirun` with a program of AWS's: MPI's names are what is sure to be there."""
    config = folder / "input" / "config"
    config.mkdir(parents=True)
    settings = {"train.epochs": "1", "train.threads": "1", "evaluation.bootstrap": "0"}
    (config / "hyperparameters.json").write_text(json.dumps(settings))
    (config / "resourceconfig.json").write_text('{"current_host": "localhost", "hosts": ["localhost"]}')
    (folder / "input" / "data" / "train").parent.mkdir()
    (folder / "input" / "data" / "train").symlink_to(folder / "data")
    program = (
        "import sys; from pathlib import Path; from ncf.sagemaker.container import train; "
        "sys.exit(train.main(Path(sys.argv[1])))"
    )
    shared = {
        **os.environ,
        "PYTHONPATH": on_path(HERE / "double"),
        "SMDDP_DOUBLE_LOG": str(folder / "groups"),
    }
    shared |= {"NCF_DISTRIBUTED": "smddp", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
    shared |= {"MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**shared, "OMPI_COMM_WORLD_RANK": rank, "OMPI_COMM_WORLD_LOCAL_RANK": rank},
        )
        for rank in "01"
    ]
    logs = [rank.communicate(timeout=240)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], logs
    assert groups(folder) == ["group 1 of process 0 of 2", "group 1 of process 1 of 2"]
    assert (folder / "model" / "model.safetensors").is_file()


def test_without_the_library_it_says_where_that_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("RANK", "0"),
        ("WORLD_SIZE", "2"),
        ("MASTER_ADDR", "localhost"),
        ("MASTER_PORT", "1"),
    ):
        monkeypatch.setenv(name, value)
    message = "needs Amazon's library smdistributed.dataparallel.*use --distributed torchrun"
    with pytest.raises(ConfigError, match=message), connect("smddp"):
        pass


def test_a_process_without_a_launcher_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with (
        pytest.raises(ConfigError, match="--distributed smddp needs processes that torchrun starts"),
        connect("smddp"),
    ):
        pass
