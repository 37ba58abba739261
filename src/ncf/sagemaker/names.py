"""Names that SageMaker admits: letters, digits and hyphens, at most 63; new names end in a UTC time."""

import re
from datetime import UTC, datetime

from ncf.errors import ConfigError

LONGEST = 63
_TIME = "%Y%m%d-%H%M%S-%f"
_STAMP = 19
"""Length of a time, which ends in milliseconds."""


def new_name(*parts: str, now: datetime | None = None) -> str:
    """A name such as `ncf-ml-1m-neumf-20261124-173012-123`: the parts, cut to fit, and the time `now`."""
    stamp = (now or datetime.now(UTC)).strftime(_TIME)[:_STAMP]
    head = re.sub(r"[^A-Za-z0-9]+", "-", "-".join(parts)).strip("-")[: LONGEST - _STAMP - 1].rstrip("-")
    return f"{head}-{stamp}" if head else stamp


def checked(name: str, what: str) -> str:
    """The name; raises `ConfigError` where SageMaker would refuse it. `what` says what is named."""
    if len(name) > LONGEST or not re.fullmatch(r"[A-Za-z0-9](-*[A-Za-z0-9])*", name):
        raise ConfigError(
            f"{what} {name!r} is not possible in SageMaker: use letters, digits and hyphens, at most "
            f"{LONGEST}."
        )
    return name
