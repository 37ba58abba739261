"""What a job or endpoint costs, before it starts: an instance type and a duration in, a sentence with US
dollars out.

The table is `prices.toml` next to this file, or the file that `NCF_PRICES` names; it holds its date and
region. The one decision worth knowing: an unknown type has no price, never a guess, and a cost limit that
cannot be checked refuses.
"""

import os
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ncf.errors import ConfigError

Kind = Literal["training", "processing", "hosting", "transform"]
HOURS_A_MONTH = 730
_TABLE = Path(__file__).with_name("prices.toml")


@dataclass(frozen=True)
class Estimate:
    """The largest cost of what is about to start."""

    what: str
    """`1 x ml.c7i.xlarge`."""
    hourly: float | None
    """US dollars an hour for all instances together; None where the price is unknown, 0 on this machine."""
    seconds: int | None
    """The longest run; None for what runs until it is deleted."""
    spot: bool = False
    """Whether it runs on spot instances, which usually cost less than the list price."""
    jobs: tuple["Estimate", ...] = ()
    """The parts of several jobs, where `hourly` is that of the dearest."""

    @property
    def total(self) -> float | None:
        """US dollars for the whole run, or for a month of what runs until it is deleted."""
        if self.hourly is None:
            return None
        if self.jobs:
            return sum(job.total or 0.0 for job in self.jobs)
        return self.hourly * (HOURS_A_MONTH if self.seconds is None else self.seconds / 3600)

    def times(self, count: int, what: str) -> "Estimate":
        """The cost of `count` repetitions, such as `20 trials of 1 x ml.c7i.xlarge`; `what` names these."""
        seconds = None if self.seconds is None else self.seconds * count
        return Estimate(f"{count} {what} of {self.what}", self.hourly, seconds, self.spot)

    def sentence(self) -> str:
        """The sentence that a user sees before the start."""
        table = prices()
        if self.hourly is None:
            return f"Cost: the price of {self.what} is not in {table.source}: see AWS's price page."
        source = f"list price {table.region}, {table.date}"
        hourly = f"Cost: {self.what}: {'up to ' if self.jobs else ''}${self.hourly:.3f} an hour"
        if self.seconds is None:
            return f"{hourly}, ${self.total:,.2f} a month ({source})."
        spot = "; spot usually costs much less" if self.spot else ""
        return f"{hourly}, at most ${self.total:,.2f} in {self.seconds / 3600:.3g} h ({source}{spot})."

    def check(self, most: float | None) -> None:
        """Raise `ConfigError` if it may cost more than `most` US dollars, or the price is unknown."""
        if most is None:
            return
        if self.total is None:
            raise ConfigError(
                f"Nothing was started: the price of {self.what} is unknown, so --max-cost cannot be checked; "
                "leave it out, or add the type to a price file (NCF_PRICES)."
            )
        if self.total > most:
            span = "a month" if self.seconds is None else "at most"
            raise ConfigError(
                f"Nothing was started: {self.what} may cost ${self.total:,.2f} ({span}), more than "
                f"--max-cost {most:g}: use a smaller instance or a shorter time, or raise the limit."
            )


@dataclass(frozen=True)
class Prices:
    """A price table."""

    source: str
    """The name of its file."""
    date: str
    region: str
    values: Mapping[str, Any]

    def of(self, instance_type: str, kind: Kind) -> float | None:
        """US dollars an hour, or None where the table has no price of this kind."""
        special = self.values.get(kind, {}).get(instance_type)
        if special is not None:
            return float(special)
        family = instance_type.removeprefix("ml.").partition(".")[0]
        if {family, instance_type} & set(self.values.get("not_for", {}).get(kind, ())):
            return None
        usual = self.values["hour"].get(instance_type)
        return None if usual is None else float(usual)


def prices() -> Prices:
    """The table in use; raises `ConfigError` where the file of `NCF_PRICES` is not such a table."""
    return _read(Path(os.environ.get("NCF_PRICES") or _TABLE))


def price(instance_type: str, kind: Kind) -> float | None:
    """US dollars an hour for one instance of that type; 0 for `local`, None for an unknown type."""
    if instance_type.startswith("local"):
        return 0.0
    return prices().of(instance_type, kind)


def estimate(
    instance_type: str, kind: Kind, count: int = 1, seconds: int | None = None, *, spot: bool = False
) -> Estimate:
    """The largest cost of `count` instances for `seconds`, or of what runs until it is deleted without."""
    hourly = price(instance_type, kind)
    return Estimate(f"{count} x {instance_type}", None if hourly is None else hourly * count, seconds, spot)


def in_sequence(jobs: Sequence[Estimate]) -> Estimate:
    """The cost of jobs that run one after another: the sum, and an hour that of the dearest."""
    counts = Counter(job.what for job in jobs)
    what = f"{len(jobs)} jobs ({', '.join(f'{count} on {what}' for what, count in counts.items())})"
    hours, spot = [job.hourly for job in jobs if job.hourly is not None], any(job.spot for job in jobs)
    hourly = None if len(hours) < len(jobs) else max(hours, default=0.0)
    return Estimate(what, hourly, sum(job.seconds or 0 for job in jobs), spot, tuple(jobs))


def serverless_second(memory_mb: int) -> float:
    """US dollars for a second of computing on a serverless endpoint with `memory_mb` of memory."""
    return float(prices().values["serverless"]["gigabyte_second"]) * memory_mb / 1024


@cache
def _read(path: Path) -> Prices:
    try:
        values = tomllib.loads(path.read_text("utf-8"))
        hours = {name: float(value) for name, value in values["hour"].items()}
        return Prices(
            path.name if path == _TABLE else str(path),
            str(values["date"]),
            str(values["region"]),
            {**tomllib.loads(_TABLE.read_text("utf-8")), **values, "hour": hours},
        )
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"The price file {path} cannot be read ({error}): check NCF_PRICES.") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"The price file {path} needs date, region and a table [hour] of numbers ({error}): "
            "copy the form of ncf/sagemaker/prices.toml."
        ) from None
