"""Print what the image needs of the dependencies in pyproject.toml, which stands in this folder, a line each.

Of the extra `mlflow` it takes the client alone (mlflow-skinny): a container tracks on a server and runs none, and the
whole of mlflow would add half a gigabyte.
"""

import re
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
tracking = [
    re.sub(r"^mlflow\b", "mlflow-skinny", line) for line in project["optional-dependencies"]["mlflow"]
]
print(*project["dependencies"], *tracking, sep="\n")
