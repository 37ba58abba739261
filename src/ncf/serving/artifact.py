"""The artifact: one folder with everything that serving needs, verified whenever it is opened.

| file | what |
| --- | --- |
| `model.safetensors` | weights, float32 |
| `config.json` | the experiment; the model's sizes come from the weights, never from here |
| `users.parquet`, `items.parquet` | ids by row; items with popularity and columns for display |
| `seen_offsets.npy`, `seen_items.npy` | the items that each user has used (CSR) |
| `untrained_users.npy` | rows of users without a training interaction; only if there are any |
| `retrieval*`, `fold_in*` | what `retrieval/` and `fold_in.py` prepare from the weights, or in their place |
| `in_training.npy` | which seen items were trained on, as bits |
| `history*` | history-aware models only: see `history_embedding.py` |
| `metrics.json`, `MODEL_CARD.md` | its evaluation, for programs and for people |
| `manifest.json` | schema version, sha256 of every file, digests of data and experiment, versions |

The one decision worth knowing: arrays are mapped and not copied, so all processes of a server share one copy.
Nothing is pickled. A damaged artifact, or one of another schema, is refused with a sentence.
"""

from __future__ import annotations

import json
import logging
import platform
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import polars as pl
import polars.selectors as cs
from safetensors.numpy import save_file
from threadpoolctl import threadpool_limits

from ncf.config import Experiment
from ncf.data import Csr, Dataset, Vocabulary
from ncf.data.files import atomic_folder, json_text, sha256_of, write_text
from ncf.data.interactions import pair_keys
from ncf.errors import ArtifactError
from ncf.serving.archive import unpacked
from ncf.serving.attention_encoder import NumpyEncoder
from ncf.serving.consistency import MANIFEST, SCHEMA_VERSION, check_parts, verified_manifest
from ncf.serving.fold_in import FoldIn, own_vectors
from ncf.serving.history_embedding import Ages, AttentionEmbedding, HistoryEmbedding
from ncf.serving.numpy_model import Floats, NumpyModel, Rows, mapped_weights
from ncf.serving.retrieval.retriever import Retriever

if TYPE_CHECKING:
    import torch

    from ncf.models import Model

Prepared = TypeVar("Prepared", Retriever, FoldIn)
LOG = logging.getLogger("ncf.serving")
_UNTRAINED = "untrained_users.npy"
_IN_TRAINING = "in_training.npy"


