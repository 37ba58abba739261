"""Names as SageMaker admits them: letters, digits and hyphens, at most 63; new ones end in a UTC time."""

import re
from datetime import UTC, datetime

from ncf.errors import ConfigError

LONGEST = 63
_TIME = "%Y%m%d-%H%M%S-%f"
_STAMP = 19
"""Length of a time: milliseconds are the last three digits."""


def new_name(*parts: str, now: datetime | None = None) -> str:
    """`ncf-ml-1m-neumf-20261124-173012-123`; parts are cut, never the time."""
    stamp = (now or datetime.now(UTC)).strftime(_TIME)[:_STAMP]
    head = re.sub(r"[^A-Za-z0-9]+", "-", "-".join(parts)).strip("-")[: LONGEST - _STAMP - 1].rstrip("-")
    return f"{head}-{stamp}" if head else stamp


def checked(name: str, what: str) -> str:
    """The name as it is; raises `ConfigError` where SageMaker would refuse it."""
    if len(name) > LONGEST or not re.fullmatch(r"[A-Za-z0-9](-*[A-Za-z0-9])*", name):
        raise ConfigError(
            f"{what} {name!r} is no name for SageMaker: letters, digits and hyphens, at most {LONGEST}."
        )
    return name
