"""What an experiment is: data, model, training, evaluation, pre-training. One digest stands for all of it.

A recipe is a TOML file with one table a section; `--set train.epochs=5` overrides one value. Everything is checked
here, before anything runs, and a mistake is answered with the field's name and what it admits.
"""

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ncf.errors import ConfigError

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]


class ConfigSection(BaseModel):
    """Frozen, and no key is ignored: a misspelt one is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def checked(cls, values: Mapping[str, Any], source: str) -> Self:
        """The section from a mapping; raises `ConfigError` with the first mistake, named after `source`."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"{source}: {_first_mistake(error)}") from None


class DataConfig(ConfigSection):
    """Where the prepared data set comes from: a folder of `ncf prepare`, or a known data set by name."""

    path: str | None = None
    catalog: str | None = None


class ModelConfig(ConfigSection):
    """The architecture. `gmf` uses `factors`, `mlp` the tower, `neumf` both (He et al. 2017); `mf` is the plain dot product
    with item biases; `history-gmf` and `history-neumf` have users of an own vector and a history (`models/history.py`)."""

    kind: Literal["gmf", "mlp", "neumf", "mf", "history-gmf", "history-neumf"] = "neumf"
    factors: Count = 64
    """Width of the GMF tables, the paper's predictive factors."""
    history_exponent: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """The sum over a history of n items is divided by n to this power: 0 is the sum, 1 the mean."""
    history_dropout: Fraction = 0.0
    """Share of each history that is left out in training, drawn anew whenever the history's table moves."""
    history_half_life: NonNegative = 0.0
    """With times: a positive is predicted from what its user used before it, where an item counts half of the latest after
    this many later ones. 0: from all of the user's other items, which count alike."""
    embedding: Count = 128
    """Width of the MLP's user and item tables."""
    tower: tuple[Count, ...] = Field(default=(128, 64, 32), min_length=1)
    """Widths of the hidden layers, first to last; the last is the MLP's predictive factors."""
    dropout: Fraction = 0.0
    """Share of hidden units left out in training, after every activation of the tower."""
    gmf_init_std: Positive = 0.1
    """Standard deviation of the first values of the GMF's tables."""
    mlp_init_std: Positive = 0.01
    """Standard deviation of the first values of the MLP's tables."""

    @model_validator(mode="after")
    def _dropout_is_of_shared_sums(self) -> Self:
        if self.history_half_life and self.history_dropout:
            raise ValueError(
                "history_dropout is for histories whose items count alike: set it to 0, or history_half_life to 0"
            )
        return self


