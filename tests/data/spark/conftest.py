"""Spark is asked for by NCF_TEST_SPARK: a folder that scripts/install-spark made."""

import os

collect_ignore = [] if os.environ.get("NCF_TEST_SPARK") else ["test_spark.py"]
