"""The peer: training and evaluating NeuMF item by item, in the style of the public PyTorch port of NCF.

Written for this comparison; nothing of it is used by the package. It has the habits that such code commonly
has: a Python loop that draws negatives and looks each up in a dictionary-of-keys matrix, a `Dataset` that
hands out one (user, item, label) at a time, concatenated embeddings, dense gradients.
"""

import math
from collections.abc import Container, Iterable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ncf.models import NeuMF


class PlainNeuMF(nn.Module):
    """NeuMF over flat (user, item) pairs: four embeddings, a tower on the concatenation, one output layer."""

    def __init__(self, users: int, items: int, factors: int, embedding: int, tower: tuple[int, ...]) -> None:
        super().__init__()
        self.user_gmf, self.item_gmf = nn.Embedding(users, factors), nn.Embedding(items, factors)
        self.user_mlp, self.item_mlp = nn.Embedding(users, embedding), nn.Embedding(items, embedding)
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise((2 * embedding, *tower)):
            layers += [nn.Linear(width_in, width_out), nn.ReLU()]
        self.tower = nn.Sequential(*layers)
        self.output = nn.Linear(factors + tower[-1], 1)
        for table in (self.user_gmf, self.item_gmf, self.user_mlp, self.item_mlp):
            nn.init.normal_(table.weight, std=0.01)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """Logits [N] of N pairs."""
        gmf = self.user_gmf(user) * self.item_gmf(item)
        mlp = self.tower(torch.cat((self.user_mlp(user), self.item_mlp(item)), -1))
        logits: Tensor = self.output(torch.cat((gmf, mlp), -1)).view(-1)
        return logits

    @torch.no_grad()
    def take(self, model: NeuMF) -> "PlainNeuMF":
        """Copy the weights of a model of the package: the halves of its layers side by side."""
        gmf, mlp = model.gmf, model.mlp
        self.user_gmf.weight.copy_(gmf.user_table)
        self.item_gmf.weight.copy_(gmf.item_table)
        self.user_mlp.weight.copy_(mlp.user_table)
        self.item_mlp.weight.copy_(mlp.item_table)
        first, *others = [layer for layer in self.tower if isinstance(layer, nn.Linear)]
        first.weight.copy_(torch.cat((mlp.first.user_weight, mlp.first.item_weight), 1))
        first.bias.copy_(mlp.first.bias)
        for mine, theirs in zip(others, mlp.tower.linears(), strict=True):
            mine.load_state_dict(theirs.state_dict())
        self.output.weight.copy_(torch.cat((gmf.output, mlp.output))[None])
        self.output.bias.copy_(gmf.bias + mlp.bias)
        return self


def draw_negatives(
    positives: Iterable[tuple[int, int]], known: Container[tuple[int, int]], items: int, negatives: int
) -> list[tuple[int, int]]:
    """(user, negative) pairs: drawn until one is not known, one at a time."""
    drawn = []
    for user, _ in positives:
        for _ in range(negatives):
            item = np.random.randint(items)  # noqa: NPY002 - as such code draws
            while (user, item) in known:
                item = np.random.randint(items)  # noqa: NPY002
            drawn.append((user, item))
    return drawn


class Samples(Dataset[tuple[int, int, float]]):
    """One (user, item, label) at a time, from lists."""

    def __init__(self, pairs: list[tuple[int, int]], labels: list[float]) -> None:
        self.pairs, self.labels = pairs, labels

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[int, int, float]:
        user, item = self.pairs[index]
        return user, item, self.labels[index]


Loader = DataLoader[tuple[int, int, float]]


def training_loader(samples: Samples, workers: int) -> Loader:
    """Batches of 256 in random order."""
    return DataLoader(samples, batch_size=256, shuffle=True, num_workers=workers)


def train_batch(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor, Tensor]
) -> None:
    """One step of binary cross-entropy."""
    user, item, label = batch
    model.zero_grad()
    loss = nn.functional.binary_cross_entropy_with_logits(model(user, item), label.float())
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def evaluate(
    model: nn.Module, batches: Iterable[Sequence[Tensor]], top: int = 10
) -> tuple[list[int], list[float]]:
    """HR@top and NDCG@top of each list: a batch is one user's list, its positive in the first place.

    Whether gradients are recorded is the caller's choice; the port records them.
    """
    hits, gains = [], []
    for user, item, *_ in batches:
        _, best = torch.topk(model(user, item), top)
        recommended = torch.take(item, best).tolist()
        positive = item[0].item()
        hit = positive in recommended
        hits.append(int(hit))
        gains.append(1.0 / math.log2(recommended.index(positive) + 2) if hit else 0.0)
    return hits, gains


def evaluation_loader(pairs: list[tuple[int, int]], width: int) -> Loader:
    """Batches of one list each."""
    return DataLoader(Samples(pairs, [0.0] * len(pairs)), batch_size=width, shuffle=False, num_workers=0)
