"""What `spark-submit` runs: `spark-submit --py-files ncf.zip submit.py INPUT OUTPUT WORK [NAME=VALUE…]`.

INPUT is any address that Spark can open, OUTPUT a folder on the driver's machine, WORK an empty folder that
all machines reach. Each NAME is a field of `PrepareOptions`, or `name`. The exit code is 0, or 1 with one
sentence on standard error, and in the file that NCF_MESSAGE names if it is set.
"""

# mypy: disable-error-code="import-untyped,import-not-found"

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from ncf.data.options import PrepareOptions, read_options
from ncf.data.out_of_core.spark import prepare_spark
from ncf.errors import ConfigError, NcfError

_LONGEST = 1024


def main(arguments: Sequence[str]) -> int:
    """Run one preparation with command-line `arguments`; the exit code."""
    try:
        _run(arguments)
    except (NcfError, PySparkException) as error:
        sentence = (
            str(error)
            if isinstance(error, NcfError)
            else f"Spark failed: {' '.join(str(error).split())[:500]}"
        )
        print(f"error: {sentence}", file=sys.stderr)
        if message_file := os.environ.get("NCF_MESSAGE"):
            Path(message_file).parent.mkdir(parents=True, exist_ok=True)
            Path(message_file).write_text(sentence[:_LONGEST], "utf-8")
        return 1
    return 0


def _run(arguments: Sequence[str]) -> None:
    if len(arguments) < 3:
        raise ConfigError("Give INPUT, OUTPUT and WORK, and then NAME=VALUE for options.")
    path, output, work, *rest = arguments
    pairs = [text.partition("=") for text in rest]
    values = {name: value for name, _, value in pairs}
    name = values.pop("name", None)
    options = PrepareOptions(**read_options(values))
    spark = SparkSession.builder.appName("ncf prepare").getOrCreate()
    try:
        report = prepare_spark(spark, path, output, work.rstrip("/"), options, name)
    finally:
        spark.stop()
    for line in report.lines():
        print(f"[ncf] {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
