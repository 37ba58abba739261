"""Evaluation in parts: the figures of all lists, to the bit, however many processes share them."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from ncf.config import EvaluationConfig
from ncf.data import HeldOut
from ncf.evaluation import EvaluationResult, evaluate_held_out, evaluate_sampled, ranking, top_k
from ncf.models import ModelScorer
from ncf.runtime import workers
from support import model_of, planted


class Table:
    """What several threads put down, for all to take in the order of ranks."""

    def __init__(self, size: int) -> None:
        self.parts: list[Tensor | None] = [None] * size
        self.barrier = threading.Barrier(size, timeout=60)


class Seat:
    def __init__(self, table: Table, rank: int) -> None:
        self.rank, self.size, self._table = rank, len(table.parts), table

    def all_gather_rows(self, rows: Tensor) -> Tensor:
        self._table.parts[self.rank] = rows
        self._table.barrier.wait()
        gathered = torch.cat([part for part in self._table.parts if part is not None])
        self._table.barrier.wait()
        return gathered


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16])
def test_parts_make_the_whole_to_the_bit(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(
        ranking, "_SCORES_AT_ONCE", 31 * 40
    )  # eight parts, and with 16 processes many have none
    dataset = planted()
    scorer = ModelScorer(model_of("neumf", len(dataset.users), len(dataset.items)))
    rules = EvaluationConfig(cutoffs=(1, 5, 10), bootstrap=50)
    table, results = Table(size), dict[int, EvaluationResult]()

    with workers(1) as pool:
        whole = evaluate_sampled(scorer, dataset.test, rules, pool)

        def evaluate(rank: int) -> None:
            results[rank] = evaluate_sampled(scorer, dataset.test, rules, pool, exchange=Seat(table, rank))

        threads = [threading.Thread(target=evaluate, args=(rank,)) for rank in range(size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == size
    for result in results.values():
        assert result.to_json() == whole.to_json()
        assert all(np.array_equal(values, whole.values[name]) for name, values in result.values.items())


@pytest.mark.parametrize("size", [2, 5])
def test_full_ranking_of_users_is_shared_to_the_bit(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(top_k, "_SCORES_AT_ONCE", 120 * 11)
    dataset = planted(users=50)
    dataset = replace(dataset, test=HeldOut(dataset.test.user_rows, dataset.test.candidates[:, :1]))
    scorer = ModelScorer(model_of("gmf", len(dataset.users), len(dataset.items)))
    rules = EvaluationConfig(cutoffs=(5,), bootstrap=50)
    table, results = Table(size), dict[int, EvaluationResult]()
    with workers(1) as pool:
        whole = evaluate_held_out(scorer, dataset, "test", rules, pool)

        def evaluate(rank: int) -> None:
            seat = Seat(table, rank)
            results[rank] = evaluate_held_out(scorer, dataset, "test", rules, pool, exchange=seat)

        threads = [threading.Thread(target=evaluate, args=(rank,)) for rank in range(size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [results[rank].to_json() for rank in range(size)] == [whole.to_json()] * size
