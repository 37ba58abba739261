"""`ncf sagemaker invoke`: the options and output of `ncf recommend`, answered by an endpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ncf.cli.answers import print_answer
from ncf.cli.options import (
    Candidate,
    Exclude,
    History,
    IncludeSeen,
    Items,
    Json,
    SimilarTo,
    Strict,
    User,
    exactly_one,
    print_json,
)
from ncf.cli.sagemaker import options as shared
from ncf.cli.sagemaker.endpoints import Endpoint
from ncf.errors import ConfigError, need

if TYPE_CHECKING:
    from ncf.sagemaker.session import Session


@shared.with_session((*shared.STORES, "kms_key"))
def invoke(
    session: "Session",
    name: Endpoint = None,
    user: User = None,
    history: History = None,
    similar_to: SimilarTo = None,
    k: Items = 10,
    candidate: Candidate = None,
    exclude: Exclude = None,
    include_seen: IncludeSeen = False,
    strict: Strict = False,
    file: Annotated[
        str | None,
        typer.Option(
            metavar="JSONL", help="A request a line, as docs/serving.md describes.", show_default=False
        ),
    ] = None,
    boto3: Annotated[
        bool, typer.Option("--boto3", help="Use plain boto3 instead of SageMaker's SDK.")
    ] = False,
    variant: Annotated[
        str | None, typer.Option(help="Ask this production variant.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask an endpoint for recommendations; the answer is printed as 'ncf recommend' prints it.

    Examples:
        ncf sagemaker invoke shop --user user7 -k 3
        ncf sagemaker invoke shop --local --file requests.jsonl
    """
    if not boto3:
        need("sagemaker", "sagemaker")
    from ncf.sagemaker.endpoints.invoke import Endpoint, request_document

    visitor = history if not user else None
    exactly_one({"--user": user, "--history": visitor, "--similar-to": similar_to, "--file": file})
    lines = [] if file is None else _lines(Path(file))
    endpoint = Endpoint(session, name or session.project, boto3=boto3, variant=variant)
    if file is not None:
        for answer in endpoint.ask_lines(lines):
            print_json(answer)
        return
    document = request_document(
        users=user or (), history=history, similar_to=similar_to, k=k, candidates=candidate,
        exclude=exclude or (),
        exclude_seen=not include_seen, strict=strict,
    )  # fmt: skip
    print_answer(endpoint.ask(document), as_json)


def _lines(path: Path) -> list[bytes]:
    try:
        lines = [line for line in path.read_bytes().splitlines() if line.strip()]
    except OSError as error:
        raise ConfigError(f"The file of requests {path} cannot be read ({error.strerror}).") from None
    if not lines:
        raise ConfigError(f"The file of requests {path} is empty: it needs a JSON request a line.")
    return lines
