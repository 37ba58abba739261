"""`ncf sagemaker pipeline …` and `models …` against the double of AWS, with the steps' real programs as
containers."""

from pathlib import Path
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from aws import Aws
from ncf.cli.sagemaker import app
from ncf.sagemaker.container import pipeline_steps, train
from support import planted

if TYPE_CHECKING:
    from hosted.inline import Spec

IMAGE = "999999999999.dkr.ecr.us-east-1.amazonaws.com/ncf:1"
RECIPE = """
name = "small-gmf"
[model]
kind = "gmf"
factors = 8
[train]
epochs = 6
batch_size = 128
learning_rate = 0.01
l2_gmf = 0.001
precision = "float32"
threads = 1
[evaluation]
bootstrap = 100
"""


def container(spec: "Spec") -> int:
    """What our image runs."""
    return (
        train.main(spec.root) if spec.kind == "train" else pipeline_steps.main(list(spec.command), spec.root)
    )


class Commands:
    """`ncf sagemaker …` against the double."""

    def __init__(self, aws: Aws, folder: Path) -> None:
        data = str(folder / "data")
        self.options = ["--role", aws.role, "--bucket", "mine", "--image", IMAGE, "--data", data]
        self.recipe = folder / "recipe.toml"
        self.recipe.write_text(RECIPE, "utf-8")
        self.said = ""
        """What the last command said beside its output."""
        planted().save(folder / "data")

    def __call__(self, *words: str) -> str:
        done = CliRunner().invoke(app, list(words))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        self.said = done.stderr
        return done.stdout

    def create(self, *more: str) -> str:
        return self("pipeline", "create", str(self.recipe), *self.options, *more)

    def start(self, *more: str) -> str:
        return self("pipeline", "start", "--bucket", "mine", "--follow", *more)
