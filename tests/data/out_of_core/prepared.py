"""Runs in the environment of Spark: `python prepared.py CASES`, a JSON list of [input, output, work,
options].
"""

import json
import sys
from pathlib import Path

from pyspark.sql import SparkSession

from ncf.data.options import PrepareOptions
from ncf.data.out_of_core.spark import prepare_spark
from ncf.errors import NcfError

spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.ui.enabled", "false")
    .config("spark.sql.shuffle.partitions", "5")
    .config("spark.sql.adaptive.coalescePartitions.enabled", "false")
    .config("spark.sql.files.maxPartitionBytes", "65536")
    .config("spark.sql.files.openCostInBytes", "1024")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.driver.host", "127.0.0.1")
    .getOrCreate()
)
answers = []
for path, output, work, options in json.loads(Path(sys.argv[1]).read_text()):
    try:
        answers.append(prepare_spark(spark, path, output, work, PrepareOptions(**options)).lines())
    except NcfError as error:
        answers.append(f"{type(error).__name__}: {error}")
Path(sys.argv[1]).with_suffix(".answers").write_text(json.dumps(answers))
