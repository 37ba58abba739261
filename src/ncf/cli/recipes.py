"""`ncf recipes`: the recipes that come with the package."""

from pathlib import Path
from typing import Annotated

import typer

from ncf.cli.help import App
from ncf.errors import ConfigError, StorageError

recipes_app = App(help="List, show or copy the recipes that come with the package.")
Name = Annotated[str, typer.Argument(help="Name of a recipe, as 'ncf recipes list' prints it.")]


@recipes_app.command("list")
def list_recipes() -> None:
    """Print the name of each recipe and what it is.

    Examples:
        ncf recipes list
        ncf recipes list | grep neumf
    """
    from rich.table import Table

    from ncf.recipe_files import packaged_recipes
    from ncf.tracking.console import OUT

    table = Table(box=None, show_header=False, pad_edge=False)
    for name, path in packaged_recipes().items():
        lines = path.read_text("utf-8").splitlines()
        words = " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))
        table.add_row(name, words.split(". ")[0].split(": ")[0].rstrip(".") + ".")
    OUT.print(table)


@recipes_app.command("show")
def show_recipe(name: Name) -> None:
    """Print a recipe.

    Examples:
        ncf recipes show neumf
        ncf recipes show ml-1m-gmf
    """
    typer.echo(_path(name).read_text("utf-8"), nl=False)


@recipes_app.command("copy")
def copy_recipe(
    name: Name,
    output: Annotated[
        str | None, typer.Option(help="File to write; NAME.toml here by default.", show_default=False)
    ] = None,
) -> None:
    """Copy a recipe to a file of your own, to change it. Its halves are copied beside it.

    Examples:
        ncf recipes copy neumf
        ncf recipes copy neumf --output mine.toml
    """
    from ncf.data.files import storage_errors
    from ncf.recipe_files import halves_of

    source, target = _path(name), Path(output or f"{name}.toml")
    copies = {source: target} | {half: target.parent / half.name for half in halves_of(source)}
    for copy in copies.values():
        if copy.exists():
            raise StorageError(f"{copy} exists already: choose another --output.")
    for original, copy in copies.items():
        with storage_errors(copy):
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(original.read_text("utf-8"), "utf-8")
        typer.echo(f"Wrote {copy}.")


def _path(name: str) -> Path:
    from ncf.recipe_files import packaged_recipes

    found = packaged_recipes().get(name)
    if found is None:
        raise ConfigError(f"There is no recipe {name}: 'ncf recipes list' prints their names.")
    return found
