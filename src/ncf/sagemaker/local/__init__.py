"""SageMaker on this machine: clients shaped as boto3's, which run containers through the SDK's local mode.

| file | what |
| --- | --- |
| `client.py` | `SageMaker`: the calls, one method each |
| `requests.py` | requests judged by AWS's own model of the service, and its errors |
| `state.py` | what exists: one small file a resource, below `home` |
| `jobs.py`, `models.py`, `endpoints.py` | the resources behind the calls |
| `runtime.py`, `logs.py` | `Runtime` asks endpoints, `Logs` reads what containers wrote |
| `process.py`, `worker.py` | the detached process that a job or an endpoint lives in |
| `sdk.py`, `watch.py`, `training.py`, `serving.py`, `transform.py` | what it does there |
| `docker.py` | the few commands that are given to Docker directly |

The one decision worth knowing: a job or an endpoint is a process of its own, in its own session, so that a command can
end, or be interrupted, while what it started goes on; a later command finds it through the files.
"""

from ncf.sagemaker.local.client import SageMaker
from ncf.sagemaker.local.logs import Logs
from ncf.sagemaker.local.runtime import Runtime

__all__ = ["Logs", "Runtime", "SageMaker"]