@dataclass(frozen=True)
class Artifact:
    """An opened artifact."""

    folder: Path
    weights: dict[str, Floats]
    experiment: Experiment
    users: Vocabulary
    items: Vocabulary
    item_columns: pl.DataFrame
    """A row for each item row: `id`, `popularity` and columns for display."""
    seen: Csr
    """The items that each user has used."""
    metrics: dict[str, Any]
    manifest: dict[str, Any]

    def retrieval(self, network: NumpyModel) -> Retriever:
        """The prepared candidate generator for `network`, which must be made of these weights."""
        return self._prepared(Retriever, network)

    def fold_in(self, network: NumpyModel) -> FoldIn:
        """The prepared fold-in of visitors for `network`, which must be made of these weights."""
        return self._prepared(FoldIn, network)

    @cached_property
    def untrained_users(self) -> Rows:
        """The rows of users without a training interaction, whose vectors mean nothing; mostly none."""
        path = self.folder / _UNTRAINED
        return np.load(path, allow_pickle=False) if path.is_file() else np.zeros(0, np.int32)

    @property
    def column_names(self) -> dict[str, str]:
        """What the columns of users and items were called in the data; empty where that is not known."""
        names: dict[str, str] = self.manifest["data"].get("columns", {})
        return names

    @property
    def history_embedding(self) -> HistoryEmbedding | None:
        """What turns a history into a vector, in a history-aware model only."""
        return HistoryEmbedding.open(self.folder)

    @property
    def trainable(self) -> dict[str, Floats]:
        """The weights by the names that training has for them: users have their own parts, and what turns
        histories into vectors is there.
        """
        embedding = self.history_embedding
        if embedding is None:
            return self.weights
        network = NumpyModel(self.weights)
        prefix, width = ("gmf." if "gmf.item_table" in self.weights else ""), embedding.table_ID.shape[1]
        own_UW = own_vectors(network, np.arange(network.users), self.trained, embedding, self.seen)
        added = {"user_table": own_UW[:, :width], **embedding.weights()}
        return self.weights | {f"{prefix}{name}": value for name, value in added.items()}

    def _prepared(self, kind: type[Prepared], network: NumpyModel) -> Prepared:
        try:
            if kind.DOCUMENT not in self.manifest["files"]:
                raise FileNotFoundError(kind.DOCUMENT)
            return kind.open(self.folder, network)
        except FileNotFoundError:
            # Files that the manifest names were verified, so this one was never written.
            LOG.warning("The artifact %s is prepared for serving, once (%s).", self.folder, kind.__name__)
            seed = self.experiment.train.seed
            built = _build(kind, network, self.seen, self._in_training, seed, self.history_embedding)
            self._keep(built)
            return built
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"The artifact {self.folder} cannot be read ({error}): copy it again, or retrain."
            ) from error

    @property
    def says_trained(self) -> bool:
        """Whether the artifact says which seen items were trained on; those of earlier versions do not."""
        return (self.folder / _IN_TRAINING).is_file()

    @cached_property
    def trained(self) -> Csr:
        """The items that each user was trained on; where the artifact does not say, all that are seen."""
        return self._in_training()

    def _in_training(self) -> Csr:
        """`trained`, which serving reads once and does not keep."""
        path, seen = self.folder / _IN_TRAINING, self.seen
        if not self.says_trained:
            return seen
        bits = np.load(path, allow_pickle=False)
        trained_N = np.unpackbits(bits, count=len(seen.columns)).astype(np.bool_)
        before = np.concatenate([[0], np.cumsum(trained_N, dtype=np.int64)])
        return Csr(before[seen.offsets], seen.columns[trained_N])

    def _keep(self, built: Retriever | FoldIn) -> None:
        """Add the files of `built` to the folder, so that the next process finds them.

        Where the folder cannot be written, each process builds its own.
        """
        with suppress(OSError), TemporaryDirectory(prefix=".", dir=self.folder) as scratch:
            built.save(Path(scratch))
            added = _digests(Path(scratch))
            for name in added:
                # Other processes may have mapped a file of this name, with the same bytes: theirs lives on.
                (Path(scratch) / name).replace(self.folder / name)
            manifest = json.loads((self.folder / MANIFEST).read_text("utf-8"))
            manifest["files"] |= added
            write_text(Path(scratch) / MANIFEST, json.dumps(manifest, indent=2))
            (Path(scratch) / MANIFEST).replace(self.folder / MANIFEST)

    @cached_property
    def model(self) -> Model:
        """The torch module with these weights (copied), ready for evaluation; serving does without it."""
        import torch

        from ncf.models import build_frozen, build_model

        config, sizes = self.experiment.model, _table_sizes(self.weights)
        model = build_frozen(config, *sizes) or build_model(config, *sizes)
        model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in self.weights.items()})
        return model.requires_grad_(False).eval()


