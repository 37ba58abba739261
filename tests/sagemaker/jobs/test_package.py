"""model.tar.gz holds the artifact, and with code what a container needs to serve it."""

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

import ncf
from ncf.cli.serving import artifact_app as app
from ncf.errors import ArtifactError, ConfigError
from ncf.sagemaker.jobs.package import (
    SERVING_NEEDS,
    code_files,
    pack_model,
    pack_training_code,
    serving_requirements,
)
from ncf.serving.archive import unpack
from ncf.serving.recommender import Recommender


def test_the_artifact_alone(artifact: Path, tmp_path: Path, served: Recommender) -> None:
    folder = unpack(pack_model(artifact, tmp_path / "m.tar.gz"), tmp_path / "out")
    assert {path.name for path in folder.iterdir()} == {path.name for path in artifact.iterdir()}
    assert Recommender.open(folder).recommend(104, 3) == served.recommend(104, 3)


def test_other_files_beside_the_artifact_are_left_out(artifact: Path, tmp_path: Path) -> None:
    folder = unpack(pack_model(artifact, tmp_path / "m.tar.gz"), tmp_path / "model")
    (folder / "secret.txt").write_text("x", "utf-8")
    again = pack_model(folder, tmp_path / "again.tar.gz")
    assert again.read_bytes() == (tmp_path / "m.tar.gz").read_bytes()


def test_a_damaged_artifact_is_not_packed(artifact: Path, tmp_path: Path) -> None:
    folder = unpack(pack_model(artifact, tmp_path / "m.tar.gz"), tmp_path / "model")
    (folder / "seen_items.npy").write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"damaged: seen_items\.npy"):
        pack_model(folder, tmp_path / "again.tar.gz")


def test_the_code_serves_without_the_package_being_installed(artifact: Path, tmp_path: Path) -> None:
    """As the container does it: `code/` is put on the path and `inference` imported."""
    folder = unpack(pack_model(artifact, tmp_path / "m.tar.gz", code=True), tmp_path / "model")
    code = f"""
import sys
sys.path = [{str(folder / "code")!r}, *(p for p in sys.path if not p.endswith("/src"))]
import inference, ncf
recommender = inference.model_fn({str(folder)!r})
call = inference.input_fn('{{"users": [104], "k": 2}}', "application/json")
print(ncf.__file__)
print(inference.output_fn(inference.predict_fn(call, recommender), "text/csv")[0].decode())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    where, answer = done.stdout.split()
    assert where == str(folder / "code" / "ncf" / "__init__.py")
    assert re.fullmatch(r"104,model,\d+,\d+", answer)


def test_the_package_is_whole_and_has_nothing_compiled() -> None:
    source = Path(ncf.__file__).parent
    names = set(code_files())
    assert {f"code/ncf/{path.relative_to(source).as_posix()}" for path in source.rglob("*.py")} <= names
    assert "code/ncf/serving/pages/index.html" in names
    assert not any(name.endswith(".pyc") for name in names)


def test_requirements_are_those_that_ncf_declares() -> None:
    lines = serving_requirements()
    assert [re.split(r"[^\w-]", line)[0] for line in lines] == list(SERVING_NEEDS)
    assert all(">=" in line for line in lines)


def test_wheels_make_it_independent_of_a_network(artifact: Path, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with pytest.raises(ConfigError, match="has no wheels: fill it with 'pip download"):
        pack_model(artifact, tmp_path / "m.tar.gz", wheels=wheels)
    (wheels / "x-1-py3-none-any.whl").write_bytes(b"wheel")
    folder = unpack(pack_model(artifact, tmp_path / "m.tar.gz", wheels=wheels), tmp_path / "model")
    assert (folder / "code" / "wheels" / "x-1-py3-none-any.whl").read_bytes() == b"wheel"
    lines = (folder / "code" / "requirements.txt").read_text("utf-8").splitlines()
    assert lines[:2] == ["--no-index", "--find-links wheels"]
    assert lines[2:] == serving_requirements()


def test_the_command(artifact: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.tar.gz"
    done = CliRunner().invoke(app, ["pack", str(artifact), "--code", "--output", str(target), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["output"], told["bytes"]) == (str(target), target.stat().st_size)
    done = CliRunner().invoke(app, ["pack", str(artifact), "--code", "--output", str(target)])
    assert told["sha256"][:12] in done.stdout


def test_the_code_that_trains_is_the_package_a_program_and_requirements(tmp_path: Path) -> None:
    folder = pack_training_code(tmp_path / "source")
    metadata = f"ncf-{version('ncf')}.dist-info"
    assert {path.name for path in folder.iterdir()} == {"ncf", metadata, "train.py", "requirements.txt"}
    assert "torch" not in (folder / "requirements.txt").read_text("utf-8")
    assert (folder / "ncf" / "sagemaker" / "container" / "train.py").is_file()


def test_the_code_that_trains_is_the_same_in_an_archive(tmp_path: Path) -> None:
    folder = pack_training_code(tmp_path / "source")
    archive = unpack(pack_training_code(tmp_path / "sourcedir.tar.gz"), tmp_path / "unpacked")
    names = {path.relative_to(folder) for path in folder.rglob("*")}
    assert {path.relative_to(archive) for path in archive.rglob("*")} == names
    assert all(
        (archive / n).read_bytes() == (folder / n).read_bytes() for n in names if (folder / n).is_file()
    )


def test_the_code_knows_its_version_where_the_package_is_not_installed(tmp_path: Path) -> None:
    folder = pack_training_code(tmp_path / "source")
    code = f"""
import sys
sys.path = [{str(folder)!r}, *(p for p in sys.path if 'site-packages' not in p and not p.endswith('/src'))]
from importlib.metadata import requires, version
print(version("ncf"), bool(requires("ncf")))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.split() == [version("ncf"), "True"]


def test_wheels_travel_with_the_code_that_trains(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "a-1-py3-none-any.whl").write_bytes(b"x")
    folder = pack_training_code(tmp_path / "source", wheels=tmp_path / "wheels")
    assert (folder / "wheels" / "a-1-py3-none-any.whl").read_bytes() == b"x"
    assert (folder / "requirements.txt").read_text("utf-8").startswith("--no-index\n--find-links wheels\n")


def test_code_is_replaced_and_any_other_folder_left_alone(tmp_path: Path) -> None:
    folder = pack_training_code(tmp_path / "source")
    (folder / "ncf" / "__init__.py").write_text("old", "utf-8")
    assert (pack_training_code(folder) / "ncf" / "__init__.py").read_text("utf-8") != "old"
    (tmp_path / "mine").mkdir()
    with pytest.raises(ConfigError, match="holds no training code"):
        pack_training_code(tmp_path / "mine")
