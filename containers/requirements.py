"""Print what the image needs of the dependencies in pyproject.toml, which stands in this folder, a line each.

Arguments are extras of pyproject.toml, parted by commas or spaces. Of the extra `mlflow` it takes the client
alone (mlflow-skinny): a container records on a server and runs none, and the whole of mlflow would add half a
gigabyte.
"""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
extras = re.findall(r"[^\s,]+", " ".join(sys.argv[1:]))
known = project["optional-dependencies"]
for name in extras:
    if name not in known:
        sys.exit(f"EXTRAS names {name!r}, which pyproject.toml has not; it has: {', '.join(known)}.")
further = [re.sub(r"^mlflow\b", "mlflow-skinny", line) for name in extras for line in known[name]]
print(*project["dependencies"], *further, sep="\n")