def write_artifact(
    folder: Path,
    model: Model,
    experiment: Experiment,
    dataset: Dataset,
    metrics: dict[str, Any],
    card: str,
    data_digest: str | None = None,
    weights_file: Path | None = None,
    serves: bool = True,
    phase: Callable[[str], AbstractContextManager[Any]] = nullcontext,
) -> Path:
    """Write the artifact, whole or not at all; an earlier one in `folder` is replaced at the end.

    Args:
        folder: where to write, returned.
        model: the trained model.
        experiment: its settings.
        dataset: its training data.
        metrics: the content of `metrics.json`.
        card: the text of `MODEL_CARD.md`.
        data_digest: names the prepared data where `dataset` is a variant of them (validation included).
        weights_file: moved into the artifact instead of writing the weights of `model`, which may be too
            large for memory.
        serves: without it, what serving prepares is left out. The first recommender of the artifact prepares
            it, with the same result.
        phase: encloses each part by name, such as `Tracker.phase`.
    """
    with atomic_folder(folder) as temporary:
        with phase("writing"):
            weights = _write_weights(temporary / "model.safetensors", model, weights_file)
            embedding = _history_embedding(model, dataset, experiment.train.seed)
            if embedding is not None:
                embedding.save(temporary)
            dataset.users.series().to_frame().write_parquet(temporary / "users.parquet")
            dataset.item_columns.write_parquet(temporary / "items.parquet")
            np.save(temporary / "seen_offsets.npy", dataset.known.offsets, allow_pickle=False)
            np.save(temporary / "seen_items.npy", dataset.known.columns, allow_pickle=False)
        untrained = np.flatnonzero(dataset.cold_users)
        if len(untrained):
            np.save(temporary / _UNTRAINED, untrained.astype(np.int32), allow_pickle=False)
        if serves:
            with phase("index for serving"):
                network, seed = NumpyModel(weights), experiment.train.seed
                known, trained = dataset.known, partial(getattr, dataset, "seen_in_training")
                _build(Retriever, network, known, trained, seed, embedding).save(temporary)
                _build(FoldIn, network, known, trained, seed, embedding).save(temporary)
        trained_N = np.zeros(len(dataset.known.columns), np.bool_)
        trained_N[_places_in_known(dataset)] = True
        np.save(temporary / _IN_TRAINING, np.packbits(trained_N), allow_pickle=False)
        write_text(temporary / "config.json", experiment.model_dump_json(indent=2))
        write_text(temporary / "metrics.json", json_text(metrics, 2))
        write_text(temporary / "MODEL_CARD.md", card)
        manifest = _manifest(temporary, experiment, dataset, data_digest or dataset.digest)
        write_text(temporary / MANIFEST, json.dumps(manifest, indent=2))
    return folder


def _build(
    kind: type[Prepared],
    network: NumpyModel,
    known: Csr,
    trained: Callable[[], Csr],
    seed: int,
    embedding: HistoryEmbedding | None,
) -> Prepared:
    """What serving prepares, from the items that users are `known` to have used and were `trained` on."""
    # Thousands of small products: threads of BLAS would wait longer than they work, most of all on a machine
    # that others use too. One thread also gives the same bytes wherever it runs.
    with threadpool_limits(1, "blas"):
        if issubclass(kind, Retriever):
            return kind.build(network, known, seed)
        return kind.build(network, trained(), seed, embedding, known)


def _history_embedding(model: Model, dataset: Dataset, seed: int) -> HistoryEmbedding | None:
    """What turns histories into vectors, in a history-aware `model` trained on `dataset` with `seed`."""
    from ncf.models import history_branch, sequence_branch
    from ncf.models.attention import AttentionGMF, PlacesGMF
    from ncf.models.recency import ages
    from ncf.models.sequences import ages_in_order

    def known(ages_T: Ages) -> Ages:
        """[N] in the order of `dataset.known`, of [T] in that of training; -1 of what is not in it."""
        ages_N = np.full(len(dataset.known.columns), -1, np.int32)
        ages_N[_places_in_known(dataset)] = ages_T
        return ages_N

    sequences, history = sequence_branch(model), history_branch(model)
    if sequences is not None:
        arrays, ages_N = arrays_of(sequences), known(ages_in_order(dataset.train, seed))
        table_ID = arrays["history_table"]
        if isinstance(sequences, PlacesGMF):
            log_weights = arrays["log_weights"]
            return HistoryEmbedding(table_ID, sequences.exponent, ages_N=ages_N, log_weights_P=log_weights)
        assert isinstance(sequences, AttentionGMF)
        encoder = NumpyEncoder(arrays_of(sequences.encoder))
        return AttentionEmbedding(table_ID, 0.0, ages_N=ages_N, encoder=encoder)
    if history is None:
        return None
    return HistoryEmbedding(
        arrays_of(history)["history_table"],
        history.exponent,
        history.half_life,
        known(ages(dataset.train)) if history.half_life else None,
    )


def arrays_of(module: torch.nn.Module) -> dict[str, Floats]:
    """The values of a module by name, float32."""
    return {
        name: value.detach().float().cpu().contiguous().numpy() for name, value in module.state_dict().items()
    }


def _places_in_known(dataset: Dataset) -> Rows:
    """Where each training pair is in `dataset.known`."""
    train, known, items = dataset.train, dataset.known, len(dataset.items)
    owners = np.repeat(np.arange(known.users, dtype=np.int32), known.counts)
    return np.searchsorted(
        pair_keys(owners, known.columns, items), pair_keys(train.user_rows, train.item_rows, items)
    )


