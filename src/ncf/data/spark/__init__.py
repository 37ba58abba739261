"""Preparation of a table that is larger than a machine, on Spark: the same folder as `ncf.data.prepare` makes."""
