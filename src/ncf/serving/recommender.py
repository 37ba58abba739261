"""The recommender: a trained model that takes and returns the caller's ids.

In: user and item ids in the caller's type. Out: ids of the same type, with scores (logits: higher is better,
comparable within a user). One id gives one answer, a sequence of ids a list of answers. An unknown user is
answered from the history in the request, else by popularity, or by what is trending where the model was
trained with `train.trending`; `source` says which. With `strict` an unknown user is an error.

The one decision worth knowing: known users, visitors and users with new history differ only in where their
vector comes from. `vector -> query -> ranked items` is the same code for all of them.

Legend: B users of a request, I items, k items wanted, W width of a user vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

import numpy as np
import numpy.typing as npt
import polars as pl

from ncf.errors import ArtifactError, ConfigError, UnknownIdError
from ncf.serving.artifact import Artifact, open_artifact
from ncf.serving.history_embedding import Ages
from ncf.serving.numpy_model import Floats, NumpyModel, Rows
from ncf.serving.retrieval.brute_force import BruteForce, PopularityRanker, Ranker, Similar

USERS_AT_ONCE = 256
Id = str | int
Mask = npt.NDArray[np.bool_]
Source = Literal["model", "fold_in", "popularity", "trending", "similar"]
_MODEL: Source = "model"
_FOLD_IN: Source = "fold_in"
_NO_ROWS: Rows = np.empty(0, np.int64)


@dataclass(frozen=True)
class Recommendation:
    """The answer for one user, visitor or item."""

    subject: Any
    """The id that the answer is about, None for a visitor."""
    items: list[Any]
    """Item ids, best first."""
    scores: list[float]
    source: Source
    """"fold_in" where the request's history counted, "popularity" or "trending" for an unknown user."""
    ignored: list[Any] = field(default_factory=list)
    """Ids of the request that the model does not know."""

    def __iter__(self) -> Iterator[tuple[Any, float]]:
        return iter(zip(self.items, self.scores, strict=True))

    def __len__(self) -> int:
        return len(self.items)

    def to_polars(self) -> pl.DataFrame:
        """A frame of `rank` (from 1), `item` and `score`."""
        ranks = range(1, len(self.items) + 1)
        return pl.DataFrame({"rank": ranks, "item": self.items, "score": self.scores})

    def to_pandas(self) -> Any:
        """The same as a pandas frame; needs pandas."""
        return _as_pandas(self.to_polars())

    def _repr_html_(self) -> str:
        return self.to_polars()._repr_html_()


class RecommendationList(list[Recommendation]):
    """The answers for several users or items, in their order."""

    def to_polars(self) -> pl.DataFrame:
        """One frame of all answers: `subject` (the user), `rank`, `item`, `score` and `source`."""
        return pl.DataFrame(
            {
                "subject": _one_type([answer.subject for answer in self for _ in answer.items]),
                "rank": [rank for answer in self for rank in range(1, len(answer) + 1)],
                "item": [item for answer in self for item in answer.items],
                "score": [score for answer in self for score in answer.scores],
                "source": [answer.source for answer in self for _ in answer.items],
            }
        )

    def to_pandas(self) -> Any:
        """The same as a pandas frame; needs pandas."""
        return _as_pandas(self.to_polars())

    def _repr_html_(self) -> str:
        return self.to_polars()._repr_html_()


def _one_type(ids: list[Any]) -> list[Any]:
    """The ids as they are, or all as text where some are: a column has one type."""
    return [str(id) for id in ids] if any(isinstance(id, str) for id in ids) else ids


def _as_pandas(frame: pl.DataFrame) -> Any:
    try:
        pandas = import_module("pandas")
    except ImportError:
        raise ConfigError("to_pandas needs the package pandas: pip install pandas.") from None
    return pandas.DataFrame(frame.to_dict(as_series=False))


class RecommendOptions(TypedDict, total=False):
    """The options of `Recommender.recommend`, for its overloads."""

    history: Sequence[Id] | None
    exclude_seen: bool
    candidates: Sequence[Id] | None
    exclude: Sequence[Id]
    strict: bool


@dataclass(frozen=True)
class _Filters:
    """The rows that may appear: `allowed` (None: all) without `excluded`; `ignored` are unknown ids."""

    allowed: Rows | None
    excluded: Rows
    ignored: list[Any]