def _write_weights(target: Path, model: Model, file: Path | None) -> dict[str, Floats]:
    from ncf.models import freeze

    if file is not None:
        shutil.move(file, target)
        return mapped_weights(target)
    weights = arrays_of(freeze(model))
    save_file(weights, target)
    return weights


def _manifest(folder: Path, experiment: Experiment, dataset: Dataset, data_digest: str) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "experiment": {"name": experiment.name, "digest": experiment.digest()},
        "data": {"name": dataset.name, "digest": data_digest, **_named_columns(dataset)},
        "versions": {"ncf": version("ncf"), "torch": version("torch"), "python": platform.python_version()},
        "files": _digests(folder),
    }


def _named_columns(dataset: Dataset) -> dict[str, dict[str, str]]:
    """The names of the columns of users and items, which head lists of ids too."""
    names = dataset.description.get("source", {}).get("columns", {})
    kept = {purpose: names[purpose] for purpose in ("user", "item") if purpose in names}
    return {"columns": kept} if kept else {}


def _digests(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(folder.iterdir())
    }


def locate_artifact(path: str | Path) -> Path:
    """The artifact folder at `path`: the folder itself, `artifact/` in a run, or the contents of a
    model.tar.gz.

    Raises `ArtifactError` where there is none.
    """
    path = Path(path)
    if path.is_file() and path.name.endswith(".tar.gz"):
        path = unpacked(path.resolve())
    for candidate in (path, path / "artifact"):
        if (candidate / MANIFEST).is_file():
            return candidate
    if not path.exists():
        raise ArtifactError(
            f"There is no {path}: give the --output folder of 'ncf train' or an artifact folder."
        )
    if (path / "checkpoints").is_dir():
        raise ArtifactError(
            f"The run {path} has not finished: resume it with 'ncf train … --output {path} --resume'."
        )
    raise ArtifactError(
        f"{path} contains no artifact (no {MANIFEST}): "
        "give the --output folder of 'ncf train' or an artifact folder."
    )


def open_artifact(path: str | Path) -> Artifact:
    """The artifact at `path` (see `locate_artifact`), every file verified against the manifest."""
    folder = locate_artifact(path)
    try:
        return _load(folder, verified_manifest(folder))
    except PermissionError as error:
        raise ArtifactError(
            f"This user may not read the artifact {folder} ({Path(str(error.filename)).name}): "
            "change its permissions."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise ArtifactError(
            f"The artifact {folder} cannot be read ({error}): copy it again, or retrain."
        ) from error


def _load(folder: Path, manifest: dict[str, Any]) -> Artifact:
    experiment = Experiment.parse(
        json.loads((folder / "config.json").read_text("utf-8")), source="config.json"
    )
    items = pl.read_parquet(folder / "items.parquet")
    # JSON has no NaN and no infinity, and neither says anything of an item.
    items = items.with_columns(pl.when(cs.float().is_finite()).then(cs.float()))
    users = pl.read_parquet(folder / "users.parquet")["id"]
    artifact = Artifact(
        folder=folder,
        weights=mapped_weights(folder / "model.safetensors"),
        experiment=experiment,
        users=Vocabulary.of_series(users),
        items=Vocabulary.of_series(items["id"]),
        item_columns=items,
        seen=Csr(
            np.load(folder / "seen_offsets.npy", mmap_mode="r", allow_pickle=False).view(np.ndarray),
            np.load(folder / "seen_items.npy", mmap_mode="r", allow_pickle=False).view(np.ndarray),
        ),
        metrics=json.loads((folder / "metrics.json").read_text("utf-8")),
        manifest=manifest,
    )
    check_parts(
        artifact.weights, users, items, artifact.seen, artifact.untrained_users,
        artifact.history_embedding, bool(experiment.train.trending),
    )  # fmt: skip
    return artifact


def _table_sizes(weights: dict[str, Floats]) -> tuple[int, int]:
    """The numbers of users and items, from the shapes of the tables."""
    users = next(len(value) for name, value in weights.items() if name.endswith("user_table"))
    items = next(len(value) for name, value in weights.items() if name.endswith("item_table"))
    return users, items