class TrainConfig(ConfigSection):
    """How the model is trained. A group is one user, one positive and `negatives` negatives."""

    epochs: int = Field(default=16, ge=0)
    """Passes over the positives; 0 only with pre-training, which then only fuses."""
    batch_size: Count = 4096
    """Groups a step, over all processes; the steps of an epoch have equal sizes, so a few groups fewer."""
    negatives: Count = 4
    sampler: Literal["uniform", "popularity"] = "uniform"
    popularity_exponent: NonNegative = 0.75
    """Negatives are drawn in proportion to (1 + popularity) to this power, with `sampler = "popularity"`."""
    exclude: Literal["training", "known"] = "training"
    """No negative is a positive of its user: in `training`, or among all that is `known` (train, validation and test).
    `known` is right for a model that ships; it leaks the held-out items into training, so its figures flatter."""
    loss: Literal["bce", "bpr", "softmax"] = "bce"
    init: Literal["random", "spectral", "auto"] = "random"
    """`spectral` starts the tables from a closed-form model of the same data (see `training/spectral_init.py`); `auto` does so
    where the data are small enough for one, and says so where they are not."""
    learning_rate: Positive = 0.003
    learning_rate_scaling: Literal["none", "linear", "sqrt"] = "none"
    """How the rate follows `batch_size`, which is the same for any number of processes: not at all, or by the ratio of
    `batch_size` to `learning_rate_batch`, or the root of it."""
    learning_rate_batch: Count = 4096
    """The steps' groups that `learning_rate` was found with; used by `learning_rate_scaling`."""
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: Fraction = 0.02
    """Share of all steps in which the learning rate rises from zero."""
    l2_gmf: NonNegative = 0.01
    """L2 on the GMF's table rows that a batch uses, once an interaction (see `training/regularisation.py`)."""
    l2_mlp: NonNegative = 0.0
    """The same for the MLP's tables."""
    l2_history: NonNegative = 0.01
    """The same for the history's table, once a positive."""
    history_every: int = Field(default=0, ge=0)
    """Steps between two moves of the history's table, which is exact but not free; 0 takes as many as keep that product
    below the cost of the steps."""
    weight_decay: NonNegative = 0.0
    """AdamW's decoupled decay of the layers; tables have `l2_gmf` and `l2_mlp` instead."""
    averaging: Fraction = 0.0
    """Decay a step of the exponential moving average of all weights, which is what is judged and kept; 0 is off."""
    optimizer: Literal["auto", "dense", "lazy"] = "auto"
    """`lazy` updates only the table rows of the batch; `auto` chooses it for large tables and says so."""
    tables: Literal["replicated", "sharded"] = "replicated"
    """`sharded` keeps each row of the tables in one process only, through TorchRec, for tables larger than one machine's
    memory; their optimiser is then FBGEMM's fused one (docs/scale.md)."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the tower's products in training; weights, losses and logits stay float32."""
    validation: Literal["hold-out", "include"] = "hold-out"
    """`include` adds the validation positives to training, for the final run of a recipe chosen without it."""
    patience: int = Field(default=0, ge=0)
    """Stop after this many epochs without a better validation NDCG@10 and keep the best epoch; 0 trains to the end."""
    evaluate_every: Count = 1
    checkpoint_every: Count = 1
    """Epochs between checkpoints; `keep_checkpoints` of them stay."""
    keep_checkpoints: Count = 2
    threads: int = Field(default=0, ge=0)
    """CPU threads; 0 takes every core that this process may use."""
    parts: int = Field(default=0, ge=0)
    """Parts of a step whose gradients are added up in one order, so that any number of threads, and of processes that
    divides it, gives the same weights to the last bit. 0 takes 4 where that costs nothing (tables of 16 MiB at most, steps
    of 16,384 groups or more), else one a thread; small steps take longer in 4 parts."""
    device: str = "auto"
    seed: int = Field(default=0, ge=0)

    @property
    def negatives_exponent(self) -> float:
        """The power of popularity that negatives are drawn in proportion to."""
        return self.popularity_exponent if self.sampler == "popularity" else 0.0

    @model_validator(mode="after")
    def _stopping_needs_validation(self) -> Self:
        if self.patience and self.validation == "include":
            raise ValueError(
                "patience needs the validation positives held out: set validation = 'hold-out' or patience = 0"
            )
        return self


class EvaluationConfig(ConfigSection):
    """How the run is judged (docs/protocol.md)."""

    cutoffs: tuple[Count, ...] = Field(default=(1, 5, 10, 20), min_length=1)
    ties: Literal["expected", "pessimistic", "optimistic"] = "expected"
    bootstrap: int = Field(default=1000, ge=0)
    """Resamples behind the confidence intervals; 0 leaves them out."""


class PublishedConfig(ConfigSection):
    """What others printed for this model on these data; shown beside our figures and never used."""

    source: str
    metrics: dict[str, float]


class PretrainingConfig(ConfigSection):
    """GMF and MLP are trained first and fused; `alpha` is the GMF's share of the output layer (equation 13).

    Of a `gmf` they are the teachers: its tables begin at what a closed form and the two say together (see
    `training/initialization.py`), where `alpha` is the share of the closed form and the GMF."""

    gmf: "Experiment"
    mlp: "Experiment"
    alpha: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5


