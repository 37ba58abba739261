"""Whether an artifact is what was written, and whether its parts fit each other.

In: the folder, and what was read from it. Out: the manifest; or an `ArtifactError`, or a `ValueError` that
says what does not fit, of which whoever opens the artifact makes a sentence. The one decision worth knowing:
this is asked before the first request. Otherwise an artifact that does not fit answers most users, and fails
at the others.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ncf.data import Csr
from ncf.data.files import sha256_of
from ncf.errors import ArtifactError
from ncf.serving.history_embedding import HistoryEmbedding
from ncf.serving.numpy_model import Floats, Rows

MANIFEST = "manifest.json"
SCHEMA_VERSION = 2
_NEEDED = (
    "model.safetensors", "config.json", "users.parquet", "items.parquet", "seen_offsets.npy",
    "seen_items.npy", "metrics.json",
)  # fmt: skip
_PREPARED = {"retrieval": "retrieval.json", "fold_in": "fold_in_map.npy"}
"""The beginnings of names of what serving prepares, and the file without which it is prepared again."""
_OPTIONAL = ("history", "in_training", "untrained_users")
_AT_ONCE = 2**20


def verified_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of `folder`, whose files are those that were written; raises `ArtifactError`."""
    damaged = f"The artifact {folder} is damaged: {{}}; copy it again, or retrain."
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        schema, files = manifest["schema_version"], dict(manifest["files"])
        manifest["created"], manifest["data"]["name"], manifest["data"]["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ArtifactError(damaged.format(f"{MANIFEST} cannot be read")) from None
    if schema != SCHEMA_VERSION:
        raise ArtifactError(
            f"The artifact {folder} has schema version {schema} and this ncf reads {SCHEMA_VERSION}: "
            f"use the ncf that wrote it ({manifest.get('versions', {}).get('ncf', 'unknown')}), or retrain."
        )
    try:
        _check_files(folder, files)
    except ValueError as error:
        raise ArtifactError(damaged.format(error)) from None
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise ArtifactError(damaged.format(f"{name} is missing"))
        if path.stat().st_size != expected["bytes"] or sha256_of(path) != expected["sha256"]:
            raise ArtifactError(damaged.format(f"{name} was changed"))
    return dict(manifest)


def _check_files(folder: Path, listed: Collection[str]) -> None:
    """Every file that is read must be listed in the manifest, and so verified.

    What serving prepares may be half there, while another process adds it.
    """
    for name in _NEEDED:
        if name not in listed:
            raise ValueError(f"manifest.json does not list {name}")
    for path in folder.glob("*.*"):
        prepared = next((first for name, first in _PREPARED.items() if path.name.startswith(name)), "")
        read = prepared in listed if prepared else path.name.startswith(_OPTIONAL)
        if read and path.name not in listed:
            raise ValueError(f"manifest.json does not list {path.name}")


def check_parts(
    weights: Mapping[str, Floats],
    users: pl.Series,
    items: pl.DataFrame,
    seen: Csr,
    untrained: Rows,
    history: HistoryEmbedding | None,
    trends: bool = False,
) -> None:
    """Sizes, rows and numbers; `users` are ids, `items` the table with ids and popularity.

    `trends`: whether it also says what is trending.
    """
    for side, wanted in (("user", len(users)), ("item", len(items))):
        sizes = [len(value) for name, value in weights.items() if name.endswith(f"{side}_table")]
        if not sizes or set(sizes) != {wanted}:
            raise ValueError(f"there are {wanted:,} {side}s, and tables of {sizes} rows for them")
    for name, value in weights.items():
        if not is_finite(value):
            raise ValueError(f"{name} has values that are no numbers")
    for what, ids in (("user", users), ("item", items["id"])):
        if ids.null_count() or ids.n_unique() < len(ids):
            raise ValueError(f"an id of a {what} is missing or there twice")
    for name in ("popularity", *(("trending",) if trends else ())):
        if name not in items or not (items[name].dtype.is_numeric() and is_finite(items[name].to_numpy())):
            raise ValueError(f"the {name} of an item is no number")
    offsets = seen.offsets
    if len(offsets) != len(users) + 1 or offsets[0] != 0 or offsets[-1] != len(seen.columns):
        raise ValueError("the items that users have used do not belong to these users")
    if (np.diff(offsets) < 0).any() or not _in_range(seen.columns, len(items)):
        raise ValueError("the items that users have used are not all items of the model")
    if not _in_range(untrained, len(users)):
        raise ValueError("a user without training is no user of the model")
    if history is not None:
        ages = history.ages_N
        if len(history.table_ID) != len(items) or not is_finite(history.table_ID):
            raise ValueError("the table of histories does not belong to these items")
        if not all(is_finite(value) for value in history.weights().values()):
            raise ValueError("what turns histories into vectors has values that are no numbers")
        if ages is not None and len(ages) != len(seen.columns):
            raise ValueError("the ages of used items do not belong to these items")


def is_finite(values: npt.NDArray[Any]) -> bool:
    """Whether every value is a number and not infinite, read a piece at a time."""
    flat = values.reshape(-1)
    pieces = (flat[start : start + _AT_ONCE] for start in range(0, len(flat), _AT_ONCE))
    return all(bool(np.isfinite(piece).all()) for piece in pieces)


def _in_range(rows: Rows, size: int) -> bool:
    return not len(rows) or (int(rows.min()) >= 0 and int(rows.max()) < size)
