"""Settings and data as facts, and no path of the machine."""

import shlex
import shutil
from dataclasses import replace
from pathlib import Path

from ncf.analysis.report.inputs import open_report_inputs
from ncf.analysis.report.settings import section
from ncf.config import Experiment
from reports import html


def test_facts_of_model_data_and_split_are_shown(run: Path) -> None:
    inputs = open_report_inputs(run)
    assert inputs.dataset is not None
    described = {
        "licence": "made <up>", "split": {"test": "the latest", "notes": ["a & b"]},
        "audit": {"test": {"lists": 90, "with_duplicates": 3}},
    }  # fmt: skip
    body = html(section(replace(inputs, dataset=replace(inputs.dataset, description=described))))
    for words in (
        "made &lt;up&gt;",
        "the latest",
        "a &amp; b",
        "with duplicates",
        "training interactions",
        "neumf",
        inputs.dataset.digest[:16],
    ):
        assert words in body


def test_the_settings_are_overrides_that_give_the_same_experiment(run: Path) -> None:
    inputs = open_report_inputs(run)
    body = html(section(inputs))
    lines = body.split('<pre class="settings">')[1].split("</pre>")[0].replace("&#34;", '"').splitlines()
    again = Experiment.parse({"name": inputs.name}, lines)
    assert again.digest() == inputs.artifact.experiment.digest()


def test_no_path_of_the_machine_is_description(run: Path, tmp_path: Path) -> None:
    assert str(run.parent) not in html(section(open_report_inputs(run)))
    shutil.copytree(run / "artifact", tmp_path / "a model")
    body = html(section(open_report_inputs(tmp_path / "a model")))
    assert str(tmp_path) not in body
    assert (
        shlex.quote("a model").replace("'", "&#39;") + "/config.json" in body or "a model/config.json" in body
    )
    assert "--data DATA" in body
