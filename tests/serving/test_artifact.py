"""The artifact comes back as it was written, or is refused with a sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from ncf.data.files import atomic_folder
from ncf.errors import ArtifactError, StorageError
from ncf.serving import artifact as artifact_module
from ncf.serving.artifact import open_artifact, write_artifact
from ncf.serving.fold_in import FoldIn
from ncf.serving.numpy_model import NumpyModel
from ncf.serving.recommender import Recommender
from ncf.serving.retrieval.retriever import Retriever
from support import checkerboard, experiment, model_of

FILES = {
    "model.safetensors",
    "config.json",
    "users.parquet",
    "items.parquet",
    "seen_offsets.npy",
    "seen_items.npy",
    "metrics.json",
    "MODEL_CARD.md",
    "manifest.json",
    "retrieval.json",
    "fold_in_map.npy",
    "fold_in_informative.npy",
}


PLAIN = {name for name in FILES if not name.startswith(("retrieval", "fold_in"))}


def written(folder: Path, serves: bool = True) -> Path:
    dataset, settings = checkerboard(), experiment("neumf")
    model = model_of("neumf", 40, 30, tower=[16, 8])
    target = folder / "artifact"
    return write_artifact(target, model, settings, dataset, {"test": {}}, "# card\n", serves=serves)


def test_everything_comes_back(tmp_path: Path) -> None:
    opened = open_artifact(written(tmp_path))
    assert {path.name for path in opened.folder.iterdir()} == FILES
    expected = model_of("neumf", 40, 30, tower=[16, 8])
    assert all(
        torch.equal(a, b) for a, b in zip(opened.model.parameters(), expected.parameters(), strict=True)
    )
    assert opened.experiment == experiment("neumf")
    assert opened.users.ids.tolist() == list(range(100, 140))
    assert opened.item_columns["title"].to_list()[3] == "Item 3"
    assert opened.seen.row(5).tolist() == checkerboard().known.row(5).tolist()
    assert not any(parameter.requires_grad for parameter in opened.model.parameters())


def test_what_serving_needs_is_prepared_when_it_is_first_opened_to_the_same_bytes(tmp_path: Path) -> None:
    at_once, later = written(tmp_path / "a"), written(tmp_path / "b", serves=False)
    assert {path.name for path in later.iterdir()} == PLAIN | {"in_training.npy"}
    first = Recommender.open(later)
    assert {path.name for path in later.iterdir()} == FILES | {"in_training.npy"}
    for name in FILES - PLAIN:
        assert (later / name).read_bytes() == (at_once / name).read_bytes()
    assert set(open_artifact(later).manifest["files"]) >= FILES - PLAIN  # and they are verified
    history = {"k": 3, "history": first.items.ids_of([3, 7]).tolist()}
    expected = Recommender.open(at_once)
    for recommender in (first, Recommender.open(later)):
        assert recommender.recommend(101, k=3) == expected.recommend(101, k=3)
        visitor = recommender.recommend("nobody", **history)
        assert (visitor.source, visitor) == ("fold_in", expected.recommend("nobody", **history))


def test_an_artifact_in_a_folder_that_cannot_be_written_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = written(tmp_path, serves=False)

    def refused(**_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("ncf.serving.artifact.TemporaryDirectory", refused)
    assert len(Recommender.open(later).recommend(101, k=3)) == 3
    assert {path.name for path in later.iterdir()} == PLAIN | {"in_training.npy"}


def test_an_older_artifact_that_does_not_say_what_was_trained_on_serves(tmp_path: Path) -> None:
    later = written(tmp_path, serves=False)
    (later / "in_training.npy").unlink()
    manifest = json.loads((later / "manifest.json").read_text())
    del manifest["files"]["in_training.npy"]
    (later / "manifest.json").write_text(json.dumps(manifest))
    opened = Recommender.open(later)
    visitor = opened.recommend("nobody", k=3, history=opened.items.ids_of([3]).tolist())
    assert (visitor.source, len(visitor)) == ("fold_in", 3)


def test_preparing_for_serving_does_not_fan_out_to_threads_of_blas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that wait for each other's tiny products cost minutes on a machine that others use too."""
    threads: list[int] = []
    for kind in (Retriever, FoldIn):
        build = kind.build

        def watched(*arguments: Any, build: Any = build) -> Any:
            threads.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
            return build(*arguments)

        monkeypatch.setattr(kind, "build", watched)
    with threadpool_limits(3, "blas"):
        written(tmp_path)
    assert threads
    assert set(threads) == {1}


def test_a_run_folder_leads_to_its_artifact(tmp_path: Path) -> None:
    written(tmp_path)
    assert open_artifact(tmp_path).folder == tmp_path / "artifact"


def test_there_is_no_pickle_in_it(tmp_path: Path) -> None:
    for path in written(tmp_path).iterdir():
        assert not path.read_bytes().startswith((b"\x80", b"PK")), path.name


@pytest.mark.parametrize("name", sorted(FILES - {"manifest.json"}))
def test_one_flipped_bit_is_noticed_in_every_file(tmp_path: Path, name: str) -> None:
    file = written(tmp_path) / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match=f"is damaged: {name} was changed; copy it again"):
        open_artifact(tmp_path)


@pytest.mark.parametrize("name", sorted(FILES - {"manifest.json"}))
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (written(tmp_path) / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name} is missing"):
        open_artifact(tmp_path)


def test_a_damaged_manifest(tmp_path: Path) -> None:
    (written(tmp_path) / "manifest.json").write_text('{"schema_version": 2, "fil')
    with pytest.raises(ArtifactError, match=r"manifest.json cannot be read; copy it again"):
        open_artifact(tmp_path)


def test_an_artifact_that_this_user_may_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(tmp_path)

    def refused(path: Path) -> str:  # the tests may run as root, who may read everything
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("ncf.serving.artifact.sha256_of", refused)
    with pytest.raises(ArtifactError, match="This user may not read"):
        open_artifact(folder)


@pytest.mark.parametrize("schema", [1, 99])
def test_an_older_or_newer_artifact(tmp_path: Path, schema: int) -> None:
    path = written(tmp_path) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": schema}))
    with pytest.raises(
        ArtifactError, match=f"has schema version {schema} and this ncf reads 2: use the ncf that wrote it"
    ):
        open_artifact(tmp_path)


def test_what_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="There is no .*absent"):
        open_artifact(tmp_path / "absent")
    with pytest.raises(ArtifactError, match="contains no artifact"):
        open_artifact(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ArtifactError, match=r"has not finished: resume it with .*--resume"):
        open_artifact(tmp_path)


def test_a_full_disk_leaves_the_earlier_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in written(tmp_path).iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artifact_module, "save_file", full)
    with pytest.raises(StorageError, match="There is no space left to write .*artifact"):
        written(tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "artifact").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["artifact"]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_folder(tmp_path / "x") as temporary:
            (temporary / "half").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_preparations_of_another_shape_are_refused_with_a_sentence(tmp_path: Path) -> None:
    """As an artifact whose manifest was made to fit would be."""
    opened = open_artifact(written(tmp_path))
    network = NumpyModel(opened.weights)
    (opened.folder / "retrieval.json").write_text('{"kind": "scan"}')
    with pytest.raises(ArtifactError, match="cannot be read .*: copy it again, or retrain"):
        opened.retrieval(network)
    (opened.folder / "fold_in_map.npy").write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match="cannot be read .*: copy it again, or retrain"):
        opened.fold_in(network)
