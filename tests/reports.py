"""Small runs to report on, and the HTML of a section, for the tests of the report and its page."""

from dataclasses import replace
from pathlib import Path

import polars as pl

from ncf import experiment
from ncf.analysis.report.page import Section, page
from ncf.config import Experiment
from ncf.data import Dataset
from support import planted

HOSTILE = "<script>document.title='taken'</script>"


def titled() -> Dataset:
    """90 users who took what hidden factors rank highest of 60 items; two titles are meant to do harm."""
    data = planted(90, 60, each=12)
    titles = [HOSTILE, "Fish & chips | salt", *data.item_columns["title"].to_list()[2:]]
    return replace(data, item_columns=data.item_columns.with_columns(title=pl.Series(titles)))


def trained(dataset: Dataset, settings: Experiment, folder: Path, name: str) -> Path:
    """A run in `folder/name` on data that lie beside it."""
    data = folder / f"{name}-data"
    dataset.save(data)
    experiment.train(dataset, settings, folder / name, data_path=data)
    return folder / name


def html(section: Section) -> str:
    """The section as the page writes it, without its title."""
    document = page("title", [], [section], "a test")
    return document.partition("</h2>")[2].partition("</section>")[0]
