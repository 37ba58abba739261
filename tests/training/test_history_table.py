"""Training of a history-aware model: gradients, the moves of the history's table, dropout, parts."""

import numpy as np
import pytest
import torch

from histories import ITEMS, KINDS, USERS, check_gradients, groups, half_of
from ncf.runtime import Workers
from ncf.training.history_table import HistoryTable, steps_between_moves
from ncf.training.kernels.branch import Objective
from ncf.training.kernels.step import loss_and_gradients
from ncf.training.losses import LOSSES
from support import model_of


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("threads", "chunk"), [(1, 512), (1, 4), (3, 5)])
def test_gradients_equal_autograd_with_the_positive_left_out(kind: str, threads: int, chunk: int) -> None:
    model = model_of(kind)
    batch, users, items = groups(model)
    objective = Objective(LOSSES["bce"], l2_gmf=0.02, l2_mlp=0.01, chunk=chunk)
    workers = Workers(threads)
    table = HistoryTable(half_of(model), 1, 0.03, 0, workers)
    _, gradients = loss_and_gradients(model, batch, objective, workers)
    gradients = table.gather(gradients)
    workers.close()
    check_gradients(gradients, model, users, items, objective, 0.03)


def test_the_sums_equal_a_slow_loop() -> None:
    half = half_of(model_of("history-gmf"))
    history, table = half.attached, half.history_table.detach()
    sums = history.sums(table)
    assert sums.shape == (USERS, 8)
    assert sums.dtype == torch.float32
    for user in range(USERS):
        slow = torch.zeros(8)
        for item in history.items[history.offsets[user] : history.offsets[user + 1]]:
            slow += table[item]
        torch.testing.assert_close(sums[user], slow)
    dense = torch.zeros(USERS, ITEMS)
    dense[torch.repeat_interleave(torch.arange(USERS), history.offsets.diff()), history.items] = 1.0
    torch.testing.assert_close(history.back(sums), dense.T @ sums)


@pytest.mark.parametrize("threads", [2, 3, 40])
def test_sums_and_moves_are_equal_to_the_bit_for_any_number_of_threads(threads: int) -> None:
    results = []
    for workers in (Workers(1), Workers(threads)):
        model = model_of("history-gmf", history_dropout=0.3)
        half = half_of(model)
        table = HistoryTable(half, 1, 0.1, 3, workers)
        batch, _, _ = groups(model)
        gradients = table.gather(loss_and_gradients(model, batch, Objective(LOSSES["bce"]), Workers(1))[1])
        results.append((half.__dict__["training_sums"].values, gradients[half.history_table].values))
        workers.close()
    assert all(torch.equal(first, second) for first, second in zip(*results, strict=True))


def test_the_table_moves_with_the_mean_gradient_of_its_steps() -> None:
    model = model_of("history-gmf")
    half, objective = half_of(model), Objective(LOSSES["bce"])
    some = [groups(model, count)[0] for count in (7, 12, 23)]
    single = []
    for batch in some:
        table = HistoryTable(half, 1, 0.0, 0, Workers(1))
        gradients = table.gather(loss_and_gradients(model, batch, objective, Workers(1))[1])
        single.append(gradients[half.history_table].values)
    table = HistoryTable(half, 3, 0.0, 0, Workers(1))
    for number, batch in enumerate(some):
        gradients = table.gather(loss_and_gradients(model, batch, objective, Workers(1))[1])
        assert (half.history_table in gradients) == (number == 2)
        table.after()
    torch.testing.assert_close(gradients[half.history_table].values, torch.stack(single).mean(0))
    assert (table.steps, table.moves) == (0, 1)


def test_dropout_leaves_its_share_out_and_scales_the_rest() -> None:
    half = half_of(model_of("history-gmf", users=400, items=100, history_dropout=0.4))
    half.history_table.data.fill_(1.0)
    HistoryTable(half, 1, 0.0, 7, Workers(1))
    sums, counts = half.__dict__["training_sums"], half.attached.counts
    assert sums.values.sum() / counts.sum() / 8 == pytest.approx(1.0, abs=0.02)
    kept = sums.kept(torch.repeat_interleave(half.attached.offsets.diff()), half.attached.items)
    assert set(np.unique(kept.numpy()).round(4)) == {0.0, np.float32(1 / 0.6).round(4)}
    assert (kept > 0).float().mean() == pytest.approx(0.6, abs=0.02)


def test_a_dropped_positive_is_not_taken_out_of_the_sum() -> None:
    """Without its positive a user's sum has the other kept items, whether the positive was kept or not."""
    model = model_of("history-gmf", history_dropout=0.5)
    half = half_of(model)
    half.history_table.data.fill_(1.0)
    half.user_table.data.zero_()
    batch, users, items = groups(model)
    HistoryTable(half, 1, 0.0, 1, Workers(1))
    sums, history = half.__dict__["training_sums"], half.attached
    from ncf.training.kernels.history import HistoryStep

    share = HistoryStep(half, batch, Objective(LOSSES["bce"])).worker(slice(0, 23), None)
    vectors = share.vectors(slice(0, 23))
    for group, (user, positive) in enumerate(zip(users.tolist(), items[:, 0].tolist(), strict=True)):
        others = [
            i
            for i in history.items[history.offsets[user] : history.offsets[user + 1]].tolist()
            if i != positive
        ]
        weights = sums.kept(torch.full((len(others),), user), torch.tensor(others))
        expected = float(weights.sum()) * len(others) ** -0.5
        assert float(vectors[group, 0]) == pytest.approx(expected, rel=1e-5)


def test_moves_come_often_enough_and_cost_little() -> None:
    assert steps_between_moves(1000, 4096, 5) == 1
    assert steps_between_moves(10**6, 4096, 5) == 2
