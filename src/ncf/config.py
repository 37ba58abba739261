"""A recipe: data, model, training, evaluation and pre-training, with one digest of all that matters.

In: a recipe, a TOML file with one table per section, and overrides such as `--set train.epochs=5`. Out:
`Experiment`, frozen. The decision worth knowing: everything is checked here, before anything runs. A mistake
is reported with the name of the field and the values that it allows.
"""

import copy
import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, time
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ncf.errors import ConfigError
from ncf.recipe_files import read_recipe

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]
Duration = Annotated[str, Field(pattern=r"^$|^([0-9]*[1-9][0-9]*(\.[0-9]+)?|0*\.[0-9]*[1-9][0-9]*)[hdw]$")]


class ConfigSection(BaseModel):
    """A frozen section of a recipe; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def checked(cls, values: Mapping[str, Any], source: str) -> Self:
        """The section from `values`; raises `ConfigError` with the first mistake and its `source`."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"{source}: {_first_mistake(error)}") from None


class DataConfig(ConfigSection):
    """Where the prepared data set comes from: a folder of `ncf prepare`, or the name of a known data set."""

    path: str | None = None
    catalog: str | None = None


class ModelConfig(ConfigSection):
    """The architecture. `gmf` uses `factors`, `mlp` the tower, `neumf` both (He et al. 2017). `mf` is a plain
    dot product with item biases. In `history-gmf` and `history-neumf`, a user is its own vector plus the sum
    of its history (`models/history.py`). In `sasrec`, a user is what self-attention makes of the latest items
    (`models/attention.py`), and `sasrec-neumf` has it in the place of its GMF.
    """

    kind: Literal["gmf", "mlp", "neumf", "mf", "history-gmf", "history-neumf", "sasrec", "sasrec-neumf"] = (
        "neumf"
    )
    factors: Count | Literal["auto"] = 64
    """Width of the GMF's tables: the paper's predictive factors. `auto` chooses it on validation, from 8
    to 512 (`training/start_search.py`)."""
    history_exponent: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """The sum over a history of n items is divided by n to this power: 0 gives the sum, 1 the mean."""
    history_dropout: Fraction = 0.0
    """Share of each history that training leaves out, drawn again at each update of its table."""
    history_half_life: NonNegative = 0.0
    """A positive is predicted from the user's earlier items, with weights that halve after this many later
    items. With 0 it is predicted from all other items, with equal weights, and times are not used."""
    history_places: int = Field(default=0, ge=0)
    """A positive is predicted from this many of the user's latest items, with a weight for each place that is
    learned. With 0 there are no such weights."""
    attention_length: Count = 200
    """How many of a user's latest items `sasrec` reads."""
    attention_blocks: Count = 2
    """Blocks of attention, one upon the other."""
    attention_heads: Count = 1
    """Heads of each block; they must divide `factors`."""
    embedding: Count = 128
    """Width of the MLP's user and item tables."""
    tower: tuple[Count, ...] = Field(default=(128, 64, 32), min_length=1)
    """Widths of the hidden layers, first to last; the last is the number of the MLP's predictive factors."""
    dropout: Fraction = 0.0
    """Share of hidden units that training drops after each activation of the tower. In `sasrec` and with
    `history_places`, the share of the numbers of item vectors, and in `sasrec` of what each layer adds."""
    gmf_init_std: Positive = 0.1
    """Standard deviation of the GMF's initial tables."""
    mlp_init_std: Positive = 0.01
    """Standard deviation of the MLP's initial tables."""

    @property
    def width(self) -> int:
        """The number of `factors`; `ConfigError` where it is still to be chosen."""
        if self.factors == "auto":
            raise ConfigError("model.factors is 'auto', which only training replaces: set a number.")
        return self.factors

    @property
    def reads_sequences(self) -> bool:
        """Whether training reads each user's items in their order (`models/sequences.py`)."""
        return self.kind.startswith("sasrec") or self.history_places > 0

    @model_validator(mode="after")
    def _history_settings_go_together(self) -> Self:
        if self.history_places and not self.kind.startswith("history"):
            raise ValueError(
                f"history_places is of 'history-gmf' and 'history-neumf': set it to 0 for {self.kind!r}"
            )
        if self.history_places and self.history_half_life:
            raise ValueError("history_places learns the weights that history_half_life sets: set one to 0")
        if (self.history_places or self.history_half_life) and self.history_dropout:
            raise ValueError(
                "history_dropout needs equal weights in the history: set it to 0, or history_half_life and "
                "history_places"
            )
        if self.reads_sequences and self.factors == "auto":
            raise ValueError(
                "factors = 'auto' chooses the width of a closed form, which a model of sequences does not "
                "start from: set a number"
            )
        if self.kind.startswith("sasrec") and self.width % self.attention_heads:
            raise ValueError("attention_heads must divide factors")
        return self


