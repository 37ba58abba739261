"""The files of recipes: those that come with the package, by name, and those of a user, by path.

In: a path or a name. Out: the recipe as nested dictionaries, which `config.Experiment` checks. The decision
worth knowing: a file of that name comes before a recipe of the package.
"""

import json
import tomllib
from pathlib import Path
from typing import Any

from ncf.errors import ConfigError

_HALVES = ("gmf", "mlp")


def read_recipe(path: Path) -> dict[str, Any]:
    """The recipe in `path` as nested dictionaries; those named in `[pretraining]` lie beside it.

    A name without a folder that is no file here is that of a recipe of the package, such as `neumf`.
    """
    path = or_packaged(path)
    try:
        text = path.read_text("utf-8")
        values: dict[str, Any] = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(
            f"There is no recipe {path}: check the path, or take a ready one of 'ncf recipes list'."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The recipe {path} cannot be read ({error}): check the path and its permissions."
        ) from None
    except (tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"The recipe {path} is not valid: {error}.") from None
    models = values.get("pretraining")
    if isinstance(models, dict):
        for kind in _HALVES:
            if isinstance(models.get(kind), str):
                models[kind] = read_recipe(path.parent / models[kind])
    return values


def or_packaged(path: Path, folder: str = ".") -> Path:
    """`path`; or, for a name without a folder that is no file here, the package's file of that name."""
    bare = not path.exists() and path.parent == Path()
    return packaged_recipes(folder).get(path.name, path) if bare else path


def packaged_recipes(folder: str = ".") -> dict[str, Path]:
    """The recipes that come with the package by name: beside this file in a wheel, else in the checkout.

    `folder` is one of theirs; `spaces` has the spaces of searches.
    """
    here = Path(__file__).parent
    homes = here / "recipes", here.parents[1] / "recipes"
    home = next((home for home in homes if home.is_dir()), homes[0])
    return {path.stem: path for path in sorted((home / folder).glob("*.toml"))}


def halves_of(path: Path) -> list[Path]:
    """The files of the recipes that the recipe in `path` names in `[pretraining]`, and of their halves."""
    named = tomllib.loads(path.read_text("utf-8")).get("pretraining", {})
    files = [path.parent / half for half in map(named.get, _HALVES) if isinstance(half, str)]
    return [*files, *(inner for file in files for inner in halves_of(file))]
