"""One final run: values a user, not a row; milliseconds and size; scores that are no numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import support
from ncf.data import Dataset
from ncf.errors import NcfError
from ncf.leaderboard.final_runs import FittedEntry, evaluate_final, milliseconds
from ncf.runtime import Workers


class Table:
    """Fixed scores [U, I]."""

    def __init__(self, scores: np.ndarray) -> None:
        self.scores = torch.from_numpy(scores.astype(np.float32))

    def __call__(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        return self.scores[users_B].gather(1, items_BC)

    def catalogue(self, users_B: Tensor) -> Tensor:
        return self.scores[users_B].clone()


@pytest.fixture
def several() -> Dataset:
    """User 1 has three held-out positives, user 0 one, user 2 none; rows are not in the users' order."""
    others = list(range(20, 40))
    rows = [(1, [0, *others]), (0, [1, *others]), (1, [2, *others]), (1, [3, *others])]
    return support.dataset_of([(0, 9), (1, 9), (2, 9)], 3, 40, test=rows)


def test_a_users_value_is_the_mean_of_the_users_rows_under_both_protocols(several: Dataset) -> None:
    scores = np.tile(np.linspace(1.0, 0.0, 40), (3, 1))
    scores[1, 2] = -1.0
    figures, values = evaluate_final(FittedEntry(Table(scores), 1.5, 7), several, Workers(1))
    assert {name: by_user.shape for name, by_user in values.items()} == {
        f"{protocol}/{measure}": (2,)
        for protocol in ("sampled", "full")
        for measure in ("hr@10", "ndcg@10", "mrr")
    }
    assert values["sampled/hr@10"].tolist() == [1.0, pytest.approx(2 / 3)]
    first, third = (
        1.0,
        1 / np.log2(1 + 2),
    )  # items 0 and 3: what stood between them is the user's own and masked
    assert values["full/ndcg@10"][1] == pytest.approx((first + 0.0 + third) / 3)
    assert figures["figures"]["sampled/hr@10"] == pytest.approx((1 + 2 / 3) / 2)
    assert (figures["seconds"], figures["bytes"]) == (1.5, 7)


def test_scores_that_are_no_numbers_are_a_failure(several: Dataset) -> None:
    scores = np.zeros((3, 40))
    scores[1] = np.nan
    with pytest.raises(NcfError, match="of 3 test rows are not numbers: training did not converge"):
        evaluate_final(FittedEntry(Table(scores), 1.0, 1), several, Workers(1))


def test_serving_is_timed_on_one_thread_which_is_given_back(made_up: Path) -> None:
    dataset, threads = Dataset.open(made_up), torch.get_num_threads()
    seen: list[int] = []

    class Counting(Table):
        def catalogue(self, users_B: Tensor) -> Tensor:
            seen.append(torch.get_num_threads())
            return super().catalogue(users_B)

    assert milliseconds(Counting(np.zeros((120, 60))), dataset) > 0.0
    assert set(seen) == {1}
    assert torch.get_num_threads() == threads
