"""Preparation of a table that is larger than memory: the same folder as `ncf.data.prepare` makes, to the byte."""
