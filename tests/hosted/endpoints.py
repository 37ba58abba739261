"""Endpoints: containers that serve, and the invocations that go to them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from hosted.context import Context
from hosted.runners import Running, Spec
from hosted.service import Answer, record_of
from hosted.store import Record, Refusal, invalid, kind_of
from hosted.wire import Call

_REQUEST_HEADERS = ("Content-Type", "Accept")


@dataclass
class Fleet:
    """What serves behind one endpoint."""

    config: str
    running: dict[str, Running] = field(default_factory=dict)
    """By variant."""


class Endpoints:
    """CreateEndpoint, UpdateEndpoint, DeleteEndpoint and the runtime."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.fleets: dict[str, Fleet] = {}

    def CreateEndpoint(self, region: str, parameters: dict[str, Any]) -> Answer:
        self.context.store.get(region, "EndpointConfig", parameters["EndpointConfigName"])
        record = self.context.store.add(record_of(kind_of("Endpoint"), region, parameters))
        record.set(EndpointStatus="InService")
        return {"EndpointArn": record.arn}

    def invoke(self, call: Call) -> tuple[int, dict[str, str], bytes]:
        """One invocation."""
        raise Refusal("InternalFailure", "not there yet", 501)

    def end(self) -> None:
        """End all containers."""
