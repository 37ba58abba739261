"""The policy allows the calls that the source makes, all of them and no others."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ncf.cli.sagemaker import app
from ncf.errors import ConfigError
from ncf.sagemaker.account.iam import ArnContext, actions_of, document
from ncf.sagemaker.account.inventory import TYPES
from ncf.sagemaker.account.permissions import BEYOND, CALLS, EXECUTION, PIPELINE, SCOPES

ROOT = Path(__file__).parents[3]
TRANSFERS = ("upload_file", "download_file", "upload_fileobj", "download_fileobj")
NOT_OURS = {"search", "create_connection"}
"""Names of operations that objects of Python have as well: these count only on something called a client."""


@cache
def operations() -> dict[str, set[str]]:
    """Names of methods of boto3's clients, to the services that have them."""
    import boto3
    import botocore.session
    from botocore import xform_name

    session, found = botocore.session.get_session(), {name: {"s3"} for name in TRANSFERS}
    for service in set(CALLS) | used_services():
        assert service in boto3.Session().get_available_services(), f"{service} is no service of boto3"
        for operation in session.get_service_model(service).operation_names:
            found.setdefault(xform_name(operation), set()).add(service)
    return found


def sources() -> list[Path]:
    """What speaks to AWS: local mode does not."""
    wings = (ROOT / "src/ncf/sagemaker", ROOT / "src/ncf/cli")
    return [
        path
        for wing in wings
        for path in sorted(wing.rglob("*.py"))
        if "local" not in path.parts and path.stem not in ("iam", "permissions")
    ]


def client_of(node: ast.AST) -> str | None:
    """The service of `….client("service")`."""
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "client"
        and node.args
    ):
        name = node.args[0]
        return name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else None
    return None


def used_services() -> set[str]:
    """Every service that the source asks a client of."""
    nodes = (node for path in sources() for node in ast.walk(ast.parse(path.read_text("utf-8"))))
    return {service for node in nodes if (service := client_of(node))}


def clients_in(function: ast.AST) -> dict[str, str]:
    """Variables of a function that hold a client, to its service."""
    found = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                pairs = (
                    zip(target.elts, node.value.elts, strict=False)
                    if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
                    else [(target, node.value)]
                )
                found |= {t.id: s for t, v in pairs if isinstance(t, ast.Name) and (s := client_of(v))}
    return found


def calls_in(path: Path) -> Iterator[tuple[str | None, str, int]]:
    """Service (None where the source does not tell), operation, line."""
    tree, seen = ast.parse(path.read_text("utf-8")), set()
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for scope in [*functions, tree]:
        clients = clients_in(scope) if isinstance(scope, ast.FunctionDef) else {}
        for node in ast.walk(scope):
            if id(node) in seen:
                continue
            if isinstance(node, ast.Attribute) and node.attr in operations():
                seen.add(id(node))
                owner = ast.unparse(node.value)
                if node.attr in NOT_OURS and "client" not in owner:
                    continue
                yield (
                    client_of(node.value) or clients.get(owner) or (owner if owner in CALLS else None),
                    node.attr,
                    node.lineno,
                )
            elif (
                isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in operations()
            ):
                seen.add(id(node))
                yield None, node.value, node.lineno


def made() -> dict[tuple[str | None, str], str]:
    """Every call of the source, to where it is made first."""
    found: dict[tuple[str | None, str], str] = {}
    for path in sources():
        for service, operation, line in calls_in(path):
            found.setdefault((service, operation), f"{path.relative_to(ROOT)}:{line}")
    # The inventory and the clean-up derive these names from the nouns of a table.
    for kind in TYPES:
        for verb in ("list", "describe", "delete", *(("stop",) if kind.stoppable else ())):
            if kind.operation(verb) in operations():
                found.setdefault(("sagemaker", kind.operation(verb)), "the table of types in inventory.py")
    return found


def allowed() -> set[tuple[str, str]]:
    return {(service, one) for service, scopes in CALLS.items() for names in scopes.values() for one in names}


def test_every_call_of_the_source_is_in_the_table() -> None:
    names = {operation for _, operation in allowed()}
    missing = [
        (
            f"{where}: {service or 'a client'}.{operation} is not in CALLS of "
            "ncf/sagemaker/account/permissions.py"
        )
        for (service, operation), where in made().items()
        if ((service, operation) not in allowed() if service else operation not in names)
    ]
    assert not missing, "\n".join(missing)


def test_the_table_has_nothing_that_the_source_does_not_call() -> None:
    calls = set(made())
    idle = [
        f"{service}.{operation} is in CALLS of ncf/sagemaker/account/permissions.py, and nothing calls it"
        for service, operation in sorted(allowed())
        if (service, operation) not in calls and (None, operation) not in calls
    ]
    assert not idle, "\n".join(idle)


