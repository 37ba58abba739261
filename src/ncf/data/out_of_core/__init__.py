"""Preparation of tables larger than memory: the same folder as in memory, to the byte (README.md)."""
