"""SageMaker on this machine: one control plane behind local mode and behind the double of AWS (README.md).

The one decision worth knowing: a job or a fleet of an endpoint is a process of its own, in its own session,
so a command can end, or be interrupted, while what it started goes on; a later command finds it through the
files.
"""

from ncf.sagemaker.local.client import SERVICES, local_client

__all__ = ["SERVICES", "local_client"]
