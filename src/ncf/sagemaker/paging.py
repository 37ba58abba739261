"""AWS answers long lists in pages: one loop for all of them."""

from collections.abc import Callable, Iterator
from typing import Any


def entries(
    call: Callable[..., Any], key: str, token: str = "NextToken", asked: str = "", **request: Any
) -> Iterator[dict[str, Any]]:
    """Every entry under `key` of all pages of a List or Describe call; a page is asked for when it is needed.

    `token` names the next page in an answer, and in a request too unless that has a name of its own, `asked`.
    """
    while True:
        page = call(**request)
        yield from page.get(key, ())
        if not page.get(token):
            return
        request[asked or token] = page[token]
