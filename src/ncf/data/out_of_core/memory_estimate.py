"""Whether a table is to be prepared in memory or in parts.

In: a `Source`. Out: yes or no. The decision worth knowing: only what will not fit is streamed, because both ways make
the same folder and memory is the faster one. What it takes is estimated from the rows a Parquet file says it has, or
from the bytes of text; an address in S3 is read in memory unless streaming is asked for, since its size is not known.
"""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl

from ncf.data.formats import SCAN_ERRORS, Source, scan

BYTES_A_ROW = 100
"""What the way in memory takes at its peak: 88 were measured, of 100 million rows of CSV with times and ratings."""
_OF_TEXT, _OF_PACKED_TEXT = 4, 16
_SHARE = 0.7
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def wants_streaming(origin: Source) -> bool:
    """Whether the preparation in memory would take more than most of the memory that is free."""
    if origin.remote:
        return False
    free = free_memory()
    return free is not None and expected_bytes(origin) > _SHARE * free


def expected_bytes(origin: Source) -> int:
    """Peak memory of the way in memory; 0 where the file cannot be read, which the reader then says."""
    if origin.format == "parquet":
        try:
            return BYTES_A_ROW * int(scan(origin).select(pl.len()).collect().item())
        except SCAN_ERRORS:
            return 0
    total = 0
    for path in map(Path, origin.files or (origin.path,)):
        if path.is_file():
            total += path.stat().st_size * (_OF_PACKED_TEXT if path.suffix == ".gz" else _OF_TEXT)
    return total


def free_memory() -> int | None:
    """Bytes that this process may still take, by the system and by the limit of its container; None if unknown."""
    found = []
    try:
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
        found += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    except OSError:
        with_names = os.sysconf_names if hasattr(os, "sysconf_names") else {}
        if "SC_PHYS_PAGES" in with_names:
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in _LIMITS:
        try:
            found.append(int(Path(path).read_text("utf-8")))
        except (OSError, ValueError):
            continue
    return min(found, default=None)
