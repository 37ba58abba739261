"""The public data sets that are known by name, with licence and citation.

In: a name, and optionally a folder that holds the files. Out: the folder of a set and how it is read. The
decisions worth knowing: a set has several forms (bundled Parquet, the published text files), and each gives
the same rows. The content is verified, that is the sorted pairs and the lists, because the text files in
circulation differ in unused columns. Files are looked for in --source, $NCF_DATA, `data/` of a checkout and
the cache, and then fetched.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from ncf.data import sources
from ncf.data.files import storage_errors, umask
from ncf.data.sources import Loaded
from ncf.errors import ConfigError, DataError

Progress = Callable[[str, int, int | None], None]
"""Called with the file's name, the bytes so far, and all bytes if known."""

_CHUNK = 1 << 18


def fetch(
    url: str,
    target: Path,
    sha256: str | None = None,
    progress: Progress | None = None,
    timeout: float = 30.0,
    lock_timeout: float = 1800.0,
) -> Path:
    """Download `url` to `target`, unless it is there already; the path of the file.

    `sha256`: of the right file; None accepts any. Nothing gets the name `target` before it was verified.
    Several processes may ask at once: one downloads, and the others wait for it, up to `lock_timeout`
    seconds. The server may be silent for `timeout` seconds.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")  # else it prints a line about each download
    downloader = pooch.HTTPDownloader(
        progressbar=_Meter(url.rsplit("/", 1)[-1], progress) if progress is not None else False,
        chunk_size=_CHUNK,
        timeout=timeout,
        headers={"User-Agent": "ncf", "Accept-Encoding": "identity"},  # so Content-Length is the file's size
    )
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(f"{target}.lock", timeout=lock_timeout):
                pooch.retrieve(
                    url, sha256, target.name, target.parent, processor=_share, downloader=downloader
                )
        except Timeout as error:
            raise DataError(
                f"Another process has been downloading {target.name} for a long time: "
                f"end it, or remove {target}.lock."
            ) from error
        except requests.RequestException as error:
            raise DataError(
                f"{url} could not be downloaded ({_reason(error)}): try again, or fetch the file by other "
                "means and give its folder with --source."
            ) from error
        except ValueError as error:
            raise DataError(
                f"The file at {url} is not the known one (its sha256 is not the recorded one), so it was not "
                "kept: fetch the right one by other means and give its folder with --source."
            ) from error
    return target


class _Meter:
    """The progress bar that pooch's downloader fills: passes the bytes so far to `progress`."""

    def __init__(self, name: str, progress: Progress) -> None:
        self.name, self.progress, self.received, self.total = name, progress, 0, 0

    def update(self, size: int) -> None:
        """`size` more bytes; the last piece is announced as a whole one, so the sum is cut at the total."""
        self.received += size
        if self.total:
            self.received = min(self.received, self.total)
        self.progress(self.name, self.received, self.total or None)

    def reset(self) -> None:
        self.received = 0

    def close(self) -> None:
        pass


def _share(path: str, action: str, _: object) -> str:
    """Give a downloaded file the usual mode; pooch leaves it readable by its owner alone."""
    if action != "fetch":
        Path(path).chmod(0o666 & ~umask())
    return path


