"""An artifact of any size with made-up weights, for what depends on the size alone: memory and start time.

In: numbers of users, items and factors. Out: the folder that `write_artifact` makes, as after a training run.
Tables are a few latent directions with noise, so that retrieval finds what it would find in trained ones:
structure. The tower is small: it holds next to nothing, and fitting retrieval to it takes the time.
"""

from pathlib import Path

import numpy as np
import polars as pl
import torch

from ncf.config import Experiment
from ncf.data import Dataset, HeldOut, Interactions, Vocabulary
from ncf.models import Model, build_model
from ncf.runtime import generator
from ncf.serving.artifact import write_artifact
from ncf.serving.retrieval import calibration

_SEEN, _LATENT, _NOISE = 20, 12, 0.05
_FEWER_PAIRS = 10**7


def made_up_artifact(folder: Path, kind: str, users: int, items: int, factors: int) -> Path:
    """Write it; a minute for NeuMF with a million users and 200 thousand items."""
    settings = {
        "kind": kind, "factors": factors, "embedding": 2 * factors, "tower": [factors, factors // 2],
    }  # fmt: skip
    experiment = Experiment.parse({"name": f"made-up-{kind}", "model": settings})
    model = build_model(experiment.model, users, items, generator(0, "made up"))
    _plant(model)
    before = calibration._JUDGED_PAIRS, calibration._LANDMARK_PAIRS
    # Memory does not depend on how well retrieval was fitted and evaluated; the time to write does.
    calibration._JUDGED_PAIRS = calibration._LANDMARK_PAIRS = _FEWER_PAIRS
    try:
        return write_artifact(folder, model, experiment, _data(users, items), {"test": {}}, "# Made up\n")
    finally:
        calibration._JUDGED_PAIRS, calibration._LANDMARK_PAIRS = before


@torch.no_grad()
def _plant(model: Model) -> None:
    """Give every table a few directions that matter."""
    for name, table in model.named_parameters():
        if name.endswith("_table"):
            draws = generator(0, name)
            directions = torch.randn(_LATENT, table.shape[1], generator=draws) / _LATENT**0.5
            for part in torch.split(table, 2**16):
                latent = torch.randn(len(part), _LATENT, generator=draws)
                part.copy_(latent @ directions).add_(torch.randn(part.shape, generator=draws), alpha=_NOISE)


def _data(users: int, items: int) -> Dataset:
    """Every user has used some items, popular ones more often."""
    random = np.random.default_rng(0)
    popular = (items * random.random((users, _SEEN), np.float32) ** 3).astype(np.int32)
    popular = np.sort(np.minimum(popular, items - 1), axis=1)
    distinct = np.ones(popular.shape, bool)
    distinct[:, 1:] = popular[:, 1:] != popular[:, :-1]
    user_rows = np.repeat(np.arange(users, dtype=np.int32), distinct.sum(axis=1))
    train = Interactions(user_rows, popular[distinct])
    columns = {"id": np.arange(items), "popularity": train.item_counts(items)}
    return Dataset(
        name="made-up",
        users=Vocabulary(np.arange(users)),
        items=Vocabulary(np.arange(items)),
        item_columns=pl.DataFrame(columns),
        train=train,
        validation=HeldOut.empty(1),
        test=HeldOut.empty(1),
        known=train.csr(users),
        description={"licence": "made up"},
    )
