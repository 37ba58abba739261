"""Recordings: a few calls as they are, then one recording for each set of shapes, in memory of its own."""

import pytest
import torch

from devices import Replayed
from ncf.training.gpu.graphs import WARM_UP, Recorded, recorder_of


def add(inputs: list[torch.Tensor], factor: float = 1.0) -> torch.Tensor:
    return (inputs[0] + inputs[1]) * factor


def test_a_recorded_function_gives_what_it_gives() -> None:
    recorded = Recorded(add, Replayed)
    for number in range(WARM_UP + 3):
        result = recorded([torch.full((2,), float(number)), torch.ones(2)])
        assert (result.shape, result.dtype) == ((2,), torch.float32)
        assert result.tolist() == [number + 1.0] * 2


def test_one_recording_for_each_set_of_shapes_and_constants() -> None:
    recorded, before = Recorded(add, Replayed), Replayed.made
    for _ in range(WARM_UP + 2):
        for length in (2, 3):
            for factor in (1.0, 2.0):
                total = recorded([torch.ones(length), torch.ones(length)], factor)
                assert total.tolist() == [2.0 * factor] * length
    assert Replayed.made - before == 4


def test_a_replay_writes_into_the_outputs_of_its_recording() -> None:
    recorded = Recorded(add, Replayed)
    results = [recorded([torch.full((2,), float(n)), torch.zeros(2)]) for n in range(WARM_UP + 2)]
    assert results[-1].tolist() == [WARM_UP + 1.0] * 2
    assert results[-2] is results[-1]
    assert results[0].tolist() == [0.0, 0.0]


def test_inputs_may_lie_anywhere_since_they_are_copied() -> None:
    recorded = Recorded(add, Replayed)
    for number in range(WARM_UP + 4):
        inputs = [torch.full((2,), float(number)), torch.zeros(2)]
        assert recorded(inputs).tolist() == [number] * 2
        inputs[0].fill_(-1.0)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_nothing_is_recorded_where_nothing_can(device: str) -> None:
    assert recorder_of(torch.device(device)) is None
    before = Replayed.made
    for _ in range(WARM_UP + 2):
        Recorded(add, None)([torch.ones(1), torch.ones(1)])
    assert Replayed.made == before