class TrainConfig(ConfigSection):
    """Training. A group is one user, one positive and `negatives` negatives."""

    epochs: int = Field(default=16, ge=0)
    """Passes over the positives. With 0 the first values are the model: those of the closed form, or with
    pre-training the two models fused."""
    batch_size: Count = 4096
    """Groups per step, over all processes; a few fewer where that makes the steps of an epoch equal."""
    negatives: Count = 4
    """Negatives of a positive. In a model of sequences all positives of a step share them, so they are many;
    as many as there are items, or more, are all items once."""
    sampler: Literal["uniform", "popularity"] = "uniform"
    popularity_exponent: NonNegative = 0.75
    """Negatives are drawn in proportion to (1 + popularity) to this power, with `sampler = "popularity"`."""
    exclude: Literal["training", "known"] = "training"
    """Which positives of a user are never its negatives: those in `training`, or all `known` ones. `known`
    suits a model that ships; it leaks the held-out items into training, so metrics are optimistic."""
    half_life: Duration = ""
    """A positive's weight halves with each half-life of age before the newest one: a number of hours, days or
    weeks, such as 12h, 30d or 2w; with "" age does not matter (`data/decay.py`)."""
    trending: Duration = ""
    """A window before the newest interaction, such as 7d: users of whom nothing is known get what was used
    most in it, instead of the most popular items of all time (`data/decay.py`)."""
    loss: Literal["bce", "bpr", "softmax"] = "bce"
    init: Literal["random", "spectral", "auto"] = "random"
    """`spectral` takes the initial tables from a closed-form model of the data
    (`training/spectral_init.py`). `auto` does the same, and chooses `init_l2` on validation."""
    init_l2: NonNegative = 0.0
    """Ridge penalty of the closed form; 0 takes 200, or 100 where both sides are large."""
    learning_rate: Positive = 0.003
    learning_rate_scaling: Literal["none", "linear", "sqrt"] = "none"
    """The learning rate is fixed, or multiplied by `batch_size` / `learning_rate_batch`, or by its root."""
    learning_rate_batch: Count = 4096
    """The batch size that `learning_rate` was tuned with; used by `learning_rate_scaling`."""
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: Fraction = 0.02
    """Share of all steps during which the learning rate rises from zero."""
    l2_gmf: NonNegative = 0.01
    """L2 on the GMF's table rows of a batch, once per interaction (see `training/kernels/branch.py`)."""
    l2_mlp: NonNegative = 0.0
    """The same for the MLP's tables."""
    l2_history: NonNegative = 0.01
    """The same for the history's table, once per positive."""
    history_every: int = Field(default=0, ge=0)
    """Steps between two updates of the history's table; 0 makes the updates cost less than the steps."""
    weight_decay: NonNegative = 0.0
    """AdamW's decoupled decay of the layers; tables have `l2_gmf` and `l2_mlp` instead."""
    averaging: Fraction = 0.0
    """Decay per step of an exponential moving average of the weights, which is then evaluated and saved."""
    optimizer: Literal["auto", "dense", "lazy"] = "auto"
    """`lazy` updates only the table rows of the batch; `auto` chooses it for large tables, and logs it."""
    tables: Literal["replicated", "sharded"] = "replicated"
    """`sharded` keeps each table row in one process only (TorchRec), for tables larger than one machine's
    memory. The optimizer is then FBGEMM's fused one (docs/scale.md)."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the tower's products in training; weights, losses and logits stay float32."""
    validation: Literal["hold-out", "include"] = "hold-out"
    """`include` adds the validation positives to training, for the final run of a recipe."""
    patience: int = Field(default=0, ge=0)
    """Stop after this many epochs without a better validation NDCG@10 and keep the best; 0 never stops."""
    evaluate_every: Count = 1
    checkpoint_every: Count = 1
    """Epochs between checkpoints; `keep_checkpoints` of them stay."""
    keep_checkpoints: Count = 2
    threads: int = Field(default=0, ge=0)
    """CPU threads; 0 uses every core that this process may use."""
    parts: int = Field(default=0, ge=0)
    """Parts of a step whose gradients are added in a fixed order. Weights are then bit-identical for any
    number of threads, and of processes that divides it. 0 is 4 where that costs nothing (tables up to 16 MiB,
    16,384 groups or more), else one per thread; 4 parts slow small steps down."""
    device: str = "auto"
    seed: int = Field(default=0, ge=0)

    @property
    def negatives_exponent(self) -> float:
        """Negatives are drawn in proportion to (1 + popularity) to this power; 0 is uniform."""
        return self.popularity_exponent if self.sampler == "popularity" else 0.0

    @model_validator(mode="after")
    def _stopping_needs_validation(self) -> Self:
        if self.patience and self.validation == "include":
            raise ValueError(
                "patience needs validation positives held out: set validation = 'hold-out' or patience = 0"
            )
        return self