class Recommender:
    """Recommendations, scores and similar items from an artifact."""

    def __init__(self, artifact: Artifact, *, exact: bool = False) -> None:
        """With `exact` the full model scores every item; otherwise only candidates (see `retrieval/`)."""
        self.artifact = artifact
        self.users, self.items = artifact.users, artifact.items
        self.network = _network(artifact)
        self._ranker: Ranker = BruteForce(self.network) if exact else artifact.retrieval(self.network)
        self._fold_in = artifact.fold_in(self.network)
        columns, self.window = artifact.item_columns, artifact.experiment.train.trending
        lately = columns["trending"].to_numpy() if self.window else None
        self._popular = PopularityRanker(columns["popularity"].to_numpy(), lately)
        self._similar = Similar(self.network)

    @classmethod
    def open(cls, path: str | Path, *, exact: bool = False) -> Recommender:
        """From the artifact folder (or the output folder of a training run) at `path`; raises
        `ArtifactError`.
        """
        return cls(open_artifact(path), exact=exact)

    @overload  # A str is a Sequence as well, and one id.
    def recommend(  # type: ignore[overload-overlap]
        self, users: Id, k: int = 10, **options: Unpack[RecommendOptions]
    ) -> Recommendation: ...

    @overload
    def recommend(
        self, users: Sequence[Id], k: int = 10, **options: Unpack[RecommendOptions]
    ) -> RecommendationList: ...

    def recommend(
        self,
        users: Id | Sequence[Id],
        k: int = 10,
        *,
        history: Sequence[Id] | None = None,
        exclude_seen: bool = True,
        candidates: Sequence[Id] | None = None,
        exclude: Sequence[Id] = (),
        strict: bool = False,
    ) -> Recommendation | RecommendationList:
        """The best items of each user: one `Recommendation` for one id, a list of them for a sequence.

        Raises `ConfigError` for a bad `k` or a history for several users, `UnknownIdError` for an unknown
        user with `strict`.

        Args:
            users: one id, or several.
            k: how many items; fewer come back where fewer are left.
            history: what one user has used since training, oldest first. It is added to the known items of a
                known user, and is all that is known of another.
            exclude_seen: leave out the items that the user has used.
            candidates: only these items may appear.
            exclude: these items may not appear. Unknown ids here and in `candidates` are in `ignored`.
            strict: an unknown user is an error.
        """
        check_k(k)
        ids: Sequence[Id] = [users] if isinstance(users, str | int | np.integer) else users
        rows = self.users.rows(list(ids))
        if strict:
            _refuse_unknown("user", list(ids), rows)
        filters = self._filters(candidates, exclude)
        if history is None:
            answers = self._for_users(ids, rows, k, exclude_seen, filters)
        elif len(rows) == 1:
            answers = [self._with_history(ids[0], int(rows[0]), history, k, exclude_seen, filters)]
        else:
            raise ConfigError(
                f"A history belongs to one user, but there are {len(rows)}: ask for one at a time."
            )
        return answers[0] if ids is not users else RecommendationList(answers)

    def recommend_visitor(
        self,
        history: Sequence[Id],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        candidates: Sequence[Id] | None = None,
        exclude: Sequence[Id] = (),
    ) -> Recommendation:
        """The best `k` items for a user who was not in training and has used the items of `history`, oldest
        first.

        The order counts only in models that know it (`model.history_half_life`, `model.history_places`,
        `sasrec`); the last occurrence of an item counts. Unknown items of the history are returned in
        `ignored`. Where no item of it was used in training, the answer is by popularity. `exclude_seen`
        leaves the history out of the answer; `candidates` and `exclude` are those of `recommend`. Raises
        `ConfigError` for a bad `k`.
        """
        check_k(k)
        return self._with_history(None, -1, history, k, exclude_seen, self._filters(candidates, exclude))

    def trending(
        self, k: int = 10, *, candidates: Sequence[Id] | None = None, exclude: Sequence[Id] = ()
    ) -> Recommendation:
        """The `k` items that were used most in the window before the newest interaction (`train.trending`).

        Scores are uses, or sums of weights. `candidates` and `exclude` are those of `recommend`. Raises
        `ConfigError` where the model was trained without a window.
        """
        check_k(k)
        if not self.window:
            raise ConfigError(
                "The model was trained without a window for what is trending: train again with --set "
                "train.trending=7d."
            )
        filters = self._filters(candidates, exclude)
        return self._popular_answer(None, k, filters.excluded, filters, filters.ignored)

    def score(self, users: Sequence[Id], items: Sequence[Id]) -> Floats:
        """[N] float32: the score of each pair (users[n], items[n]). Raises `UnknownIdError`."""
        if len(users) != len(items):
            raise ConfigError(
                f"Pairs need as many users as items, but there are {len(users)} and {len(items)}."
            )
        user_rows, item_rows = self.users.rows(list(users)), self.items.rows(list(items))
        _refuse_unknown("user", list(users), user_rows)
        _refuse_unknown("item", list(items), item_rows)
        if not len(users):
            return np.empty(0, np.float32)
        parts = []
        for start in range(0, len(users), USERS_AT_ONCE):
            part = slice(start, start + USERS_AT_ONCE)
            queries = self.network.user_queries(user_rows[part])
            parts.append(self.network.scores(queries, self.network.sides(item_rows[part, None]))[:, 0])
        return np.concatenate(parts)

    def similar_items(
        self, item: Id, k: int = 10, *, candidates: Sequence[Id] | None = None, exclude: Sequence[Id] = ()
    ) -> Recommendation:
        """The `k` items whose vectors have the largest cosine with that of `item`.

        `candidates` and `exclude` are those of `recommend`. Raises `UnknownIdError` for an unknown item.
        """
        check_k(k)
        row = self.items.rows([item])
        _refuse_unknown("item", [item], row)
        filters = self._filters(candidates, exclude)
        hidden = np.append(filters.excluded, row)
        scores, rows = self._similar.top(int(row[0]), k, hidden, filters.allowed)
        return self._listed(self.items.ids_of(row).tolist()[0], scores, rows, "similar", filters.ignored)

    def describe(self, items: Sequence[Id]) -> list[dict[str, Any]]:
        """The id, title and other columns of each of `items`; only the id of an unknown one."""
        rows = self.items.rows(list(items))
        columns = iter(self.artifact.item_columns[[int(row) for row in rows if row >= 0]].to_dicts())
        return [next(columns) if row >= 0 else {"id": item} for item, row in zip(items, rows, strict=True)]

    def rank(
        self, user_rows: Rows, k: int, exclude_seen: bool = True, excluded: Rows | None = None
    ) -> tuple[Floats, Rows]:
        """Scores and item rows, both [B, min(k, I)], of known users, best first; minus infinity fills up.

        `user_rows` [B] are the users, and `exclude_seen` leaves out the items that they have used. `excluded`
        are the rows of further items that no user gets, ascending.
        """
        filters = _Filters(None, _NO_ROWS if excluded is None else excluded, [])
        hidden = [self._hidden(row, exclude_seen, filters) for row in user_rows.tolist()]
        scores, items = self._ranker.top(self.network.user_queries(user_rows), k, hidden, None, user_rows)
        for place in np.flatnonzero(~self._is_trained(user_rows)).tolist():
            popular, rows = self._popular.top(k, hidden[place])
            scores[place] = -np.inf
            scores[place, : len(rows)], items[place, : len(rows)] = popular, rows
        return scores, items

    def _for_users(
        self, users: Sequence[Id], rows: Rows, k: int, exclude_seen: bool, filters: _Filters
    ) -> list[Recommendation]:
        """Answers in the order of `users`; those whom training does not have by popularity."""
        answers: list[Recommendation] = []
        for start in range(0, len(rows), USERS_AT_ONCE):
            part = rows[start : start + USERS_AT_ONCE]
            knows = self._is_trained(part)
            known = part[knows]
            hidden = [self._hidden(row, exclude_seen, filters) for row in known.tolist()]
            queries_BQ = self.network.user_queries(known)
            scores, items = self._ranker.top(queries_BQ, k, hidden, filters.allowed, known)
            ranked = iter(zip(self.users.ids[known].tolist(), scores, items, strict=True))
            for place, user in enumerate(users[start : start + USERS_AT_ONCE]):
                if knows[place]:
                    answers.append(self._listed(*next(ranked), "model", filters.ignored))
                else:
                    hidden_here = self._hidden(int(part[place]), exclude_seen, filters)
                    answers.append(self._popular_answer(user, k, hidden_here, filters, filters.ignored))
        return answers

    def _is_trained(self, rows: Rows) -> Mask:
        """Whether the model knows each of the users `rows`: not -1, and not without training interactions."""
        untrained = self.artifact.untrained_users
        known: Mask = rows >= 0
        return known & ~np.isin(rows, untrained) if len(untrained) else known

    def _with_history(
        self, user: Any, row: int, history: Sequence[Id], k: int, exclude_seen: bool, filters: _Filters
    ) -> Recommendation:
        """The answer for a known user (`row`) or a visitor (-1) with the items of `history`."""
        used, unknown = self._rows(history)
        ignored = [*unknown, *filters.ignored]
        hidden = self._hidden(row, exclude_seen, filters)
        if exclude_seen:
            hidden = np.concatenate([hidden, _distinct(used)])
        trained = bool(self._is_trained(np.array([row]))[0])
        if not trained and not len(self._fold_in.informative(used)):
            return self._popular_answer(user, k, hidden, filters, ignored)
        if not trained:
            vector, source = self._fold_in.vector(used), _FOLD_IN
        else:
            known = self.network.user_vectors(np.array([row]))[0]
            vector = self._fold_in.updated(known, self.artifact.seen.row(row), used, self._ages(row))
            source, user = _MODEL if vector is known else _FOLD_IN, self.users.ids_of([row]).tolist()[0]
        scores, items = self._ranker.top(self.network.queries(vector[None]), k, [hidden], filters.allowed)
        return self._listed(user, scores[0], items[0], source, ignored)

    def _hidden(self, row: int, exclude_seen: bool, filters: _Filters) -> Rows:
        if row < 0 or not exclude_seen:
            return filters.excluded
        seen = self.artifact.seen.row(row)
        return np.concatenate([seen, filters.excluded]) if len(filters.excluded) else seen

    def _filters(self, candidates: Sequence[Id] | None, exclude: Sequence[Id]) -> _Filters:
        excluded, unknown = self.known_items(exclude) if len(exclude) else (_NO_ROWS, [])
        if candidates is None:
            return _Filters(None, excluded, unknown)
        allowed, ignored = self.known_items(candidates)
        return _Filters(allowed, excluded, ignored + unknown)

    def _ages(self, row: int) -> Ages | None:
        """The ages of a known user's items, where their order counts."""
        if self._fold_in.embedding is None:
            return None
        first, end = self.artifact.seen.offsets[row : row + 2].tolist()
        return self._fold_in.embedding.ages_of(slice(first, end))

    def known_items(self, items: Sequence[Id]) -> tuple[Rows, list[Any]]:
        """Rows of the items, each once and ascending, and the ids that are not known."""
        rows, unknown = self._rows(items)
        return _distinct(rows), unknown

    def _rows(self, items: Sequence[Id]) -> tuple[Rows, list[Any]]:
        """Rows of the items as they come, and the ids that are not known."""
        rows = self.items.rows(list(items))
        if len(rows) and rows.min() < 0:
            unknown = [item for item, row in zip(items, rows.tolist(), strict=True) if row < 0]
            return rows[rows >= 0], unknown
        return rows, []

    def _popular_answer(
        self, user: Any, k: int, hidden: Rows, filters: _Filters, ignored: list[Any]
    ) -> Recommendation:
        scores, rows = self._popular.top(k, hidden, filters.allowed)
        return self._listed(user, scores, rows, "trending" if self.window else "popularity", ignored)

    def _listed(
        self, subject: Any, scores: Floats, rows: Rows, source: Source, ignored: list[Any]
    ) -> Recommendation:
        if len(scores) and scores[-1] == -np.inf:
            there = scores > -np.inf
            scores, rows = scores[there], rows[there]
        return Recommendation(subject, self.items.ids[rows].tolist(), scores.tolist(), source, ignored)


