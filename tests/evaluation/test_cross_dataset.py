"""A model on other data's rows: rows are translated by id, and unknown ids are treated as in serving."""

import numpy as np
import torch

from ncf.data import Dataset, Vocabulary
from ncf.evaluation.cross_dataset import TranslatedScorer
from support import dataset_of


class Table:
    """Scores from a table [users, items]."""

    def __init__(self, users: int, items: int) -> None:
        self.scores = torch.arange(users * items, dtype=torch.float32).view(users, items)

    def __call__(self, users_B: torch.Tensor, items_BC: torch.Tensor) -> torch.Tensor:
        return self.scores[users_B[:, None], items_BC]

    def catalogue(self, users_B: torch.Tensor) -> torch.Tensor:
        return self.scores[users_B]


def data() -> Dataset:
    """Users 100..102, items 500..503."""
    return dataset_of([(0, 0), (1, 1), (2, 2), (2, 3)], 3, 4)


def scorer(users: list[int], items: list[int]) -> TranslatedScorer:
    """A model that knows these ids; its n-th item was used 10 n times."""
    return TranslatedScorer(
        Table(len(users), len(items)), Vocabulary(np.array(users)), Vocabulary(np.array(items)),
        np.arange(len(items)) * 10, data(),
    )  # fmt: skip


def test_rows_are_translated_through_ids() -> None:
    known = scorer([99, 100, 102], [499, 500, 501, 502, 503])
    scores = known(torch.tensor([0, 2]), torch.tensor([[0, 3], [1, 2]]))
    assert scores.tolist() == [[6.0, 9.0], [12.0, 13.0]]


def test_an_unknown_user_is_answered_by_popularity() -> None:
    scores = scorer([100], [500, 501, 502, 503])(torch.tensor([1]), torch.tensor([[3, 0, 1]]))
    assert scores.tolist() == [[30.0, 0.0, 10.0]]


def test_an_unknown_item_stands_behind_every_known_one() -> None:
    scores = scorer([100, 101], [500, 501])(torch.tensor([0, 2]), torch.tensor([[2, 0], [3, 0]]))
    assert scores[:, 0].tolist() == [-np.inf, -np.inf]
    assert torch.isfinite(scores[:, 1]).all()


def test_the_catalogue_is_the_pairs_of_every_item() -> None:
    known = scorer([100, 102], [500, 502, 503])
    users = torch.tensor([0, 1, 2])
    everything = torch.arange(4).expand(3, 4)
    assert torch.equal(known.catalogue(users), known(users, everything))
