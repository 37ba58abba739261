"""`ncf prepare`."""

from typing import TYPE_CHECKING, Annotated

import typer

from ncf.cli.options import exactly_one
from ncf.errors import ConfigError

if TYPE_CHECKING:
    from ncf.data import Dataset, PrepareOptions, PrepareReport


def prepare(
    output: Annotated[str | None, typer.Option(help="Folder to write; data/NAME for a known set.")] = None,
    input: Annotated[
        str | None,
        typer.Option(help="CSV, TSV, Parquet, JSON lines, .inter, …: a file, folder or pattern; or s3://."),
    ] = None,
    ncf: Annotated[
        str | None, typer.Option(help="PREFIX of .train.rating, .test.rating, .test.negative.")
    ] = None,
    catalog: Annotated[
        str | None, typer.Option(help="A known set: ml-1m, ml-100k, pinterest-20, lastfm.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Folder with the files of a known set, instead of a download.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="Column of user ids.")] = None,
    item: Annotated[str | None, typer.Option(help="Column of item ids.")] = None,
    time: Annotated[str | None, typer.Option(help="Column of times.")] = None,
    rating: Annotated[str | None, typer.Option(help="Column of ratings.")] = None,
    format: Annotated[str | None, typer.Option(help="Format, where the file name does not tell it.")] = None,
    delimiter: Annotated[str | None, typer.Option(help="Field delimiter of a text file.")] = None,
    header: Annotated[bool | None, typer.Option(help="Whether a text file begins with names.")] = None,
    items: Annotated[
        str | None, typer.Option(help="Table with titles and other columns of the items.")
    ] = None,
    items_id: Annotated[str | None, typer.Option(help="Its id column.")] = None,
    min_user: Annotated[int, typer.Option(help="k-core: interactions that a user must have.")] = 1,
    min_item: Annotated[int, typer.Option(help="k-core: interactions that an item must have.")] = 1,
    min_rating: Annotated[float | None, typer.Option(help="Drop interactions rated lower.")] = None,
    split: Annotated[str, typer.Option(help="last, random or time.")] = "last",
    validation: Annotated[str, typer.Option(help="auto, last, random or none.")] = "auto",
    validation_popularity_exponent: Annotated[
        float, typer.Option(help="Random validation: favour items by popularity^-exponent.")
    ] = 0.0,
    negatives: Annotated[int, typer.Option(help="Negatives in a candidate list.")] = 99,
    seed: Annotated[int, typer.Option(help="Seed of splits and candidate lists.")] = 0,
    drop_unknown_users: Annotated[
        bool, typer.Option(help="Drop test rows of users without training rows.")
    ] = False,
    streaming: Annotated[
        bool | None,
        typer.Option(
            help="In parts, with little memory; by itself where memory would not do.", show_default=False
        ),
    ] = None,
) -> None:
    """Make a prepared data folder from a table of interactions, a published split or a known data set."""
    from ncf.data import PrepareOptions, prepare_catalog, prepare_file, prepare_ncf_triple, prepare_streaming

    exactly_one({"--input": input, "--ncf": ncf, "--catalog": catalog})
    if streaming and input is None:
        raise ConfigError("--streaming is for --input: a published split or a known set fits into memory.")
    options = PrepareOptions(
        user=user, item=item, time=time, rating=rating, format=format, delimiter=delimiter, header=header,  # type: ignore[arg-type]
        items_file=items, items_id=items_id, min_user=min_user, min_item=min_item, min_rating=min_rating,
        split=split, validation=validation, validation_popularity_exponent=validation_popularity_exponent,  # type: ignore[arg-type]
        negatives=negatives, seed=seed, drop_unknown_users=drop_unknown_users,
    )  # fmt: skip
    if catalog is not None:
        _finish_preparing(prepare_catalog(catalog, options, source=source), output or f"data/{catalog}")
        return
    if output is None:
        raise ConfigError("Where to? Give --output FOLDER.")
    if input is not None and _in_parts(input, options, streaming):
        _told(prepare_streaming(input, output, options), output)
        return
    prepared = prepare_file(input, options) if input is not None else prepare_ncf_triple(str(ncf), options)
    _finish_preparing(prepared, output)


def _in_parts(input: str, options: "PrepareOptions", asked: bool | None) -> bool:
    """Whether to stream: as asked, or where memory would not do."""
    from ncf.data.formats import source
    from ncf.data.out_of_core.streaming import wants_streaming

    if asked is not None:
        return asked
    return wants_streaming(source(input, options.format, options.delimiter, options.header))


def _finish_preparing(prepared: "tuple[Dataset, PrepareReport]", output: str) -> None:
    dataset, report = prepared
    dataset.save(output)
    _told(report, output)


def _told(report: "PrepareReport", output: str) -> None:
    for line in report.lines():
        typer.echo(line)
    typer.echo(f"wrote     {output}")
