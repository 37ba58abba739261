"""A NeuMF over a catalogue of any size, with structure that is known and a tower that was really fitted.

In: a number of items. Out: a `NumpyModel` and what its users have used.

Items belong to clusters of different sizes and have a heavy-tailed popularity; users mix a few clusters. The
planted preference is no inner product: a match of tastes, a distance in some tastes, a gate and popularity. A
NeuMF is fitted to it whose tables are linear maps of the latent vectors, so that any number of items can be
had from one short training; each item then gets noise of its own, as training on few interactions would leave
it.

Legend: B users, C items, D latent tastes, F factors, E embedding width.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ncf.config import Experiment
from ncf.data import Csr
from ncf.models import build_model
from ncf.models.neumf import NeuMF
from ncf.runtime import generator
from ncf.serving.numpy_model import Floats, NumpyModel

TASTES, WIDTH, TOWER = 24, 32, [64, 32, 16]
USERS, SEEN = 20_000, 50
_ITEMS_AT_ONCE = 2**18
_STEPS, _USERS_A_STEP, _ITEMS_A_STEP = 600, 64, 192
_NOISE = 0.15


@dataclass(frozen=True)
class World:
    """Cluster centres and their shares; draws users and items."""

    centres_KD: Floats
    shares_K: Floats

    @classmethod
    def of(cls, items: int, random: np.random.Generator) -> "World":
        """About one cluster for 500 items, 5,000 at most, of sizes that fall as a power law."""
        clusters = int(np.clip(items // 500, 20, 5_000))
        strength = np.arange(1, TASTES + 1, dtype=np.float32) ** -0.4
        shares = np.arange(1, clusters + 1) ** -0.7
        return cls(
            (random.normal(size=(clusters, TASTES)) * strength).astype(np.float32),
            (shares / shares.sum()).astype(np.float32),
        )

    def items(self, count: int, random: np.random.Generator) -> Floats:
        """[C, D + 2]: latent vector, log popularity, 1."""
        centres = self.centres_KD[random.choice(len(self.centres_KD), count, p=self._p())]
        own = 0.6 * random.standard_normal((count, TASTES), np.float32) * np.abs(self.centres_KD).mean(axis=0)
        popularity = 0.7 * random.gumbel(size=(count, 1)).astype(np.float32)
        return np.concatenate([centres + own, popularity, np.ones((count, 1), np.float32)], axis=1)

    def users(self, count: int, random: np.random.Generator) -> Floats:
        """[B, D + 1]: a mixture of three clusters and a taste of their own, 1."""
        centres = self.centres_KD[random.choice(len(self.centres_KD), (count, 3), p=self._p())]
        weights = random.dirichlet([0.6] * 3, count).astype(np.float32)
        own = 0.4 * random.standard_normal((count, TASTES), np.float32) * np.abs(self.centres_KD).mean(axis=0)
        vectors = np.einsum("bk,bkd->bd", weights, centres) + own
        return np.concatenate([vectors, np.ones((count, 1), np.float32)], axis=1)

    def _p(self) -> np.ndarray:
        shares = self.shares_K.astype(np.float64)
        return np.asarray(shares / shares.sum())


def preference(users_BD: Tensor, items_CD: Tensor) -> Tensor:
    """Planted logits [B, C]."""
    tastes_BD, tastes_CD, popularity_C = users_BD[:, :TASTES], items_CD[:, :TASTES], items_CD[:, TASTES]
    match = tastes_BD @ tastes_CD.T
    distance = torch.cdist(tastes_BD[:, :6], tastes_CD[:, :6])
    gate = torch.relu(tastes_BD[:, 6:12] @ tastes_CD[:, 12:18].T)
    return 0.8 * match - 0.7 * distance + 0.5 * gate + popularity_C - 2.0


class Maps(nn.Module):
    """From latent vectors to the four tables of a NeuMF."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draws = generator(seed, "maps")
        shapes = {"gmf_user": 1, "mlp_user": 1, "gmf_item": 2, "mlp_item": 2}
        self.of = nn.ParameterDict(
            {
                name: nn.Parameter(torch.randn(TASTES + more, WIDTH, generator=draws) * 0.2)
                for name, more in shapes.items()
            }
        )


def planted_network(items: int, seed: int = 0) -> tuple[NumpyModel, Csr]:
    """The fitted network over `items` items and what its users have used (popular items, by chance)."""
    random = np.random.default_rng(seed)
    world = World.of(items, random)
    model, maps = _fitted(world, random, seed)
    tables = {name: value.detach().numpy() for name, value in maps.of.items()}
    weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    latent_users = world.users(USERS, random)
    weights["gmf.user_table"] = latent_users @ tables["gmf_user"]
    weights["mlp.user_table"] = latent_users @ tables["mlp_user"]
    for half in ("gmf", "mlp"):
        weights[f"{half}.item_table"] = np.empty((items, WIDTH), np.float32)
    for start in range(0, items, _ITEMS_AT_ONCE):
        part = slice(start, min(items, start + _ITEMS_AT_ONCE))
        latent = world.items(part.stop - start, random)
        for half in ("gmf", "mlp"):
            rows = latent @ tables[f"{half}_item"]
            rows += _NOISE * rows.std(axis=0) * random.standard_normal(rows.shape, np.float32)
            weights[f"{half}.item_table"][part] = rows
    seen = np.sort((items * random.random((USERS, SEEN)) ** 2).astype(np.int32), axis=1)
    return NumpyModel(weights), Csr(np.arange(USERS + 1, dtype=np.int64) * SEEN, seen.reshape(-1))


def _fitted(world: World, random: np.random.Generator, seed: int) -> tuple[NeuMF, Maps]:
    """A NeuMF and its maps after a short training by cross-entropy on the planted preference."""
    settings = {"kind": "neumf", "factors": WIDTH, "embedding": WIDTH, "tower": TOWER}
    model = build_model(Experiment.parse({"model": settings}).model, 1, 1, generator(seed, "init"))
    assert isinstance(model, NeuMF)
    maps = Maps(seed)
    optimizer = torch.optim.Adam([*model.parameters(), *maps.parameters()], lr=0.005)
    for _ in range(_STEPS):
        users = torch.from_numpy(world.users(_USERS_A_STEP, random))
        items = torch.from_numpy(world.items(_ITEMS_A_STEP, random))
        optimizer.zero_grad()
        wanted = torch.sigmoid(preference(users, items))
        loss = nn.functional.binary_cross_entropy_with_logits(_logits(model, maps, users, items), wanted)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model, maps


def _logits(model: NeuMF, maps: Maps, users: Tensor, items: Tensor) -> Tensor:
    gmf, mlp = model.gmf, model.mlp
    inner = (users @ maps.of["gmf_user"] * gmf.output) @ (items @ maps.of["gmf_item"]).T + gmf.bias
    hidden = (
        mlp.first.user_half(users @ maps.of["mlp_user"])[:, None]
        + mlp.first.item_half(items @ maps.of["mlp_item"])[None]
    )
    logits: Tensor = inner + mlp.tower(hidden) @ mlp.output + mlp.bias
    return logits
