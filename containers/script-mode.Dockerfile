# What AWS's PyTorch training images have of script mode, for the tests of the code that runs in them: torch, the
# toolkits `sagemaker-training` and `sagemaker-pytorch-training`, their `train`, and no ncf. Built from our own image:
# scripts/image ncf-script-mode:local --file containers/script-mode.Dockerfile --build-arg BASE_IMAGE=ncf:local
ARG BASE_IMAGE=ncf:local

FROM ${BASE_IMAGE} AS wheels
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev python3-dev > /dev/null
RUN python -m pip wheel --no-deps --wheel-dir /wheels sagemaker-training==5.1.4 sagemaker-pytorch-training==3.0.0

FROM ${BASE_IMAGE}
RUN rm /usr/local/bin/train /usr/local/bin/serve /usr/local/bin/healthy
# threadpoolctl stands for what those images lack of ncf's requirements: the job must bring it.
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    python -m pip uninstall --yes --quiet ncf threadpoolctl \
    && python -m pip install --quiet --constraint /constraints.txt /wheels/*.whl
ENV SAGEMAKER_TRAINING_MODULE=sagemaker_pytorch_container.training:main
HEALTHCHECK NONE
CMD ["train"]