def _reason(error: Exception) -> str:
    """Why a request failed, in a few words; those of requests are a page of nested exceptions."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the transfer broke off"
    if isinstance(error, requests.ConnectionError | requests.Timeout):
        return "there is no connection to the server"
    return str(error)


_NCF_FILES = "https://raw.githubusercontent.com/hexiangnan/neural_collaborative_filtering/master/Data/"
_DEEPCF_FILES = "https://raw.githubusercontent.com/familyld/DeepCF/master/Data/"
_GROUPLENS_FILES = "https://files.grouplens.org/datasets/movielens/"

_MOVIELENS_LICENCE = (
    "MovieLens: research use, no commercial use without permission of GroupLens, citation required; "
    "see data/README.md"
)
_MOVIELENS_CITATION = (
    "F. M. Harper and J. A. Konstan (2015). The MovieLens Datasets: History and Context. ACM TiiS 5(4), 19. "
    "doi:10.1145/2827872"
)
_NCF_CITATION = "X. He et al. (2017). Neural Collaborative Filtering. WWW '17. doi:10.1145/3038912.3052569"


@dataclass(frozen=True)
class RemoteFile:
    """One public file; `sha256` is None where the public file could not be seen."""

    name: str
    url: str
    sha256: str | None = None


@dataclass(frozen=True)
class Form:
    """One way in which a set is stored: the files that must be there and how they are read.

    `content` is the sha256 of what was read (see `content_digest`), None where it is not known.
    """

    files: tuple[str, ...]
    load: Callable[[Path], Loaded]
    content: str | None = None


@dataclass(frozen=True)
class CatalogEntry:
    """A known set. `remote`: the files of the form that is fetched; `bundled`: it is in the repository."""

    name: str
    title: str
    licence: str
    citation: str
    forms: tuple[Form, ...]
    remote: tuple[RemoteFile, ...]
    bundled: bool = False


def _triple(prefix: str, content: str | None = None) -> Form:
    names = tuple(f"{prefix}.{part}" for part in ("train.rating", "test.rating", "test.negative"))
    return Form(names, sources.timeless_triple(prefix), content)


def _remote(base: str, form: Form, *hashes: str | None) -> tuple[RemoteFile, ...]:
    """The files of `form` below the address `base`, with their `hashes` where these are known."""
    known = hashes or (None,) * len(form.files)
    return tuple(RemoteFile(name, base + name, sha) for name, sha in zip(form.files, known, strict=True))


_ML_1M = "08e16d40877c9778062ee2f70a128c97f24636304c59ffe7f4784fbeb3ae9992"
_ML_100K = "439762c0673d19e670de6b91ed8d47eac586f1da7fc7f26d1923858c4d47b92c"
_LASTFM = "c5f6b08a97ac07f642bac1d5ff2f77ce7fc38def678d6c2809093c1a81f0af75"
_PINTEREST = "9e287e75128e4dd8ea0f253629811e67c4fe8423fc2ed9a764b309e5d7e61153"
_ML_1M_TRIPLE = _triple("ml-1m", _ML_1M)
_ML_100K_ZIP = Form(("ml-100k.zip",), sources.movielens_100k_zip, _ML_100K)
_PINTEREST_TRIPLE = _triple("pinterest-20")
_LASTFM_TRIPLE = _triple("lastfm", _LASTFM)

_ENTRIES = (
    CatalogEntry(
        "ml-1m",
        "MovieLens-1M, the split of the NCF paper: one held-out film and 99 negatives a user",
        _MOVIELENS_LICENCE,
        f"{_MOVIELENS_CITATION}; split: {_NCF_CITATION}",
        (
            Form(
                ("ml-1m.train.parquet", "ml-1m.test.parquet", "ml-1m.negatives.parquet"),
                sources.bundled_split("ml-1m"),
                _ML_1M,
            ),
            _ML_1M_TRIPLE,
        ),
        _remote(_NCF_FILES, _ML_1M_TRIPLE),
        bundled=True,
    ),
    CatalogEntry(
        "ml-100k",
        "MovieLens-100K with times, titles, years and genres",
        _MOVIELENS_LICENCE,
        _MOVIELENS_CITATION,
        (
            Form(
                ("ml-100k.interactions.parquet", "ml-100k.items.parquet"),
                sources.bundled_columns("ml-100k"),
                _ML_100K,
            ),
            Form(("ml-100k.inter", "ml-100k.item"), sources.atomic_files("ml-100k"), _ML_100K),
            _ML_100K_ZIP,
        ),
        _remote(_GROUPLENS_FILES, _ML_100K_ZIP),
        bundled=True,
    ),
    CatalogEntry(
        "pinterest-20",
        "Pinterest, users with 20 pins or more, the split of the NCF paper",
        "Pinterest-20: research use; published by Geng et al. and He et al. without an explicit licence",
        f"X. Geng et al. (2015). Learning Image and User Features for Recommendation in Social Networks. "
        f"ICCV; {_NCF_CITATION}",
        (
            _PINTEREST_TRIPLE,
            Form(
                ("pin.train.txt.gz", "pin.test.txt.gz", "pinterest-20.test.rating"),
                sources.pinterest_by_user,
                _PINTEREST,
            ),
        ),
        _remote(
            _NCF_FILES,
            _PINTEREST_TRIPLE,
            None,
            "3a8a8f7eb8e21cc5928b8259dd2c265269ecfa219d92ba829249956aa293d732",
            None,
        ),
    ),
    CatalogEntry(
        "lastfm",
        "Last.fm artists (HetRec 2011), the split of DeepCF",
        "HetRec 2011: research use, no commercial use without permission of Last.fm",
        "I. Cantador et al. (2011). HetRec 2011, RecSys; split: Z.-H. Deng et al. (2019). DeepCF. AAAI",
        (_LASTFM_TRIPLE,),
        _remote(
            _DEEPCF_FILES,
            _LASTFM_TRIPLE,
            "aa286fd070b5063ccdb3ef847b64c927e83dbc961d8804fa8454dd8964dc6662",
            "1bbe3bddddaf7c49d6c3ed204bda72d97545ce1acf98c0e0c7234aff9fcb5ce0",
            "331f05638d7a786f59dc33f346318018224bdb24a91a5d0444dcdbf24bf9498d",
        ),
    ),
)
CATALOG = {entry.name: entry for entry in _ENTRIES}
"""Name -> known set."""


def entry(name: str) -> CatalogEntry:
    """The known set `name`; raises `ConfigError` for another name."""
    if name not in CATALOG:
        raise ConfigError(f"There is no data set '{name}' in the catalogue: it has {', '.join(CATALOG)}.")
    return CATALOG[name]


def locate(
    known: CatalogEntry,
    cache: str | Path | None = None,
    source: str | Path | None = None,
    progress: Progress | None = None,
) -> tuple[Path, Form]:
    """The folder that holds the set `known`, and in which form; its files are fetched if no folder has them.

    `cache`: where fetched files are kept; `source`: the only folder to look in; `progress`: of
    downloads.
    """
    if source is not None:
        return _form_in(known, Path(source)) or _refuse_source(known, Path(source))
    store = cache_folder(cache) / known.name
    for folder in (*_data_folders(), store):
        if located := _form_in(known, folder):
            return located
    for file in known.remote:
        fetch(file.url, store / file.name, file.sha256, progress)
    return _form_in(known, store) or _refuse_source(known, store)


def _form_in(known: CatalogEntry, folder: Path) -> tuple[Path, Form] | None:
    for form in known.forms:
        if all((folder / name).is_file() or (folder / f"{name}.gz").is_file() for name in form.files):
            return folder, form
    return None


def _refuse_source(known: CatalogEntry, folder: Path) -> tuple[Path, Form]:
    forms = " or ".join(f"({', '.join(form.files)})" for form in known.forms)
    raise DataError(f"{folder} does not hold the files of {known.name}: it needs {forms}.")


def _data_folders() -> list[Path]:
    """$NCF_DATA, then `data/` of the checkout that holds this package or the current folder."""
    folders = []
    if configured := os.environ.get("NCF_DATA"):
        folders.append(Path(configured))
    for start in (Path(__file__).resolve(), Path.cwd() / "here"):
        folders += [parent / "data" for parent in start.parents]
    return folders


def cache_folder(cache: str | Path | None = None) -> Path:
    """Where fetched files are kept: `cache`, else $NCF_CACHE, else the user's cache folder."""
    if cache is not None:
        return Path(cache)
    if configured := os.environ.get("NCF_CACHE"):
        return Path(configured)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ncf"


def content_digest(loaded: Loaded) -> str:
    """sha256 of the content of a set: sorted training pairs, then test pairs and lists in their order.

    Of a set without a split: rows of user, item, rating and time, sorted.
    """
    digest = hashlib.sha256()
    if loaded.split is not None:
        split = loaded.split
        order = np.lexsort((split.train_items, split.train_users))
        parts = [split.train_users[order], split.train_items[order], split.test_users, split.test_items]
        parts += [] if split.negatives is None else [split.negatives]
    else:
        assert loaded.columns is not None
        columns = [loaded.columns.user, loaded.columns.item, loaded.columns.rating, loaded.columns.time]
        arrays = [column.to_numpy() for column in columns if column is not None]
        order = np.lexsort(arrays[1::-1])
        parts = [array[order] for array in arrays]
    for part in parts:
        digest.update(np.ascontiguousarray(part, dtype="<i8").tobytes())
    return digest.hexdigest()
