"""`ncf prepare`."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ncf.cli.options import exactly_one
from ncf.errors import ConfigError

if TYPE_CHECKING:
    from ncf.data import PrepareOptions


def prepare(
    output: Annotated[
        str | None, typer.Option(help="Folder to write; data/NAME for a known data set.")
    ] = None,
    input: Annotated[
        str | None,
        typer.Option(help="Table of interactions: a file, folder, pattern or s3:// URI."),
    ] = None,
    ncf: Annotated[
        str | None, typer.Option(help="PREFIX of .train.rating, .test.rating and .test.negative.")
    ] = None,
    train: Annotated[
        str | None, typer.Option(help="Published split: a table, or lines of a user and its items.")
    ] = None,
    test: Annotated[str | None, typer.Option(help="Its test items, any number a user.")] = None,
    catalog: Annotated[
        Literal["ml-1m", "ml-100k", "pinterest-20", "lastfm"] | None, typer.Option(help="Known data set.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Folder with the files of a known data set, instead of a download.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="Column of user ids.")] = None,
    item: Annotated[str | None, typer.Option(help="Column of item ids.")] = None,
    time: Annotated[str | None, typer.Option(help="Column of timestamps.")] = None,
    rating: Annotated[str | None, typer.Option(help="Column of ratings.")] = None,
    weight: Annotated[
        str | None, typer.Option(help="Column of weights, such as counts: how often training draws a row.")
    ] = None,
    event: Annotated[str | None, typer.Option(help="Column of types of events, such as view.")] = None,
    event_weight: Annotated[
        list[str] | None,
        typer.Option(metavar="TYPE=WEIGHT", help="Weight of a type, repeatable; 0 leaves its rows out."),
    ] = None,
    repeats: Annotated[
        Literal["latest", "sum"],
        typer.Option(help="Weight of a repeated pair: the latest row's, or the sum (counts, if no weights)."),
    ] = "latest",
    format: Annotated[
        Literal["csv", "parquet", "jsonl", "movielens", "lines"] | None,
        typer.Option(help="File format, if the name does not tell it."),
    ] = None,
    delimiter: Annotated[str | None, typer.Option(help="Field delimiter of a text file.")] = None,
    header: Annotated[
        bool | None, typer.Option(help="Whether the first line of a text file names the columns.")
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(help="Encoding of text files, such as utf-16 or latin-1; by default utf-8."),
    ] = None,
    no_time: Annotated[bool, typer.Option("--no-time", help="Guess no column of timestamps.")] = False,
    no_rating: Annotated[bool, typer.Option("--no-rating", help="Guess no column of ratings.")] = False,
    items: Annotated[str | None, typer.Option(help="Table with titles and other columns of items.")] = None,
    items_id: Annotated[str | None, typer.Option(help="Column of item ids in the --items table.")] = None,
    min_user: Annotated[int, typer.Option(help="k-core: minimum interactions per user.")] = 1,
    min_item: Annotated[int, typer.Option(help="k-core: minimum interactions per item.")] = 1,
    min_rating: Annotated[float | None, typer.Option(help="Drop interactions with a lower rating.")] = None,
    split: Annotated[Literal["last", "random", "time", "none"], typer.Option(help="Test split.")] = "last",
    validation: Annotated[
        Literal["auto", "last", "random", "none"], typer.Option(help="Validation split.")
    ] = "auto",
    validation_popularity_exponent: Annotated[
        float, typer.Option(help="Random validation: favour unpopular items by popularity^-exponent.")
    ] = 0.0,
    negatives: Annotated[int, typer.Option(help="Negatives per candidate list.")] = 99,
    seed: Annotated[int, typer.Option(help="Random seed of splits and candidate lists.")] = 0,
    drop_unknown_users: Annotated[
        bool, typer.Option(help="Drop test rows of users without training rows.")
    ] = False,
    streaming: Annotated[
        bool | None,
        typer.Option(
            help="Read in parts to save memory; by default only if memory is too small.", show_default=False
        ),
    ] = None,
) -> None:
    """Prepare a data folder from a table of interactions, a published split or a known data set.

    Examples:
        ncf prepare --input events.csv --output data/mine
        ncf prepare --catalog ml-1m
    """
    from ncf import data
    from ncf.data.options import read_event_weights

    if (train is None) != (test is None):
        raise ConfigError("--train and --test name the two files of a published split: give both.")
    exactly_one({"--input": input, "--ncf": ncf, "--train": train, "--catalog": catalog})
    if streaming and input is None:
        raise ConfigError("--streaming works only with --input: other sources fit into memory.")
    options = data.PrepareOptions(
        user=user, item=item, time=time, rating=rating, weight=weight, event=event,
        event_weights=read_event_weights(event_weight or ()), repeats=repeats, format=format,
        delimiter=delimiter, header=header, encoding=encoding, no_time=no_time, no_rating=no_rating,
        items_file=items, items_id=items_id,
        min_user=min_user, min_item=min_item, min_rating=min_rating,
        split=split, validation=validation, validation_popularity_exponent=validation_popularity_exponent,
        negatives=negatives, seed=seed, drop_unknown_users=drop_unknown_users,
    )  # fmt: skip
    if catalog is not None:
        output = output or f"data/{catalog}"
    if output is None:
        raise ConfigError("Give --output FOLDER to say where to write.")
    if input is not None and _in_parts(input, options, streaming):
        report = data.prepare_streaming(input, output, options)
    else:
        if catalog is not None:
            dataset, report = data.prepare_catalog(catalog, options, source=source)
        elif input is not None:
            dataset, report = data.prepare_file(input, options)
        elif train is not None:
            dataset, report = data.prepare_split_files(train, str(test), options)
        else:
            dataset, report = data.prepare_ncf_triple(str(ncf), options)
        dataset.save(output)
    for line in report.lines():
        typer.echo(line)
    typer.echo(f"wrote     {output}")


def _in_parts(input: str, options: "PrepareOptions", requested: bool | None) -> bool:
    """Whether to stream: as `requested`, or else if the table would not fit into memory."""
    from ncf.data.out_of_core.streaming import wants_streaming
    from ncf.data.prepare import source_of

    if requested is not None:
        return requested
    return wants_streaming(source_of(input, options))