class EvaluationConfig(ConfigSection):
    """How the run is evaluated (docs/protocol.md)."""

    cutoffs: tuple[Count, ...] = Field(default=(1, 5, 10, 20), min_length=1)
    ties: Literal["expected", "pessimistic", "optimistic"] = "expected"
    bootstrap: int = Field(default=1000, ge=0)
    """Resamples behind the confidence intervals; 0 leaves them out."""


class PublishedConfig(ConfigSection):
    """Published metrics of this model on these data; shown next to ours and never used."""

    source: str
    metrics: dict[str, float]


class PretrainingConfig(ConfigSection):
    """GMF and MLP are trained first, then fused; `alpha` is the GMF's share of the output (equation 13).

    For a `gmf` they are the teachers of a distillation: its tables start from the scores of a closed form and
    both models (`training/initialization.py`), and `alpha` is the share of the closed form and the GMF.
    """

    gmf: "Experiment"
    mlp: "Experiment"
    alpha: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5


class Experiment(ConfigSection):
    """A whole recipe: everything that decides a result, and its name."""

    name: str = Field(default="experiment", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    pretraining: PretrainingConfig | None = None
    published: PublishedConfig | None = None

    @model_validator(mode="after")
    def _widths_are_chosen_with_the_start(self) -> Self:
        if self.model.factors == "auto" and (self.train.init != "auto" or self.pretraining is not None):
            raise ValueError(
                "model.factors = 'auto' needs train.init = 'auto' and no [pretraining]: set a number"
            )
        return self

    @model_validator(mode="after")
    def _sequences_start_at_random(self) -> Self:
        if self.model.reads_sequences and self.train.init != "random":
            raise ValueError("a model of sequences starts at random: set train.init = 'random'")
        return self

    @model_validator(mode="after")
    def _pretraining_fits_the_model(self) -> Self:
        if self.pretraining is None:
            if self.train.epochs == 0 and self.train.init == "random":
                raise ValueError(
                    "train.epochs = 0 keeps random tables: set it to 1 or more, or train.init = 'spectral'"
                )
            return self
        kinds = (self.model.kind, self.pretraining.gmf.model.kind, self.pretraining.mlp.model.kind)
        fused = [(f"{half}neumf", f"{half}gmf", "mlp") for half in ("", "history-")]
        fused.append(("sasrec-neumf", "sasrec", "mlp"))
        if kinds not in (*fused, ("gmf", "gmf", "mlp")):
            raise ValueError(
                "pretraining fuses a gmf, history-gmf or sasrec and an mlp into a neumf, history-neumf or "
                "sasrec-neumf, or distils a gmf and an mlp into a gmf, "
                f"and these are {kinds[1]}, {kinds[2]} and {kinds[0]}"
            )
        return self

    @classmethod
    def load(cls, path: str | Path, overrides: Iterable[str] = ()) -> Self:
        """Read a recipe (TOML) or a resolved experiment (JSON), and apply `section.key=value` overrides."""
        return cls.parse(read_recipe(Path(path)), overrides, source=str(path))

    @classmethod
    def parse(cls, values: Mapping[str, Any], overrides: Iterable[str] = (), source: str = "recipe") -> Self:
        """Check a mapping of sections after applying `overrides`; errors name `source`."""
        merged: dict[str, Any] = copy.deepcopy(dict(values))
        for override in overrides:
            _override(merged, override)
        return cls.checked(merged, source)

    def digest(self) -> str:
        """sha256 over all that decides the result; names, paths and checkpoint intervals do not."""
        return hashlib.sha256(json.dumps(_deciding(self), sort_keys=True).encode()).hexdigest()


def _override(values: dict[str, Any], override: str) -> None:
    """Set one `section.key=value` in `values`; the value is read as the type of its setting asks."""
    name, equals, text = override.partition("=")
    *sections, key = name.strip().split(".")
    if not equals or not key:
        raise ConfigError(f"--set takes section.key=value, such as train.epochs=5, not {override!r}.")
    kinds = _kinds_of(name.strip())
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override}: {section!r} is a value, so it has no keys.")
    values[key] = _read(text.strip(), kinds)


