"""Small data sets whose answers are known, and the few lines that many tests share."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import torch

from ncf.baselines.base import sparse_rows
from ncf.config import Experiment
from ncf.data import Csr, Dataset, HeldOut, Interactions, Vocabulary
from ncf.models import History, Model, build_model, history_branch, sequence_branch
from ncf.models.sequences import SequenceModel, Sequences
from ncf.runtime import generator

NO_BOOTSTRAP = {"bootstrap": 0}
SEQUENCES = ("places-gmf", "places-neumf", "sasrec", "sasrec-neumf")
"""Kinds that read sequences; "places-" is "history-" with `history_places`."""
KINDS = ("gmf", "mlp", "neumf", "mf", "history-gmf", "history-neumf", *SEQUENCES)


def kind_settings(kind: str) -> dict[str, Any]:
    """The settings of `[model]` that make a kind of `KINDS`."""
    if kind.startswith("places-"):
        return {"kind": kind.replace("places-", "history-"), "history_places": 12}
    return {"kind": kind, "attention_length": 12, "attention_heads": 2}


class TableScorer:
    """Scores straight from a matrix of users x items."""

    def __init__(self, scores: np.ndarray) -> None:
        self.scores = torch.from_numpy(scores)

    def __call__(self, users_B: torch.Tensor, items_BC: torch.Tensor) -> torch.Tensor:
        return self.scores[users_B[:, None], items_BC]

    def catalogue(self, users_B: torch.Tensor) -> torch.Tensor:
        return self.scores[users_B].clone()


def dataset_of(
    train: list[tuple[int, int]],
    users: int,
    items: int,
    test: list[tuple[int, list[int]]] = (),  # type: ignore[assignment]
    validation: list[tuple[int, list[int]]] = (),  # type: ignore[assignment]
) -> Dataset:
    """A data set from rows: `train` pairs, and held-out (user, [positive, negatives...])."""
    pairs = np.array(sorted(train), dtype=np.int32).reshape(-1, 2)
    held = [(user, lists[0]) for user, lists in [*test, *validation]]
    known = np.array(sorted({*map(tuple, pairs.tolist()), *held}), dtype=np.int32).reshape(-1, 2)
    interactions = Interactions(pairs[:, 0].copy(), pairs[:, 1].copy())
    return Dataset(
        name="made-up",
        users=Vocabulary(np.arange(100, 100 + users)),
        items=Vocabulary(np.arange(500, 500 + items)),
        item_columns=pl.DataFrame(
            {
                "id": np.arange(500, 500 + items),
                "popularity": np.bincount(pairs[:, 1], minlength=items),
                "title": [f"Item {row}" for row in range(items)],
            }
        ),
        train=interactions,
        validation=held_out(validation),
        test=held_out(test),
        known=Interactions(known[:, 0].copy(), known[:, 1].copy()).csr(users),
        description={"licence": "made up"},
    )


def held_out(rows: list[tuple[int, list[int]]]) -> HeldOut:
    """Held-out rows from (user, [positive, negatives...])."""
    if not rows:
        return HeldOut.empty(1)
    return HeldOut(
        np.array([user for user, _ in rows], dtype=np.int32),
        np.array([one for _, one in rows], dtype=np.int32),
    )


def checkerboard(users: int = 40, items: int = 30) -> Dataset:
    """Even users use even items and odd users odd items, but for one left out of each, which is the test.

    The only right answer is known for any model: a user's held-out item is of the user's own colour, and all
    the others in its candidate list are of the other colour.
    """
    train, test, validation = [], [], []
    for user in range(users):
        own = [item for item in range(items) if item % 2 == user % 2]
        other = [item for item in range(items) if item % 2 != user % 2]
        left_out, validated = own[(user // 2) % len(own)], own[(user // 2 + 1) % len(own)]
        train += [(user, item) for item in own if item not in (left_out, validated)]
        test.append((user, [left_out, *other]))
        validation.append((user, [validated, *other]))
    return dataset_of(train, users, items, test, validation)


def dense_rows(train: Csr, items: int, part: slice) -> torch.Tensor:
    """[users of the `part`, `items`] float32: one (or the weight) where the user used the item, else zero."""
    return torch.from_numpy(sparse_rows(train, items)[part].toarray())


def planted(users: int = 300, items: int = 120, factors: int = 4, each: int = 20, seed: int = 0) -> Dataset:
    """Users take the items that hidden factors rank highest, with some noise; one of them is held out."""
    random = np.random.default_rng(seed)
    affinity = random.normal(size=(users, factors)) @ random.normal(size=(factors, items))
    affinity += random.gumbel(size=affinity.shape) * 0.5
    order = np.argsort(-affinity, axis=1)
    train, test, validation = [], [], []
    for user in range(users):
        used = random.permutation(order[user, :each]).tolist()
        negatives = random.choice(order[user, each:], 30, replace=False).tolist()
        test.append((user, [used[0], *negatives]))
        validation.append((user, [used[1], *negatives]))
        train += [(user, item) for item in used[2:]]
    return dataset_of(train, users, items, test, validation)


def weighed(train: Csr) -> Csr:
    """The same interactions with weights, some of which are 0."""
    weights = np.random.default_rng(0).exponential(3.0, len(train.columns)).astype(np.float32)
    return replace(train, weights=np.where(weights < 0.3, np.float32(0.0), weights))


def experiment(kind: str = "neumf", **train: Any) -> Experiment:
    """A small experiment that trains in about a second on the made-up data."""
    settings = {
        "epochs": 30, "batch_size": 128, "learning_rate": 0.01, "l2_gmf": 0.001, "precision": "float32",
        "threads": 1,
    } | ({"negatives": 8, "loss": "softmax"} if kind in SEQUENCES else {})  # fmt: skip
    return Experiment.parse(
        {
            "name": f"small-{kind}",
            # Attention would learn the order of these few items by heart.
            "model": kind_settings(kind)
            | {"factors": 8, "embedding": 16, "tower": [16, 8], "dropout": 0.3 * kind.startswith("sasrec")},
            "train": settings | train,
            "evaluation": {"cutoffs": [1, 10], "bootstrap": 100},
        }
    )


def model_of(kind: str = "neumf", users: int = 20, items: int = 30, seed: int = 0, **model: Any) -> Model:
    """A small model with random weights large enough to matter."""
    sizes = {"factors": 8, "embedding": 16, "tower": [16, 8, 4], "mlp_init_std": 0.3}
    settings = kind_settings(kind) | sizes | model
    config = Experiment.parse({"model": settings}).model
    built = build_model(config, users, items, generator(seed, "init"))
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.ndim == 1:
                parameter.add_(
                    0.1 * torch.randn(parameter.shape, generator=generator(seed, "bias", parameter.numel()))
                )
    half = history_branch(built)
    if half is not None:
        random = generator(seed, "history")
        pairs = torch.rand(users, items, generator=random) < 0.3
        half.attach(History.of(csr_of([row.nonzero()[:, 0].tolist() for row in pairs]), items))
    sequences = sequence_branch(built)
    if sequences is not None:
        lengths = torch.randint(0, 30, (users,), generator=generator(seed, "lengths"))
        lengths[0] = 0
        used = torch.randint(items, (int(lengths.sum()),), generator=generator(seed, "sequences"))
        sequences.attach(Sequences(np.append(0, np.cumsum(lengths.numpy())), used.numpy()))
    return built


def sequence_model(kind: str) -> SequenceModel:
    """A model of sequences with values in every layer, also in those that begin at zero."""
    model = model_of(kind)
    assert isinstance(model, SequenceModel)
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=random))
    return model


def in_order(dataset: Dataset, seed: int = 0) -> Dataset:
    """The same interactions, each user's at times in a random order."""
    times = np.random.default_rng(seed).permutation(len(dataset.train)).astype(np.int64)
    return replace(dataset, train=replace(dataset.train, timestamps=times), digest="")


def csr_of(sets: list[list[int]]) -> Csr:
    """Items by user."""
    offsets = np.concatenate([[0], np.cumsum([len(items) for items in sets])]).astype(np.int64)
    return Csr(offsets, np.array([item for items in sets for item in sorted(items)], dtype=np.int32))
