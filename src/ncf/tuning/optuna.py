"""Optuna's side of a search: its study in a database, its samplers and pruners, and its trials as ours.

In: a database's address, parameters, and trials as Optuna keeps them. Out: a study that is open while the
block lasts, values of settings, and `Trial`s. Lists among the choices are stored as JSON, because databases
do not store lists.
"""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from ncf.errors import ConfigError, StorageError, imported
from ncf.tuning.space import Parameter, Space
from ncf.tuning.trials import State, Trial


@contextmanager
def open_study(
    folder: Path, name: str, address: str | None, pruner: str, identity: Mapping[str, str]
) -> Iterator[Any]:
    """Optuna's study `name`, new or continued.

    It is in the database at `address`, by default `study.db` in `folder`. `identity` names the digests of
    what it is about; a study of something else raises `ConfigError`. `pruner` is one of
    `ncf.tuning.study.PRUNERS`.
    """
    optuna = imported("tune", "optuna")
    optuna.logging.set_verbosity(logging.ERROR)
    address = address or f"sqlite:///{(folder / 'study.db').resolve()}"
    if "://" not in address:
        raise ConfigError(
            f"--storage takes the address of a database, such as sqlite:///study.db, not {address!r}."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = _open_storage(address, folder)
        try:
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                direction="maximize",
                load_if_exists=True,
                pruner=_pruner(pruner),
            )
            _same_study(study, name, identity)
            yield study
        finally:
            storage.remove_session()
            storage.engine.dispose()


def _open_storage(address: str, folder: Path) -> Any:
    from optuna.storages import RDBStorage

    try:
        with FileLock(folder / ".study.lock"):  # or two processes would both create the tables
            wait = {"connect_args": {"timeout": 60}} if address.startswith("sqlite") else {}
            return RDBStorage(address, engine_kwargs=wait)
    except Exception as error:
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise StorageError(
            f"The study's database {address.rpartition('@')[2]} cannot be opened: {reason}."
        ) from error


def _same_study(study: Any, name: str, identity: Mapping[str, str]) -> None:
    for part, digest in identity.items():
        known = study.user_attrs.get(part)
        if known is None:
            study.set_user_attr(part, digest)
        elif known != digest:
            raise ConfigError(
                f"The study {name} was started with another {part}: start a new one with --study or --output."
            )


def sampler(seed: int) -> Any:
    """Optuna's TPE sampler with this seed."""
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed % 2**32)


def _pruner(name: str) -> Any:
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

    if name == "none":
        return NopPruner()
    return HyperbandPruner() if name == "hyperband" else MedianPruner(n_warmup_steps=2)


def state_of(name: str) -> Any:
    """Optuna's trial state of this name, such as "COMPLETE"."""
    from optuna.trial import TrialState

    return TrialState[name]


def draw(trial: Any, parameter: Parameter) -> Any:
    """The value that Optuna draws for `parameter` in `trial`."""
    if parameter.kind == "categorical":
        choices = [stored(value) for value in parameter.values]
        return parameter.values[choices.index(trial.suggest_categorical(parameter.name, choices))]
    if parameter.kind == "integer":
        return trial.suggest_int(
            parameter.name, parameter.low, parameter.high, log=parameter.log, step=parameter.step or 1
        )
    return trial.suggest_float(
        parameter.name, parameter.low, parameter.high, log=parameter.log, step=parameter.step
    )


def stored(value: Any) -> Any:
    """A choice as a database stores it: lists as their JSON."""
    return json.dumps(value) if isinstance(value, list) else value


def holds(parameter: Parameter, value: Any) -> bool:
    """Whether the range or choice of `parameter` contains `value`."""
    if parameter.kind == "categorical":
        return value in parameter.values
    low, high, step = parameter.low or 0.0, parameter.high or 0.0, parameter.step
    return low <= value <= high and (
        step is None or abs((value - low) / step - round((value - low) / step)) < 1e-6
    )


_STATES: dict[str, State] = {
    "COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting",
}  # fmt: skip


def trial_of(trial: Any, space: Space) -> Trial:
    """Optuna's `trial` of a search over `space` as ours."""
    attributes = trial.user_attrs
    state = "interrupted" if attributes.get("interrupted") else _STATES[trial.state.name]
    reported = trial.intermediate_values
    value = trial.value if state == "complete" else reported.get(max(reported, default=0))
    parameters = {p.name: _read(p, trial.params[p.name]) for p in space if p.name in trial.params}
    epochs, seconds = max(reported, default=0), attributes.get("seconds", 0.0)
    folder, reason = attributes.get("folder", ""), attributes.get("reason", "")
    return Trial(trial.number, state, value, parameters, epochs, seconds, folder, reason)


def _read(parameter: Parameter, value: Any) -> Any:
    return next((kept for kept in parameter.values if stored(kept) == value), value)
