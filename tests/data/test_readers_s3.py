"""Reading from s3://, against a server on this machine that answers the three requests that reading needs."""

from __future__ import annotations

import gzip
import http.server
import io
import re
import threading
import urllib.parse
from collections.abc import Iterator

import polars as pl
import pytest

from ncf.data.columns import ColumnNames
from ncf.data.formats import source
from ncf.data.readers import read_columns
from ncf.errors import DataError

CSV = b"user,item,ts\n1,3,5\n2,4,6\n"


def parquet() -> bytes:
    buffer = io.BytesIO()
    pl.read_csv(CSV).write_parquet(buffer)
    return buffer.getvalue()


OBJECTS = {
    "/bucket/a.csv": CSV,
    "/bucket/a.csv.gz": gzip.compress(CSV),
    "/bucket/a.parquet": parquet(),
    "/bucket/a.jsonl": pl.read_csv(CSV).write_ndjson().encode(),
    "/bucket/parquet/day=1/part-0.parquet": parquet(),
    "/bucket/parquet/day=2/part-1.parquet": parquet(),
    "/bucket/parquet/_SUCCESS": b"",
    "/bucket/csv/day=1/part-0.csv": CSV,
    "/bucket/csv/day=2/part-1.csv": b"ts,item,user,more\n9,8,7,6\n",
    "/bucket/json/day=1/part-0.jsonl": pl.read_csv(CSV).write_ndjson().encode(),
    "/bucket/json/day=2/part-1.jsonl": pl.read_csv(CSV).write_ndjson().encode(),
    "/bucket/cut.csv.gz": gzip.compress(CSV)[:-12],
}


class Bucket(http.server.BaseHTTPRequestHandler):
    """HEAD, GET with a range, and the list of keys below a prefix."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.wfile.write(self.listed() if "list-type=2" in self.path else self.answer())

    def listed(self) -> bytes:
        asked = urllib.parse.parse_qs(self.path.partition("?")[2])
        keys = [key.removeprefix("/bucket/") for key in sorted(OBJECTS)]
        found = [key for key in keys if key.startswith(asked["prefix"][0])]
        entries = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>1</ETag>"
            f"<Size>{len(OBJECTS[f'/bucket/{key}'])}</Size></Contents>"
            for key in found
        )
        content = f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return content

    def answer(self) -> bytes:
        content = OBJECTS.get(urllib.parse.unquote(self.path.split("?")[0]))
        if content is None:
            self.send_error(404)
            return b""
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        first, last = 0, len(content) - 1
        if wanted and wanted[1]:
            first, last = int(wanted[1]), min(last, int(wanted[2] or last))
        elif wanted:
            first = max(0, len(content) - int(wanted[2]))
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        self.end_headers()
        return content[first : last + 1]

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def credentials(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet", "a.jsonl"])
def test_each_format(name: str) -> None:
    columns = read_columns(source(f"s3://bucket/{name}"), ColumnNames())
    assert columns.time is not None
    assert list(zip(columns.user, columns.item, columns.time, strict=True)) == [(1, 3, 5), (2, 4, 6)]


@pytest.mark.parametrize("name", ["nothing.csv", "cut.csv.gz", "nothing.parquet"])
def test_what_cannot_be_read_is_a_sentence(name: str) -> None:
    with pytest.raises(
        DataError, match=rf"s3://bucket/{name} could not be read from the storage .*credentials"
    ):
        read_columns(source(f"s3://bucket/{name}"), ColumnNames())


@pytest.mark.parametrize("name", ["parquet", "csv", "json"])
@pytest.mark.parametrize("end", ["", "/"])
def test_a_prefix_stands_for_the_files_below(name: str, end: str) -> None:
    origin = source(f"s3://bucket/{name}{end}")
    assert origin.label == name
    columns = read_columns(origin, ColumnNames(rating="day"))
    assert columns.rating is not None
    days = {"csv": [1, 1, 2]}.get(name, [1, 1, 2, 2])
    assert columns.rating.to_list() == days
    assert columns.user.to_list() == {"csv": [1, 2, 7]}.get(name, [1, 2, 1, 2])


def test_a_prefix_without_a_known_file() -> None:
    with pytest.raises(DataError, match=r"The format of s3://bucket/nowhere is not known from its name"):
        source("s3://bucket/nowhere")
