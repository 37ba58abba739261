"""What of this project runs now, and what it costs: an inventory in, figures and rows out.

Money is a list price of `prices.toml`, an hour for what runs and a month for what lies; what has no known price is said
to have none, and is left out of the sum.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ncf.sagemaker.account.inventory import Inventory, Resource

_STORED = {"objects": "gigabyte_month", "repository": "image_gigabyte_month"}


@dataclass(frozen=True)
class Status:
    """The answer of `ncf sagemaker status`."""

    running: tuple[Resource, ...]
    stored: tuple[Resource, ...]
    blind: tuple[str, ...]

    @property
    def hourly(self) -> float:
        """US dollars an hour for all that runs and has a known price."""
        return sum(item.hourly or 0.0 for item in self.running)

    @property
    def unpriced(self) -> tuple[str, ...]:
        """Names of what runs without a known price."""
        return tuple(item.name for item in self.running if item.hourly is None)

    @property
    def monthly_storage(self) -> float:
        """US dollars a month for what is stored."""
        return sum(monthly(item) for item in self.stored)

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        from ncf.sagemaker.prices import prices

        table = prices()
        return {
            "running": [item.to_json() for item in self.running],
            "dollars_an_hour": round(self.hourly, 6),
            "without_known_price": list(self.unpriced),
            "stored": [item.to_json() | {"dollars_a_month": round(monthly(item), 6)} for item in self.stored],
            "dollars_a_month_stored": round(self.monthly_storage, 6),
            "prices": {"date": table.date, "region": table.region},
            "not_seen": list(self.blind),
        }


def status_of(inventory: Inventory) -> Status:
    """What runs, dearest first, and what is stored."""
    running = [item for item in inventory.items if item.running or item.status == "WarmPool"]
    running.sort(key=lambda item: -(float("inf") if item.hourly is None else item.hourly))
    return Status(tuple(running), tuple(inventory.of(*_STORED)), tuple(inventory.blind))


def monthly(item: Resource) -> float:
    """US dollars a month for what an item stores."""
    from ncf.sagemaker.prices import prices

    return float(prices().values["storage"][_STORED[item.kind]]) * item.bytes / 1e9


def since(item: Resource, now: datetime | None = None) -> str:
    """`3 h 12 min`, `5 days`: how long there has been one."""
    if item.created is None:
        return ""
    minutes = int(((now or datetime.now(UTC)) - item.created).total_seconds() // 60)
    if minutes < 60:
        return f"{max(minutes, 0)} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours < 48 else f"{hours // 24} days"