def _read(text: str, kinds: set[Any]) -> Any:
    """The value of a setting of these types: text stays text, all else is TOML where it can be read so."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = _number(text) if kinds & {int, float} else text
    if kinds <= {str, type(None)}:
        return value if isinstance(value, str) else text
    if isinstance(value, float) and int in kinds and float not in kinds and value.is_integer():
        return int(value)
    return text if isinstance(value, date | time) else value


def _number(text: str) -> float | str:
    """`.5` and `+1e5` are no TOML."""
    try:
        return float(text)
    except ValueError:
        return text


def _kinds_of(name: str) -> set[Any]:
    """The types that the setting `name` may have; raises `ConfigError` for an unknown one."""
    kinds: set[Any] = {Experiment}
    for part in name.split("."):
        section = next((kind for kind in kinds if _is_section(kind)), None)
        if section is None:
            # A published metric, or a key of what is no section: pydantic says what is wrong with it.
            return {float}
        if part not in section.model_fields:
            raise ConfigError(_unknown(name))
        kinds = types_of(section.model_fields[part].annotation)
    return kinds


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def types_of(annotation: Any) -> set[Any]:
    """The types in the annotation of a setting: of a union all, of literals those of their values."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return types_of(inner[0])
    if origin is Literal:
        return {type(value) for value in inner}
    if origin in (Union, UnionType):
        return set().union(*map(types_of, inner))
    return {origin or annotation}


def _names(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The names of all settings, without those of pre-training, which are the same again."""
    for name, field in section.model_fields.items():
        inner = next((kind for kind in types_of(field.annotation) if _is_section(kind)), None)
        if inner is None:
            yield f"{prefix}{name}"
        elif inner is not PretrainingConfig:
            yield from _names(inner, f"{prefix}{name}.")


def _unknown(name: str) -> str:
    """The sentence about a setting that does not exist, with the nearest that does."""
    names = list(_names(Experiment))
    inside = re.match(r"pretraining\.(gmf|mlp)\.", name)
    prefix = inside.group() if inside else ""
    wanted = name.removeprefix(prefix)
    same_key = [known for known in names if known.rpartition(".")[2] == wanted.rpartition(".")[2]]
    near = same_key or difflib.get_close_matches(wanted, names, n=1, cutoff=0.6)
    keys = {known.rpartition(".")[2]: known for known in names}
    near = near or [keys[k] for k in difflib.get_close_matches(wanted.rpartition(".")[2], keys, n=1)]
    hint = f"did you mean {prefix}{near[0]}?" if near else "see docs/training.md for the list."
    return f"{name} is not a setting of ncf; {hint}"


def _first_mistake(error: ValidationError) -> str:
    """A sentence for the first error in pydantic's list."""
    mistake = error.errors()[0]
    # Of a setting with several types pydantic names the type as well, such as "constrained-int".
    parts = [str(part) for part in mistake["loc"]]
    field = ".".join(part for part in parts if part.isidentifier() or part.isdigit())
    if mistake["type"] == "extra_forbidden":
        return _unknown(field)
    given = mistake["input"]
    if mistake["type"] == "tuple_type":
        return f"{field}: a list such as [128, 64] is due, not {_shown(given)}."
    if field.endswith(("train.half_life", "train.trending")):
        return (
            f"{field}: a number of hours, days or weeks is due, such as 12h, 30d or 2w, not {_shown(given)}."
        )
    if mistake["type"] == "string_type":
        return f"{field}: a text is due: put {_shown(given)} in quotes."
    message = mistake["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(given, dict) else f", not {_shown(given)}"
    return f"{field}: {message}{shown}." if field else f"{message}."


def _shown(value: Any) -> str:
    """A value as a recipe writes it."""
    return str(value) if isinstance(value, date | time) else repr(value)


_HABITS = {"checkpoint_every", "keep_checkpoints"}


_ADDED: dict[str, dict[str, Any]] = {
    "train": {"half_life": "", "trending": ""},
    "model": {"attention_length": 200, "attention_blocks": 2, "attention_heads": 1, "history_places": 0},
}
"""Settings that came later, with the values that change nothing."""
_NEVER = object()


def _deciding(experiment: Experiment) -> dict[str, Any]:
    values = experiment.model_dump(
        mode="json", exclude={"name", "data", "evaluation", "pretraining", "published"}
    )
    values["train"] = {key: value for key, value in values["train"].items() if key not in _HABITS}
    for section, added in _ADDED.items():  # recipes from before these keep their digests
        values[section] = {
            key: value for key, value in values[section].items() if added.get(key, _NEVER) != value
        }
    if experiment.pretraining:
        values["pretraining"] = {
            "alpha": experiment.pretraining.alpha,
            "gmf": _deciding(experiment.pretraining.gmf),
            "mlp": _deciding(experiment.pretraining.mlp),
        }
    return values
