"""The log group of an endpoint: it outlives the endpoint, and has no tag that tells whose it is until we put one on.

In: a session and the name of an endpoint that was found to be this project's. Nothing here proves that; the caller does.
"""

from ncf.errors import CloudError
from ncf.sagemaker.logs import ENDPOINTS
from ncf.sagemaker.paging import entries
from ncf.sagemaker.session import TAG, Session


def group_of(endpoint: str) -> str:
    """The name of its log group."""
    return f"{ENDPOINTS}/{endpoint}"


def claim(session: Session, endpoint: str) -> None:
    """Put the project's tag on it, so that clean-up finds it when the endpoint is gone; local mode has no tags."""
    logs, name = session.client("logs"), group_of(endpoint)
    for group in entries(logs.describe_log_groups, "logGroups", "nextToken", logGroupNamePrefix=name):
        if group["logGroupName"] == name and "arn" in group:
            arn = group["arn"].removesuffix(":*")
            logs.tag_resource(resourceArn=arn, tags={TAG: session.project})


def remove(session: Session, endpoint: str) -> bool:
    """Delete it; whether there was one. Raises `CloudError` where AWS refuses."""
    try:
        session.client("logs").delete_log_group(logGroupName=group_of(endpoint))
    except CloudError as error:
        if error.code == "ResourceNotFoundException":
            return False
        raise
    return True
