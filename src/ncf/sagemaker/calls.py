"""What every room asks of AWS in the same way: all pages of a list, and waiting for a state.

In: a client, or a function that looks at a state. Out: the entries of a list, or the state once it is
reached. The one decision worth knowing: pages are boto3's paginators, but waiting is our own loop. boto3's
waiters tell nothing on the way, and AWS has none for pipelines, tuning jobs, warm pools and asynchronous
answers.
"""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ncf.errors import CloudError

T = TypeVar("T")
TRANSIENT = (
    "ThrottlingException", "Throttling", "RequestLimitExceeded", "Network", "InternalFailure",
    "ServiceUnavailable",
)  # fmt: skip
"""Codes of errors that go away by themselves."""


def entries(client: Any, operation: str, key: str, **request: Any) -> Iterator[dict[str, Any]]:
    """Yield every entry of a List or Describe call; a page is requested when it is needed.

    `operation` is boto3's name of the call (`list_models`), `key` the field of a page that holds the entries
    (`Models`), `request` the parameters of the call.
    """
    for page in client.get_paginator(operation).paginate(**request):
        yield from page.get(key, ())


def wait_until(
    look: Callable[[], T],
    done: Callable[[T], bool],
    *,
    patience: float = math.inf,
    first: float = 1.0,
    longest: float = 15.0,
    faults: int = 1,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Look until `done` accepts what `look` returns, and return that.

    `first` is the pause in seconds after the first look; each pause is 1.3 times the one before, up to
    `longest`. Raises `TimeoutError` after `patience` seconds, and the `CloudError` of the look that meets the
    `faults`-th transient error in a row.
    """
    began, waited, pause, failures = time.monotonic(), 0.0, first, 0
    while True:
        try:
            state = look()
        except CloudError as error:
            failures += 1
            if error.code not in TRANSIENT or failures >= faults:
                raise
        else:
            failures = 0
            if done(state):
                return state
        # Pauses count even where a test replaces `sleep`; looks that hang count by the clock.
        waited = max(waited + pause, time.monotonic() - began)
        if waited > patience:
            raise TimeoutError
        sleep(pause)
        pause = min(longest, pause * 1.3)
