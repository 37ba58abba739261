"""Steps of windows: every item is predicted once an epoch, and losses and gradients are the slow ones."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ncf.config import Experiment
from ncf.data import Dataset
from ncf.errors import ConfigError, DataError
from ncf.models import NeuMF, sequence_branch
from ncf.models.layers import DropoutMasks
from ncf.models.sequences import Sequences
from ncf.runtime import Workers
from ncf.training import Trainer
from ncf.training.parallel.communicator import SingleProcess
from ncf.training.sequence_sampling import SequenceSampler, SequenceStep
from ncf.training.sequence_step import SequenceRunner, position_losses
from support import SEQUENCES, dataset_of, experiment, in_order, model_of

ALONE = Workers(1)


@pytest.fixture(scope="module")
def data() -> Dataset:
    random = np.random.default_rng(0)
    pairs = [(user, item) for user in range(12) for item in random.permutation(40)[: user * 3].tolist()]
    return in_order(dataset_of(pairs, 12, 40))


def sampler(data: Dataset, length: int = 5, batch_size: int = 20, **settings: int) -> SequenceSampler:
    sequences = Sequences.of(data.train, len(data.users), 0)
    return SequenceSampler(
        data, sequences=sequences, length=length, batch_size=batch_size, negatives=7, **settings
    )


def predicted(steps: list[SequenceStep]) -> list[tuple[int, int, int]]:
    """User, item and the item before it, of all positions."""
    return [
        (user, after, before)
        for step in steps
        for user, row in zip(step.users.tolist(), step.items.tolist(), strict=True)
        for before, after in pairwise(row)
        if after < 40
    ]


@given(length=st.integers(1, 50), batch_size=st.integers(1, 300), epoch=st.integers(0, 3))
def test_every_item_but_the_first_is_predicted_once_an_epoch(
    data: Dataset, length: int, batch_size: int, epoch: int
) -> None:
    found = sampler(data, length, batch_size)
    steps = list(found.epoch(epoch, ALONE))
    sequences = Sequences.of(data.train, 12, 0)
    pairs = [
        (user, after, before)
        for user, (first, stop) in enumerate(pairwise(sequences.offsets))
        for before, after in pairwise(sequences.items[first:stop].tolist())
    ]
    assert sorted(predicted(steps)) == sorted(pairs)
    assert [step.number for step in steps] == list(range(found.steps))
    assert sum(step.groups for step in steps) == found.positives == len(pairs)
    assert all(step.items.shape[1] <= length + 1 and len(step.users) for step in steps)


def test_processes_share_the_windows_of_a_step_and_have_its_negatives(data: Dataset) -> None:
    whole = list(sampler(data).epoch(1, ALONE))
    parts = [list(sampler(data, rank=rank, size=3).epoch(1, ALONE)) for rank in range(3)]
    for step, *own in zip(whole, *parts, strict=True):
        assert sorted(predicted(own)) == sorted(predicted([step]))
        assert all(torch.equal(part.negatives, step.negatives) for part in own)
        assert {part.groups for part in own} == {step.groups}


def test_epochs_differ_and_an_epoch_goes_on_where_it_stopped(data: Dataset) -> None:
    found = sampler(data)
    first, second = list(found.epoch(0, ALONE)), list(found.epoch(1, ALONE))
    assert predicted(first) != predicted(second)
    assert not torch.equal(first[0].negatives, first[1].negatives)
    assert predicted(list(found.epoch(0, ALONE, 2))) == predicted(first[2:])


def test_negatives_are_distinct_items_and_at_most_all(data: Dataset) -> None:
    (step, *_) = sampler(data).epoch(0, ALONE)
    assert len(set(step.negatives.tolist())) == 7
    sequences = Sequences.of(data.train, 12, 0)
    every = SequenceSampler(data, sequences=sequences, length=5, batch_size=20, negatives=400)
    (step, *_) = every.epoch(0, ALONE)
    assert step.negatives.tolist() == list(range(40))


def test_a_table_in_which_nothing_follows_is_refused() -> None:
    alone = in_order(dataset_of([(user, user) for user in range(5)], 5, 6))
    with pytest.raises(DataError, match="No user has two interactions"):
        sampler(alone)


def test_popular_negatives_are_refused(data: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"set train.sampler = 'uniform'"):
        sampler(data, exponent=1)


@pytest.mark.parametrize("loss", ["softmax", "bce", "bpr"])
def test_the_loss_of_a_position_is_the_formula(loss: str) -> None:
    positive, negatives = torch.tensor([0.3, -2.0]), torch.tensor([[1.0, -0.5, 2.0], [0.0, -math.inf, 1.0]])
    share = 3 / 39
    for row, fast in enumerate(position_losses(loss, positive, negatives, 40).tolist()):
        y, others = float(positive[row]), [x for x in negatives[row].tolist() if x > -math.inf]
        slow = {
            "softmax": -math.log(math.exp(y) / (math.exp(y) + sum(math.exp(x) for x in others) * 40 / 3)),
            "bce": -share * (0.75 * (1 / share - 1) + 1) * math.log(1 / (1 + math.exp(-y)))
            - sum(math.log(1 - 1 / (1 + math.exp(-x))) for x in others),
            "bpr": -sum(math.log(1 / (1 + math.exp(x - y))) for x in others),
        }[loss]
        assert fast == pytest.approx(slow, rel=1e-5)


def test_with_all_items_as_negatives_it_is_the_softmax_over_the_catalogue() -> None:
    logits = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([3, 0, 39, 7, 7])
    others = logits.clone()
    others[torch.arange(5), target] = -math.inf
    fast = position_losses("softmax", logits[torch.arange(5), target], others, 40)
    torch.testing.assert_close(fast, torch.nn.functional.cross_entropy(logits, target, reduction="none"))


def runner(kind: str, data: Dataset, communicator: SingleProcess | None = None) -> SequenceRunner:
    settings = experiment(kind, negatives=7, batch_size=60)
    model = model_of(kind, 12, 40)
    branch = sequence_branch(model)
    assert branch is not None
    branch.attach(Sequences.of(data.train, 12, 0))
    trainer = Trainer(data, model, settings.train, ALONE, communicator)
    assert isinstance(trainer.runner, SequenceRunner)
    return trainer.runner


@pytest.mark.parametrize("kind", SEQUENCES)
def test_the_loss_of_a_step_is_that_of_each_position_by_itself(kind: str, data: Dataset) -> None:
    found = runner(kind, data)
    (step, *_) = sampler(data, 12, 60).epoch(0, ALONE)
    weighted = replace(step, weights=torch.rand(step.items.shape, generator=torch.Generator().manual_seed(1)))
    total = 0.0
    for user, row, weights in zip(step.users, step.items, weighted.weights, strict=True):
        known = row[row < 40]
        vectors = found.branch.encode(known[None, :-1], user[None])[0]
        for place, (vector, target) in enumerate(zip(vectors, known[1:], strict=True)):
            others = step.negatives[step.negatives != target]
            candidates = torch.cat([target[None], others])[None]
            logits = found.branch.logits(vector[None], candidates)[0]
            if isinstance(found.model, NeuMF):
                logits = logits + found.model.mlp(user[None], candidates)[0]
            estimated = logits[1:].exp().sum() * 40 / 7
            total -= weights[place + 1] * (logits[0].exp() / (logits[0].exp() + estimated)).log()
    fast = found._loss(weighted, slice(None), DropoutMasks(0.0, 0))
    torch.testing.assert_close(fast, total, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["places-gmf", "sasrec-neumf"])
def test_pieces_of_a_step_move_the_weights_as_the_whole_does(
    kind: str, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    (step, *_) = sampler(data, 12, 60).epoch(0, ALONE)
    whole, cut = runner(kind, data), runner(kind, data)
    loss, stopping = whole.run(step, 0.01, True)
    monkeypatch.setattr("ncf.training.sequence_step._POSITIONS_AT_ONCE", 1)
    again, _ = cut.run(step, 0.01, False)
    assert stopping
    torch.testing.assert_close(loss, again)
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(cut.model.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_threads_share_a_step(data: Dataset) -> None:
    (step, *_) = sampler(data, 12, 60).epoch(0, ALONE)
    alone, shared = runner("sasrec", data), runner("sasrec", data)
    shared.workers = Workers(2)
    expected, _ = alone.run(step, 0.01, False)
    loss, _ = shared.run(step, 0.01, False)
    shared.workers.close()
    torch.testing.assert_close(loss, expected)
    for name, value in alone.model.state_dict().items():
        torch.testing.assert_close(shared.model.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_two_processes_move_the_weights_as_one_does(data: Dataset) -> None:
    """Each process adds to the other's sums; here one after the other, with the first one's kept."""
    kept: list[list[torch.Tensor]] = []

    class Adds(SingleProcess):
        def sum(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
            kept.append([tensor.clone() for tensor in tensors])
            return [torch.stack(parts).sum(0) for parts in zip(*kept, strict=True)]

    (whole, *_) = sampler(data, 12, 60).epoch(0, ALONE)
    parts = [next(iter(sampler(data, 12, 60, rank=rank, size=2).epoch(0, ALONE))) for rank in (0, 1)]
    alone, first, second = (runner("sasrec", data, None if number == 0 else Adds()) for number in range(3))
    loss, _ = alone.run(whole, 0.01, False)
    first.run(parts[0], 0.01, False)
    both, _ = second.run(parts[1], 0.01, False)
    torch.testing.assert_close(both, loss)
    for name, value in alone.model.state_dict().items():
        torch.testing.assert_close(second.model.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_masks_follow_from_the_seed_and_keep_the_mean() -> None:
    values = torch.ones(50_001)
    drop, again = DropoutMasks(0.25, 5), DropoutMasks(0.25, 5)
    first, second = drop(values), drop(values)
    assert torch.equal(again(values), first)
    assert not torch.equal(first, second)
    torch.testing.assert_close(first.unique(), torch.tensor([0.0, 4 / 3]))
    assert float(first.mean()) == pytest.approx(1.0, abs=0.02)
    assert DropoutMasks(0.0, 5)(values) is values


@pytest.mark.parametrize(
    ("section", "key", "value", "sentence"),
    [
        ("train", "init", "spectral", "starts at random"),
        ("model", "factors", "auto", "set a number"),
        ("model", "attention_heads", 3, "attention_heads must divide factors"),
        ("model", "history_places", 5, "history_places is of 'history-gmf'"),
    ],
)
def test_settings_that_do_not_go_together(section: str, key: str, value: object, sentence: str) -> None:
    settings: dict[str, dict[str, object]] = {"model": {"kind": "sasrec"}, "train": {}}
    settings[section][key] = value
    with pytest.raises(ConfigError, match=sentence):
        Experiment.parse(settings)


def test_a_lazy_optimiser_is_refused(data: Dataset) -> None:
    with pytest.raises(ConfigError, match="moves its tables whole"):
        Trainer(data, model_of("sasrec", 12, 40), experiment("sasrec", optimizer="lazy").train, ALONE)
