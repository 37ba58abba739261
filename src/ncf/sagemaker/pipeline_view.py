"""An execution of a pipeline in lines for a person, and as a record for a program."""

from datetime import UTC, datetime
from typing import Any

from ncf.sagemaker.pipelines import Execution


def lines(now: Execution) -> list[str]:
    """A line a step, and the whole in the last one."""
    return [*(step_line(one) for one in now.steps), f"{now.status}  {now.arn}"]


def step_line(step: dict[str, Any]) -> str:
    """Name, state, duration, and what there is to say."""
    return f"{step['StepName']:<10} {step['StepStatus']:<10} {_duration(step):>8}  {_remark(step)}".rstrip()


def reason(now: Execution) -> str:
    """Why it failed, in a sentence."""
    failed = [one for one in now.steps if one.get("FailureReason")]
    said = now.described.get("FailureReason") or (failed[0]["FailureReason"] if failed else "")
    if now.status == "Stopped":
        return "'ncf sagemaker pipeline retry' goes on with it."
    return str(said) or "SageMaker gives no reason; see the logs of its last job."


def as_record(now: Execution, verdict: dict[str, Any] | None) -> dict[str, Any]:
    """What `status --json` prints."""
    steps = [
        {"name": one["StepName"], "status": one["StepStatus"], "seconds": _seconds(one),
         "reason": one.get("FailureReason"), "metadata": one.get("Metadata", {})}
        for one in now.steps
    ]  # fmt: skip
    return {"execution": now.arn, "status": now.status, "steps": steps, "package": now.package, "evaluation": verdict}  # fmt: skip


class Changes:
    """The lines of the steps whose state has changed since the last look."""

    def __init__(self) -> None:
        self._before: dict[str, str] = {}

    def lines(self, now: Execution) -> list[str]:
        """What is new."""
        new = [one for one in now.steps if self._before.get(one["StepName"]) != one["StepStatus"]]
        self._before = {one["StepName"]: one["StepStatus"] for one in now.steps}
        return [step_line(one) for one in new]


def _seconds(step: dict[str, Any]) -> float | None:
    if "StartTime" not in step:
        return None
    return float(((step.get("EndTime") or datetime.now(UTC)) - step["StartTime"]).total_seconds())


def _duration(step: dict[str, Any]) -> str:
    seconds = _seconds(step)
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"


def _remark(step: dict[str, Any]) -> str:
    metadata = step.get("Metadata", {})
    if step.get("FailureReason"):
        return str(step["FailureReason"])
    if "Condition" in metadata:
        return "better" if metadata["Condition"].get("Outcome") == "True" else "not better"
    return str(next((one["Arn"] for one in metadata.values() if isinstance(one, dict) and "Arn" in one), ""))
