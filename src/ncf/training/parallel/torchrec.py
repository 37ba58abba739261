"""Two tables sharded over the processes by rows; the only module that uses TorchRec.

In: the table rows that this process asks for. Out: their values, fetched from the processes that hold them;
on the way back their gradients, which the fused optimizer applies where the rows are. Every call is
collective: all processes must make it, with no rows if they need none.

The decision worth knowing: the optimizer is row-wise Adagrad, which keeps one number per row. It is the only
fused row-wise optimizer of FBGEMM that runs on the CPU, and a run should not depend on the device.

Process r of N holds the rows from r * ceil(R / N) on. TorchRec gets a multiple of N rows, because every
process needs at least one.

Legend: R rows of a table, N processes, W width, n rows asked for.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ncf.errors import ConfigError

_EPSILON = 1e-12  # gradients are means over a batch: 1e-6 and smaller
SIDES = ("user_table", "item_table")


class Collection:
    """The user table and the item table, zero at first."""

    def __init__(self, rows: tuple[int, int], width: int, device: torch.device) -> None:
        """`rows` are the numbers of users and items; both tables have `width` columns (a multiple of 4), on
        `device`."""
        self.rows, self.rank, self.size = rows, dist.get_rank(), dist.get_world_size()
        self._sharded, self._jagged = _sharded_collection(
            [self.block(side) * self.size for side in (0, 1)], width, device
        )
        weights = self._sharded.state_dict()
        moments = self._sharded.fused_optimizer.state_dict()["state"]
        self._weights: list[Tensor] = []
        self._sums: list[Tensor] = []
        for name in SIDES:
            key = f"embeddings.{name}.weight"
            self._weights.append(weights[key].local_shards()[0].tensor.zero_())
            self._sums.append(moments[key][f"{name}.momentum1"].local_shards()[0].tensor.zero_())

    def block(self, side: int) -> int:
        """ceil(R / N), the rows per process of `side` (0 users, 1 items); the last processes have fewer."""
        return -(-self.rows[side] // self.size)

    def held(self, side: int) -> range:
        """The rows of `side` that this process holds; the last processes may have none."""
        first = min(self.rank * self.block(side), self.rows[side])
        return range(first, min(first + self.block(side), self.rows[side]))

    def weights(self, side: int) -> Tensor:
        """[held, W]: this process's rows of `side`, not a copy."""
        return self._weights[side][: len(self.held(side))]

    def sums(self, side: int) -> Tensor:
        """[held]: the optimizer's only state, each row's sum of mean squared gradients; not a copy."""
        return self._sums[side][: len(self.held(side))]

    def look_up(self, user_rows: Tensor, item_rows: Tensor) -> tuple[Tensor, Tensor]:
        """[n, W] of `user_rows` and of `item_rows` (int64, distinct). Collective.

        Calling `backward` on the results updates the tables.
        """
        wanted = self._jagged.from_lengths_sync(
            keys=list(SIDES),
            values=torch.cat([user_rows, item_rows]),
            lengths=torch.tensor([len(user_rows), len(item_rows)], device=user_rows.device),
        )
        looked_up = self._sharded(wanted)
        return looked_up[SIDES[0]].values(), looked_up[SIDES[1]].values()

    def set_rate(self, rate: float) -> None:
        """Set the learning `rate` for later look-ups: FBGEMM reads it when rows are looked up, not when they
        are updated."""
        optimizer = self._sharded.fused_optimizer
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()


def need_torchrec() -> None:
    """Raise `ConfigError` if TorchRec is not installed."""
    try:
        importlib.import_module("torchrec.distributed.embedding")
    except ImportError as error:
        raise ConfigError(
            f"train.tables = 'sharded' needs TorchRec, which cannot be imported ({error}): run "
            "scripts/install-torchrec FOLDER to make an environment that has it."
        ) from None


def _sharded_collection(rows: list[int], width: int, device: torch.device) -> tuple[Any, Any]:
    """TorchRec's sharded collection with one feature per table, and its class of jagged tensors."""
    from fbgemm_gpu.split_embedding_configs import EmbOptimType  # type: ignore[import-not-found]
    from torchrec.distributed.comm_ops import set_gradient_division  # type: ignore[import-not-found]
    from torchrec.distributed.embedding import EmbeddingCollectionSharder  # type: ignore[import-not-found]
    from torchrec.distributed.sharding_plan import construct_module_sharding_plan, row_wise  # type: ignore[import-not-found]
    from torchrec.distributed.types import ShardingEnv  # type: ignore[import-not-found]

    from torchrec import EmbeddingCollection, EmbeddingConfig, KeyedJaggedTensor  # type: ignore[import-not-found]

    # torch would warn about a call in TorchRec's own code.
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)
    set_gradient_division(False)  # the gradients of the processes are parts of one mean, so they are summed
    collection = EmbeddingCollection(
        device=torch.device("meta"),
        tables=[
            EmbeddingConfig(name=name, embedding_dim=width, num_embeddings=count, feature_names=[name])
            for name, count in zip(SIDES, rows, strict=True)
        ],
    )
    sharder = EmbeddingCollectionSharder(
        fused_params={"optimizer": EmbOptimType.EXACT_ROWWISE_ADAGRAD, "eps": _EPSILON}
    )
    size = dist.get_world_size()
    plan = construct_module_sharding_plan(
        collection,
        {name: row_wise(compute_kernel="fused") for name in SIDES},
        sharder=sharder,
        local_size=size,
        world_size=size,
        device_type=device.type,
    )
    everyone = ShardingEnv.from_process_group(dist.group.WORLD)
    return sharder.shard(collection, plan, everyone, device), KeyedJaggedTensor
