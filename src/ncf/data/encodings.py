"""Text files in other encodings than UTF-8.

In: a `Source`. Out: the same with files in UTF-8. The decision worth knowing: Polars reads UTF-8, so a file
in another encoding is translated into a temporary file, which is removed when the program ends. MovieLens'
own files (`.dat`, `u.item`) are latin-1 where they are not UTF-8; of no other file is the encoding guessed.
"""

from __future__ import annotations

import atexit
import codecs
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from ncf.data.formats import PIPED, Source, head, opened, stamp_of
from ncf.errors import DataError

_CHUNK = 1 << 20
_HANGUL = range(0xAC00, 0xD7A4)


def as_utf8(origin: Source) -> Source:
    """The source with its local text files in UTF-8; raises `DataError` for bytes of another encoding."""
    if origin.format == "parquet":
        return origin
    if origin.remote:
        if origin.encoding is not None:
            raise DataError(f"--encoding is for local files, and {origin.path} is not one: copy it first.")
        return origin
    paths = tuple(_in_utf8(origin, path) for path in origin.paths)
    if paths == origin.paths:
        return origin
    return replace(origin, files=paths) if origin.files else replace(origin, path=paths[0])


def likely_encoding(start: bytes) -> str:
    """The encoding that bytes which are not UTF-8 probably have."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or start.count(0) > len(start) // 8:
        return "utf-16"
    with suppress(UnicodeDecodeError):
        text = codecs.getincrementaldecoder("cp949")().decode(start)
        odd = [mark for mark in text if ord(mark) > 127]
        if odd and sum(ord(mark) in _HANGUL for mark in odd) * 2 > len(odd):
            return "cp949"
    return "latin-1"


def not_utf8(path: str) -> str | None:
    """The sentence about a local file that is not UTF-8, with its line; None if it is, or cannot be read."""
    line, decoder = 1, codecs.getincrementaldecoder("utf-8")()
    try:
        for piece in _pieces(path):
            try:
                decoder.decode(piece)
            except UnicodeDecodeError as error:
                line += error.object[: error.start].count(b"\n")
                start = error.object.rfind(b"\n", 0, error.start) + 1
                likely = likely_encoding(error.object[start : start + 4096])
                return (
                    f"{path} is not UTF-8 in line {line:,}: it is probably {likely}, so give "
                    f"--encoding {likely}."
                )
            line += piece.count(b"\n")
    except (OSError, EOFError, zlib.error):
        return None
    return None


def _pieces(path: str) -> Iterator[bytes]:
    with opened(path) as file:
        while piece := file.read(_CHUNK):
            yield piece


def _in_utf8(origin: Source, path: str) -> str:
    if not Path(path).is_file():
        return path
    if origin.encoding is not None:
        return _translated(path, origin.encoding, stamp_of(path))
    start = head(path)
    if start and likely_encoding(start) == "utf-16":
        raise DataError(f"{path} is not UTF-8: it is probably utf-16, so give --encoding utf-16.")
    name = Path(path.removesuffix(".gz")).name
    if (name.endswith(".dat") or name in PIPED) and not_utf8(path) is not None:
        return _translated(path, "latin-1", stamp_of(path))
    return path


@lru_cache(maxsize=4096)
def _translated(path: str, encoding: str, _stamp: tuple[int, int]) -> str:
    """The path of a temporary copy in UTF-8; a file that changed is translated again."""
    folder = tempfile.mkdtemp(prefix="ncf-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    target = Path(folder) / Path(path).name.removesuffix(".gz")
    decoder, line = codecs.getincrementaldecoder(encoding)(), 1
    with target.open("w", encoding="utf-8", newline="") as file:
        try:
            for piece in _pieces(path):
                text = decoder.decode(piece)
                line += text.count("\n")
                file.write(text)
            file.write(decoder.decode(b"", final=True))
        except UnicodeError as error:
            raise DataError(
                f"{path} is not {encoding} (after line {line:,}): give its encoding with --encoding, or "
                "leave the option out for UTF-8."
            ) from error
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"{path} cannot be unpacked ({error}): the file may be cut off or damaged."
            ) from error
    return str(target)
