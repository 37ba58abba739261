"""The program of a serving container: `serve` in our image, which is `ncf serve` on /opt/ml/model.

| variable | what | default |
| --- | --- | --- |
| `SAGEMAKER_BIND_TO_PORT` | the port (SageMaker sets it where containers share a host) | 8080 |
| `NCF_WORKERS` | processes | one for each core, at most 4 |
| `NCF_EXACT` | `1` scores every item with the full model | candidates, if the artifact has an index |
"""

import os
import sys
from collections.abc import Mapping

from ncf.errors import ConfigError, NcfError
from ncf.runtime import choose_threads
from ncf.sagemaker.container.environment import ROOT
from ncf.serving.server import ServeSettings, serve

_MOST_WORKERS = 4


def settings_from(variables: Mapping[str, str], model: str = str(ROOT / "model")) -> ServeSettings:
    """The settings in `variables`, with the artifact at `model`; raises `ConfigError` for a bad number."""
    return ServeSettings(
        artifact=model,
        host="0.0.0.0",
        port=_whole(variables, "SAGEMAKER_BIND_TO_PORT", 8080),
        workers=_whole(variables, "NCF_WORKERS", min(choose_threads(), _MOST_WORKERS)),
        exact=variables.get("NCF_EXACT", "") == "1",
        own_copy=False,
    )


def main() -> int:
    """Serve until SIGTERM, and return the exit code of the container."""
    try:
        serve(settings_from(os.environ))
    except NcfError as error:
        print(f"[ncf] {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def _whole(variables: Mapping[str, str], name: str, default: int) -> int:
    text = variables.get(name) or str(default)
    if not text.isdigit():
        raise ConfigError(f"{name} must be a whole number, and not {text!r}.")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
