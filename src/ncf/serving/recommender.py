"""The recommender: a fitted model that speaks the caller's ids only.

In: user and item ids in the type the caller has. Out: ids of the same type, with scores (logits: higher is better,
comparable within a user). One id in gives one answer, a sequence of ids a list of answers. Whoever is unknown is
answered by popularity, and `source` says so; with `strict` it is an error.

Legend: B users of a request, I items, k items wanted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from ncf.errors import ConfigError, UnknownIdError
from ncf.models import Scorer, mask_items
from ncf.serving.artifact import Artifact, open_artifact
from ncf.serving.ranking import best

_SCORES_AT_ONCE = 2**22
Id = Any


@dataclass(frozen=True)
class Recommendation:
    """The answer for one user (or item): ids best first, their scores, and where they come from.

    `source` is "model", "popularity" for an unknown user, or "similar". `ignored` names ids of the request that
    the model does not know.
    """

    subject: Id
    items: list[Id]
    scores: list[float]
    source: str
    ignored: list[Id] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[Id, float]]:
        return iter(zip(self.items, self.scores, strict=True))

    def __len__(self) -> int:
        return len(self.items)


class Recommender:
    """Recommendations, scores and similar items from an artifact."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self.users, self.items = artifact.users, artifact.items
        self._scorer = Scorer(artifact.model)
        popularity = artifact.item_columns["popularity"].to_numpy().astype(np.float32)
        self._popularity_I = torch.from_numpy(popularity)
        with torch.inference_mode():
            self._vectors = torch.nn.functional.normalize(artifact.model.item_vectors(), dim=1)

    @classmethod
    def open(cls, path: str | Path) -> "Recommender":
        """From an artifact folder or the output folder of a training run; raises `ArtifactError`."""
        return cls(open_artifact(path))

    def recommend(
        self,
        users: Id | Sequence[Id],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        candidates: Sequence[Id] | None = None,
        exclude: Sequence[Id] = (),
        strict: bool = False,
    ) -> Any:
        """The best `k` items of each user: one `Recommendation` for one id, a list of them for a sequence.

        `candidates` limits the answer to these items, `exclude` leaves items out; ids among them that the model does
        not know are named in `ignored`. Fewer than `k` come back where fewer are left. Raises `ConfigError` for a
        bad `k` and `UnknownIdError` for an unknown user with `strict`.
        """
        _check_k(k)
        if _is_one(users):
            return self.recommend(
                [users], k, exclude_seen=exclude_seen, candidates=candidates, exclude=exclude, strict=strict
            )[0]
        rows = self.users.rows(list(users))
        if strict:
            _refuse_unknown("user", list(users), rows)
        allowed, ignored = self._allowed(candidates, exclude)
        answers: list[Recommendation] = []
        for start in range(0, len(rows), self.users_at_once):
            part = rows[start : start + self.users_at_once]
            scores, items = self.rank(part, k, exclude_seen, allowed)
            for place, row in enumerate(part):
                answers.append(self._answer(users[start + place], row, scores[place], items[place], ignored))
        return answers

    @property
    def users_at_once(self) -> int:
        """How many users are scored against the catalogue in one go, so that memory stays bounded."""
        return max(1, _SCORES_AT_ONCE // max(1, len(self.items)))

    @torch.inference_mode()
    def rank(
        self, user_rows: np.ndarray, k: int, exclude_seen: bool = True, allowed_I: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Scores and item rows [B, k] for rows of users, -1 being an unknown one; minus infinity fills up."""
        known = torch.from_numpy(user_rows >= 0)
        users_B = torch.from_numpy(np.maximum(user_rows, 0).astype(np.int64))
        scores_BI = self._scorer.catalogue(users_B)
        scores_BI[~known] = self._popularity_I
        if exclude_seen:
            mask_items(scores_BI, self.artifact.seen, user_rows)
        if allowed_I is not None:
            scores_BI.masked_fill_(~allowed_I, -torch.inf)
        return best(scores_BI, k)

    @torch.inference_mode()
    def score(self, users: Sequence[Id], items: Sequence[Id]) -> np.ndarray:
        """[N] float32: the score of each pair (users[n], items[n]). Raises `UnknownIdError` for unknown ids."""
        if len(users) != len(items):
            raise ConfigError(
                f"Pairs need as many users as items, and these are {len(users)} and {len(items)}."
            )
        user_rows, item_rows = self.users.rows(list(users)), self.items.rows(list(items))
        _refuse_unknown("user", list(users), user_rows)
        _refuse_unknown("item", list(items), item_rows)
        users_N, items_N = (torch.from_numpy(rows.astype(np.int64)) for rows in (user_rows, item_rows))
        return np.asarray(self._scorer(users_N, items_N[:, None]).squeeze(1).numpy())

    @torch.inference_mode()
    def similar_items(self, item: Id, k: int = 10) -> Recommendation:
        """The `k` items whose vectors have the largest cosine with this item's. Raises `UnknownIdError`."""
        _check_k(k)
        row = self.items.rows([item])
        _refuse_unknown("item", [item], row)
        cosine_I = self._vectors @ self._vectors[int(row[0])]
        cosine_I[int(row[0])] = -torch.inf
        scores, rows = best(cosine_I[None], k)
        return self._listed(self.items.ids_of(row).tolist()[0], scores[0], rows[0], "similar", [])

    def describe(self, items: Sequence[Id]) -> list[dict[str, Any]]:
        """What there is to display of each item: its id, title and other columns; only the id of an unknown one."""
        rows = self.items.rows(list(items))
        known = self.artifact.item_columns[[int(row) for row in rows if row >= 0]].to_dicts()
        found = iter(known)
        return [next(found) if row >= 0 else {"id": item} for item, row in zip(items, rows, strict=True)]

    def batches(self, k: int = 10, exclude_seen: bool = True) -> Iterator[pl.DataFrame]:
        """Recommendations for every user, a bounded number of users at a time: user, rank, item, score."""
        _check_k(k)
        for start in range(0, len(self.users), self.users_at_once):
            rows = np.arange(start, min(len(self.users), start + self.users_at_once), dtype=np.int32)
            scores, items = self.rank(rows, k, exclude_seen)
            yield self._table(rows, scores.numpy(), items.numpy())

    def _table(self, user_rows: np.ndarray, scores: np.ndarray, items: np.ndarray) -> pl.DataFrame:
        users, ranks = np.nonzero(scores > -np.inf)
        return pl.DataFrame(
            {
                "user": self.users.ids_of(user_rows[users]),
                "rank": (ranks + 1).astype(np.int32),
                "item": self.items.ids_of(items[users, ranks]),
                "score": scores[users, ranks],
            },
            schema=self.batch_schema,
        )

    @property
    def batch_schema(self) -> dict[str, Any]:
        """Columns of `batches`: ids are in the type they were prepared with."""
        types: dict[str, Any] = {"integer": pl.Int64, "string": pl.String}
        return {
            "user": types[self.users.kind],
            "rank": pl.Int32,
            "item": types[self.items.kind],
            "score": pl.Float32,
        }

    def _allowed(
        self, candidates: Sequence[Id] | None, exclude: Sequence[Id]
    ) -> tuple[Tensor | None, list[Id]]:
        """[I] bool, None for everything; and the ids that are not known."""
        if candidates is None and not len(exclude):
            return None, []
        ignored: list[Id] = []
        allowed_I = torch.full((len(self.items),), candidates is None)
        for ids, verdict in ((candidates, True), (exclude, False)):
            if ids is None:
                continue
            rows = self.items.rows(list(ids))
            ignored += [item for item, row in zip(ids, rows, strict=True) if row < 0]
            allowed_I[torch.from_numpy(rows[rows >= 0].astype(np.int64))] = verdict
        return allowed_I, ignored

    def _answer(self, user: Id, row: int, scores: Tensor, items: Tensor, ignored: list[Id]) -> Recommendation:
        if row < 0:
            return self._listed(user, scores, items, "popularity", ignored)
        return self._listed(self.users.ids_of([row]).tolist()[0], scores, items, "model", ignored)

    def _listed(
        self, subject: Id, scores: Tensor, rows: Tensor, source: str, ignored: list[Id]
    ) -> Recommendation:
        there = scores > -torch.inf
        return Recommendation(
            subject, self.items.ids_of(rows[there].numpy()).tolist(), scores[there].tolist(), source, ignored
        )


def _is_one(users: Any) -> bool:
    return isinstance(users, str | int | np.integer)


def _check_k(k: int) -> None:
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ConfigError(f"k must be a whole number of at least 1, and not {k!r}.")


def _refuse_unknown(kind: str, ids: list[Id], rows: np.ndarray) -> None:
    unknown = [given for given, row in zip(ids, rows, strict=True) if row < 0]
    if unknown:
        raise UnknownIdError(
            f"The model does not know {kind} {unknown[0]!r}"
            + (f" and {len(unknown) - 1} others" if len(unknown) > 1 else "")
            + f": check the id, or train again with data that have {'them' if len(unknown) > 1 else 'it'}."
        )