def test_the_scan_sees_calls_of_every_form(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text(
        "def f(session, client, pattern):\n"
        "    session.client('ecr').delete_repository()\n"
        "    events, x = session.client('events'), 1\n"
        "    events.list_rules()\n"
        "    client.get_paginator('list_models')\n"
        "    pages(client.describe_images, 'x')\n"
        "    pattern.search('text')\n"
    )
    assert {(service, operation) for service, operation, _ in calls_in(source)} == {
        ("ecr", "delete_repository"),
        ("events", "list_rules"),
        (None, "list_models"),
        (None, "describe_images"),
    }


def test_no_operation_has_two_scopes_and_every_scope_is_used() -> None:
    pairs = [
        (service, one) for service, scopes in CALLS.items() for names in scopes.values() for one in names
    ]
    assert len(pairs) == len(set(pairs))
    used = {scope for scopes in CALLS.values() for scope in scopes}
    assert used == set(SCOPES)


def test_an_action_is_named_as_the_operation_is() -> None:
    import botocore.session
    from botocore import xform_name

    session = botocore.session.get_session()
    other = {
        "HeadBucket": "ListBucket", "ListObjectsV2": "ListBucket", "HeadObject": "GetObject",
        "DeleteObjects": "DeleteObject", "ListObjectVersions": "ListBucketVersions",
    }  # fmt: skip
    for service in CALLS:
        names = {xform_name(name): name for name in session.get_service_model(service).operation_names}
        for operation in (operation for wanted, operation in allowed() if wanted == service):
            if operation not in TRANSFERS and (needed := actions_of(service, operation)):
                name = names[operation]
                assert needed[0].partition(":")[2] == other.get(name, name), f"{service}.{operation}"


@pytest.mark.parametrize("which", ["user", "execution"])
def test_policies_are_valid_and_narrow(which: str) -> None:
    place = ArnContext("shop", "123456789012", "eu-west-1", "shelf", "runner")
    policy = document(which, place, kms=True, vpc=True)
    text = json.dumps(policy)
    sids = [one["Sid"] for one in policy["Statement"]]
    assert len(sids) == len(set(sids))
    assert all(re.fullmatch(r"[A-Za-z0-9]+", sid) for sid in sids)
    assert "{" not in "".join(resource for one in policy["Statement"] for resource in one["Resource"])
    assert not re.search(r'"[a-z-]+:\*"', text), "no action is a whole service"
    small = json.dumps(policy, separators=(",", ":"))
    assert len(small) < 10_240, "the limit of all policies inside a role"
    for one in policy["Statement"]:
        changes = [
            a
            for a in one["Action"]
            if re.search(r":(Create|Delete|Put|Update|Stop|Deregister|Register|Start|Pass)", a)
        ]
        if changes and "*" in one["Resource"]:
            assert one["Sid"] in ("Network", "Metrics"), f"{changes} on everything"


def test_deleting_needs_the_tag_or_the_projects_name() -> None:
    for one in document("user")["Statement"]:
        if any(":Delete" in action for action in one["Action"]):
            condition = one.get("Condition", {}).get("StringEquals", {})
            tagged = condition.get("aws:ResourceTag/ncf:project") == "ncf"
            assert tagged or all(
                re.search(r"[/:]ncf([-/*:]|$)|log-stream:(ncf|pipelines)-", resource)
                for resource in one["Resource"]
            ), one["Sid"]


def test_a_role_is_passed_to_sagemaker_and_the_scheduler_only() -> None:
    passing = [one for one in document("user")["Statement"] if "iam:PassRole" in one["Action"]]
    services = [one["Condition"]["StringEquals"]["iam:PassedToService"] for one in passing]
    assert services == [["sagemaker.amazonaws.com"], ["scheduler.amazonaws.com"]]
    assert all(one["Resource"] == ["arn:aws:iam::ACCOUNT:role/ROLE"] for one in passing)


def test_what_is_beyond_the_calls_says_why() -> None:
    assert all(one.why for one in (*BEYOND, *EXECUTION, *PIPELINE))


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(ConfigError, match="user, execution or trust"):
        document("admin")


def test_the_command_prints_it() -> None:
    result = CliRunner().invoke(
        app, ["policy", "--role", "execution", "--bucket", "shelf", "--project", "shop"]
    )
    assert json.loads(result.output) == document("execution", ArnContext("shop", bucket="shelf"))


def actions(rows: Iterable[str]) -> set[tuple[str, str]]:
    """Statement and action of each row of a table: `| `Sid` | service: `Action`, `Action`; service: … | why
    |`."""
    found = set()
    for row in rows:
        sid, cell, why = (part.strip() for part in row.strip("|").split("|"))
        assert why, row
        for group in cell.split("; "):
            service, _, names = group.partition(": ")
            found |= {(sid.strip("`"), f"{service}:{name.strip('`')}") for name in names.split(", ")}
    return found


@pytest.mark.parametrize(
    ("heading", "which", "options"),
    [("The user of ncf", "user", {"kms": True}), ("The execution role", "execution", {"vpc": True})],
)
def test_the_page_lists_every_action_of_the_policies(
    heading: str, which: str, options: dict[str, bool]
) -> None:
    text = (ROOT / "docs/iam.md").read_text("utf-8")
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    written = actions(line for line in section.splitlines() if line.startswith("| `"))
    statements = document(which, **options)["Statement"]
    assert written == {(one["Sid"], action) for one in statements for action in one["Action"]}


def test_the_page_names_who_may_assume_the_execution_role() -> None:
    section = (ROOT / "docs/iam.md").read_text("utf-8").partition("## Trust of the execution role\n")[2]
    (statement,) = document("trust")["Statement"]
    for name in (*statement["Principal"]["Service"], statement["Action"]):
        assert f"`{name}`" in section.partition("\n## ")[0]
