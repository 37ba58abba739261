"""The artifact comes back as it was written, or is refused with a sentence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import save_file
from threadpoolctl import threadpool_info, threadpool_limits

from ncf.data.files import atomic_folder, sha256_of
from ncf.errors import ArtifactError, StorageError
from ncf.serving import artifact as artifact_module
from ncf.serving.artifact import open_artifact, write_artifact
from ncf.serving.fold_in import FoldIn
from ncf.serving.numpy_model import NumpyModel, mapped_weights
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
    "in_training.npy",
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

    monkeypatch.setattr("ncf.serving.consistency.sha256_of", refused)
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


def sealed(folder: Path) -> Path:
    """The artifact with a manifest made to fit its files, as somebody who changes one would make it."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] = {
        file.name: {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
        for file in folder.iterdir()
        if file != path
    }
    path.write_text(json.dumps(manifest))
    return folder


def with_weights(folder: Path, change: Callable[[dict[str, np.ndarray]], None]) -> Path:
    weights = {name: np.array(value) for name, value in mapped_weights(folder / "model.safetensors").items()}
    change(weights)
    save_file(weights, folder / "model.safetensors")
    return sealed(folder)


def with_array(folder: Path, name: str, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    np.save(folder / name, change(np.array(np.load(folder / name))))
    return sealed(folder)


def with_table(folder: Path, name: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Path:
    change(pl.read_parquet(folder / name)).write_parquet(folder / name)
    return sealed(folder)


def with_manifest(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def cut(name: str) -> Callable[[dict[str, np.ndarray]], None]:
    return lambda weights: weights.update({name: weights[name][:-1].copy()})


def put(name: str, value: float) -> Callable[[dict[str, np.ndarray]], None]:
    def change(weights: dict[str, np.ndarray]) -> None:
        weights[name].flat[-1] = value

    return change


def first_of(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array.flat[0] = value
        return array

    return change


def untrained(folder: Path) -> Path:
    np.save(folder / "untrained_users.npy", np.array([40], np.int32))
    return sealed(folder)


INCONSISTENT: dict[str, tuple[Callable[[Path], Path], str]] = {
    "users": (lambda f: with_weights(f, cut("gmf.user_table")), "there are 40 users, and tables of"),
    "items": (lambda f: with_weights(f, cut("mlp.item_table")), "there are 30 items, and tables of"),
    "nan": (lambda f: with_weights(f, put("mlp.tower.layers.0.weight", np.nan)), "no numbers"),
    "inf": (lambda f: with_weights(f, put("gmf.user_table", np.inf)), "gmf.user_table has values"),
    "layer": (lambda f: with_weights(f, cut("mlp.first.bias")), "its weights do not fit each other"),
    "float64": (
        lambda f: with_weights(f, lambda w: w.update(x=np.zeros(2))), "has numbers that are not float32"
    ),
    "missing": (lambda f: with_weights(f, lambda w: w.__delitem__("gmf.output")), "do not fit each other"),
    "ids": (lambda f: with_table(f, "users.parquet", lambda t: t[:39]), "there are 39 users"),
    "twice": (lambda f: with_table(f, "users.parquet", lambda t: pl.concat([t[:39], t[:1]])), "there twice"),
    "popularity": (
        lambda f: with_table(f, "items.parquet", lambda t: t.with_columns(popularity=pl.lit("many"))),
        "popularity of an item is no number",
    ),
    "offsets": (lambda f: with_array(f, "seen_offsets.npy", lambda a: a[:-1]), "do not belong to these"),
    "order": (lambda f: with_array(f, "seen_offsets.npy", lambda a: np.r_[0, a[:0:-1]]), "do not belong"),
    "seen": (lambda f: with_array(f, "seen_items.npy", first_of(30)), "are not all items of the model"),
    "untrained": (untrained, "a user without training is no user"),
    "map": (lambda f: with_array(f, "fold_in_map.npy", first_of(np.nan)), "does not belong to"),
    "map's width": (lambda f: with_array(f, "fold_in_map.npy", lambda a: a[:, :-1]), "does not belong to"),
    "informative": (lambda f: with_array(f, "fold_in_informative.npy", lambda a: a[:-1]), "does not belong"),
    "no files": (lambda f: with_manifest(f, lambda m: m.update(files={})), "does not list model.safetensors"),
    "one file": (
        lambda f: with_manifest(f, lambda m: m["files"].pop("fold_in_informative.npy")),
        "does not list fold_in_informative.npy",
    ),
    "no data": (lambda f: with_manifest(f, lambda m: m.pop("data")), "manifest.json cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("what", INCONSISTENT)
def test_parts_that_do_not_fit_each_other_are_refused_when_it_is_opened(tmp_path: Path, what: str) -> None:
    change, words = INCONSISTENT[what]
    folder = change(written(tmp_path))
    with pytest.raises(ArtifactError, match=words) as caught:
        Recommender.open(folder)
    assert str(folder) in str(caught.value)
    assert str(caught.value).endswith("copy it again, or retrain.")


def test_numbers_of_items_that_are_none_are_null(tmp_path: Path) -> None:
    odd = pl.Series([1.5, np.nan, np.inf, None] + [0.0] * 26)
    folder = with_table(written(tmp_path), "items.parquet", lambda table: table.with_columns(price=odd))
    assert open_artifact(folder).item_columns["price"][:4].to_list() == [1.5, None, None, None]


def test_what_another_process_is_about_to_add_is_not_read(tmp_path: Path) -> None:
    folder = written(tmp_path, serves=False)
    (folder / "retrieval.json").write_text('{"kind"')
    (folder / "fold_in_map.npy").write_bytes(b"half")
    assert len(Recommender.open(folder).recommend(101, k=3)) == 3
