"""Tagged resources that moto's tagging API passes over: repositories, and groups of schedules."""

from __future__ import annotations

from collections.abc import Iterator

from hosted.store import ACCOUNT


def passed_over(region: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Type, ARN and tags of each."""
    from moto.backends import get_backend

    ecr = get_backend("ecr")[ACCOUNT][region]
    for repository in ecr.repositories.values():
        yield "ecr:repository", repository.arn, ecr.tagger.get_tag_dict_for_resource(repository.arn)
    scheduler = get_backend("scheduler")[ACCOUNT][region]
    for group in scheduler.schedule_groups.values():
        yield "scheduler:schedule-group", group.arn, scheduler.tagger.get_tag_dict_for_resource(group.arn)
