"""iALS against the library `implicit`, its own objective, and the normal equations row by row."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits
from torch import Tensor

from ncf.baselines import BASELINES, ials
from ncf.baselines.base import sparse_rows
from ncf.baselines.ials import alternate
from ncf.baselines.products import Factors
from ncf.data import Csr
from ncf.errors import ConfigError
from ncf.runtime import Workers, generator, workers
from support import csr_of, dense_rows, planted, weighed

WIDTH = 6


def tables(users: int, items: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = generator(seed, "tables")
    return torch.randn(users, WIDTH, generator=random), torch.randn(items, WIDTH, generator=random)


def swept(
    train: Csr,
    items: int,
    weight: float,
    l2: float,
    sweeps: int,
    exponent: float = 1.0,
    steps: int = WIDTH,
    threads: int = 1,
) -> Factors:
    """With `WIDTH` steps each system is solved."""
    users_UD, items_ID = tables(train.users, items)
    chosen = {"unobserved_weight": weight, "l2": l2, "iterations": sweeps, "cg_steps": steps}
    with workers(threads) as pool:
        alternate(train, users_UD, items_ID, chosen, pool, exponent)
    return Factors(users_UD, items_ID)


def objective(train: Csr, model: Factors, weight: float, l2: float) -> float:
    """The sum that the module's docstring says, pair by pair."""
    c = dense_rows(train, len(model.items_ID), slice(0, train.users)).double()
    users, items = model.users_UD.double(), model.items_ID.double()
    scores = users @ items.T
    fit = (c * (scores - 1.0) ** 2).sum() + weight * (scores**2).sum()
    of_users = ((c.sum(1) + weight * c.shape[1]) * (users**2).sum(1)).sum()
    of_items = ((c.sum(0) + weight * c.shape[0]) * (items**2).sum(1)).sum()
    return float(fit + l2 * (of_users + of_items))


@pytest.mark.parametrize("weighted", [False, True])
def test_a_sweep_solves_each_row(weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ials, "_PART_COST", 500)
    train = planted(90, 70).seen_in_training
    train = weighed(train) if weighted else train
    model = swept(train, 70, 0.2, 0.05, sweeps=1)
    assert (model.users_UD.shape, model.items_ID.shape) == ((90, WIDTH), (70, WIDTH))
    assert model.users_UD.dtype == model.items_ID.dtype == torch.float32
    users, fixed = model.users_UD.double(), model.users_UD.double()
    c = dense_rows(train, 70, slice(0, 90)).double()
    for item in range(70):
        sure = c[:, item, None] * fixed
        system = sure.T @ fixed + 0.2 * users.T @ users
        system += 0.05 * (c[:, item].sum() + 0.2 * 90) * torch.eye(WIDTH, dtype=torch.float64)
        expected = torch.linalg.solve(system, sure.sum(0))
        torch.testing.assert_close(model.items_ID[item].double(), expected, rtol=1e-3, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 2.0), st.floats(0.001, 0.5), st.integers(1, WIDTH + 2), st.integers(0, 1000))
def test_no_sweep_makes_the_objective_larger(weight: float, l2: float, steps: int, seed: int) -> None:
    train = weighed(planted(40, 60, each=8, seed=seed).seen_in_training)
    sums = [
        objective(train, swept(train, 60, weight, l2, sweeps, steps=steps), weight, l2)
        for sweeps in range(1, 5)
    ]
    assert all(after <= before * (1 + 1e-5) for before, after in pairwise(sums))


def test_three_steps_a_sweep_come_near_whole_solutions() -> None:
    train = planted(90, 70).seen_in_training
    few, whole = (
        objective(train, swept(train, 70, 0.2, 0.05, 8, steps=steps), 0.2, 0.05) for steps in (3, WIDTH)
    )
    assert few == pytest.approx(whole, rel=1e-3)


def test_parts_and_threads_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    train = planted(90, 70).seen_in_training
    in_one_part = swept(train, 70, 0.2, 0.05, sweeps=2)
    monkeypatch.setattr(ials, "_PART_COST", 500)
    parts = ials._parts(train, 70)
    assert [part.rows.start for part in parts] == [0, *(part.rows.stop for part in parts[:-1])]
    assert (len(parts) > 5, parts[-1].rows.stop) == (True, 90)
    for threads in (1, 3):
        in_parts = swept(train, 70, 0.2, 0.05, sweeps=2, threads=threads)
        torch.testing.assert_close(in_parts.users_UD, in_one_part.users_UD, rtol=0, atol=0)
        torch.testing.assert_close(in_parts.items_ID, in_one_part.items_ID, rtol=0, atol=0)


def test_interactions_may_lie_in_a_file_that_is_mapped_for_reading() -> None:
    train = planted(90, 70).seen_in_training
    expected = swept(train, 70, 0.2, 0.05, sweeps=1).users_UD
    train.columns.flags.writeable = train.offsets.flags.writeable = False
    assert torch.equal(swept(train, 70, 0.2, 0.05, sweeps=1).users_UD, expected)


def test_rows_without_interactions_are_zero_even_where_absent_ones_count_nothing() -> None:
    model = swept(csr_of([[0, 1], [], [1, 2]]), 4, 0.0, 0.1, sweeps=2)
    assert model.users_UD[1].tolist() == model.items_ID[3].tolist() == [0.0] * WIDTH
    assert model.catalogue(torch.arange(3)).isfinite().all()
    assert model.catalogue(torch.tensor([0]))[0, 0] > 0.5


@pytest.mark.parametrize("sweeps", [1, 5])
def test_without_frequency_scaling_it_is_what_the_library_fits(sweeps: int) -> None:
    """The library weighs a used pair c and pulls it to 1, we pull it to 1 by 1 and to 0 by a. The same sum up
    to a factor: c = (1 + a) / a, its penalty l2 c, its scores (1 + a) times ours.
    """
    library = pytest.importorskip("implicit.cpu.als")
    train, weight, l2 = planted(90, 70).seen_in_training, 0.2, 0.7
    confidence = (1.0 + weight) / weight
    with threadpool_limits(1, "blas"):
        model = library.AlternatingLeastSquares(
            WIDTH, l2 * confidence, confidence, iterations=sweeps, num_threads=1, use_cg=False
        )
        model.user_factors, model.item_factors = (
            (table * (1.0 + weight) ** 0.5).numpy().copy() for table in tables(90, 70)
        )
        model.fit(sparse_rows(train, 70), show_progress=False)
    ours = swept(train, 70, weight, l2, sweeps, exponent=0.0).catalogue(torch.arange(90))
    theirs = torch.from_numpy(model.user_factors @ model.item_factors.T)
    torch.testing.assert_close(ours * (1.0 + weight), theirs, rtol=1e-3, atol=1e-4)


def test_what_has_no_solution_is_refused() -> None:
    given_settings = {"factors": 40, "l2": 0, "unobserved_weight": 0, "iterations": 2}
    with pytest.raises(ConfigError, match=r"iALS has no solution with l2 = 0 on these data: raise l2"):
        BASELINES["ials"].fit(csr_of([[0, 1], [1, 2]]), 3, given_settings, 0, Workers(1))


def test_the_first_values_have_the_papers_spread() -> None:
    given_settings = {"factors": 50, "iterations": 1}
    model = BASELINES["ials"].fit(csr_of([[0]]), 1, given_settings, 0, Workers(1))
    assert isinstance(model, Factors)
    assert model.bytes == 2 * 50 * 4
    assert np.isfinite(model.catalogue(torch.arange(1)).numpy()).all()