def _network(artifact: Artifact) -> NumpyModel:
    """The network of these weights, asked once; raises `ArtifactError` where they do not fit each other."""
    try:
        network = NumpyModel(artifact.weights)
        first = np.zeros(min(1, network.users, network.items), np.int64)
        network.scores(network.user_queries(first), network.sides(first[:, None]))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"The artifact {artifact.folder} cannot be read (its weights do not fit each other: {error}): "
            "copy it again, or retrain."
        ) from error
    return network


def _distinct(rows: Rows) -> Rows:
    """`np.unique(rows)`, in half of its time for a short list."""
    rows = np.sort(rows)
    if len(rows) < 2:
        return rows
    first = np.empty(len(rows), np.bool_)
    first[0] = True
    np.not_equal(rows[1:], rows[:-1], out=first[1:])
    return rows[first]


def check_k(k: int) -> None:
    """Raise `ConfigError` unless `k` is a whole number of at least 1."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ConfigError(f"k must be a whole number of at least 1, not {k!r}.")


def _refuse_unknown(kind: str, ids: list[Any], rows: Rows) -> None:
    unknown = [given for given, row in zip(ids, rows, strict=True) if row < 0]
    if unknown:
        raise UnknownIdError(
            f"The model does not know {kind} {unknown[0]!r}"
            + (f" and {len(unknown) - 1} others" if len(unknown) > 1 else "")
            + f": check the id, or train again on data with {'them' if len(unknown) > 1 else 'it'}."
        )