class Experiment(ConfigSection):
    """Everything that decides a result."""

    name: str = Field(default="experiment", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    pretraining: PretrainingConfig | None = None
    published: PublishedConfig | None = None

    @model_validator(mode="after")
    def _fusing_needs_halves(self) -> Self:
        if self.pretraining is None:
            if self.train.epochs == 0:
                raise ValueError("train.epochs = 0 only makes sense with [pretraining]: set it to 1 or more")
            return self
        kinds = (self.model.kind, self.pretraining.gmf.model.kind, self.pretraining.mlp.model.kind)
        fused = (("neumf", "gmf", "mlp"), ("history-neumf", "history-gmf", "mlp"))
        if kinds not in (*fused, ("gmf", "gmf", "mlp")):
            raise ValueError(
                "pretraining fuses a gmf and an mlp into a neumf, or a history-gmf and an mlp into a history-neumf, or "
                f"teaches a gmf what a gmf and an mlp know, and these are {kinds[1]}, {kinds[2]} and {kinds[0]}"
            )
        return self

    @classmethod
    def load(cls, path: str | Path, overrides: Iterable[str] = ()) -> Self:
        """Read a recipe (TOML) or a resolved experiment (JSON) and apply `section.key=value` overrides."""
        return cls.parse(read_recipe(Path(path)), overrides, source=str(path))

    @classmethod
    def parse(cls, values: Mapping[str, Any], overrides: Iterable[str] = (), source: str = "recipe") -> Self:
        """Check a mapping of sections, after the overrides."""
        merged = json.loads(json.dumps(values))
        for override in overrides:
            _override(merged, override)
        return cls.checked(merged, source)

    def digest(self) -> str:
        """sha256 over what decides the result; where the data lie, names and checkpoint habits do not."""
        return hashlib.sha256(json.dumps(_deciding(self), sort_keys=True).encode()).hexdigest()


def read_recipe(path: Path) -> dict[str, Any]:
    """A recipe as nested dictionaries; recipe names under `[pretraining]` are read from beside it."""
    try:
        text = path.read_text("utf-8")
        values: dict[str, Any] = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(
            f"There is no recipe {path}: check the path, or see recipes/ for ready ones."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The recipe {path} cannot be read ({error}): check the path and its permissions."
        ) from None
    except (tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"The recipe {path} is not valid: {error}.") from None
    halves = values.get("pretraining")
    if isinstance(halves, dict):
        for half in ("gmf", "mlp"):
            if isinstance(halves.get(half), str):
                halves[half] = read_recipe(path.parent / halves[half])
    return values


def _override(values: dict[str, Any], override: str) -> None:
    """Set one `section.key=value`; the value is read as TOML and taken as text where that fails."""
    name, equals, text = override.partition("=")
    *sections, key = name.strip().split(".")
    if not equals or not key:
        raise ConfigError(f"--set takes section.key=value, such as train.epochs=5, and not {override!r}.")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override}: {section!r} is a value and has no keys.")
    try:
        values[key] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        values[key] = text.strip()


def _first_mistake(error: ValidationError) -> str:
    """One sentence from pydantic's list."""
    mistake = error.errors()[0]
    field = ".".join(str(part) for part in mistake["loc"])
    if mistake["type"] == "extra_forbidden":
        return f"{field} is no setting of ncf; see docs/training.md for the list."
    message = mistake["msg"].removeprefix("Value error, ")
    given = "" if isinstance(mistake["input"], dict) else f", and not {mistake['input']!r}"
    return f"{field or 'the recipe'}: {message}{given}." if field else f"{message}."


_HABITS = {"checkpoint_every", "keep_checkpoints"}


def _deciding(experiment: Experiment) -> dict[str, Any]:
    values = experiment.model_dump(
        mode="json", exclude={"name", "data", "evaluation", "pretraining", "published"}
    )
    values["train"] = {key: value for key, value in values["train"].items() if key not in _HABITS}
    if experiment.pretraining:
        values["pretraining"] = {
            "alpha": experiment.pretraining.alpha,
            "gmf": _deciding(experiment.pretraining.gmf),
            "mlp": _deciding(experiment.pretraining.mlp),
        }
    return values
