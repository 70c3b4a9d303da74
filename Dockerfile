# syntax=docker/dockerfile:1
# brats3d for CPUs and NVIDIA GPUs. docs/containers.md has the commands.
ARG BASE=python:3.12-slim
FROM ${BASE}

# The index of a build of PyTorch, from its installation page; empty: pip's default, which on Linux contains CUDA.
ARG TORCH_INDEX=

# matplotlib and torch write caches; the user of `docker run --user` has neither a name nor a home
ENV HOME=/tmp \
    XDG_CACHE_HOME=/tmp/.cache \
    MPLCONFIGDIR=/tmp/.matplotlib \
    TORCHINDUCTOR_CACHE_DIR=/tmp/.torchinductor \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /opt/brats3d
COPY . .
RUN pip install --constraint constraints.txt ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} "torch==2.13.0" . \
    && useradd --uid 1000 --no-create-home brats3d

WORKDIR /data
USER 1000
ENTRYPOINT ["brats3d"]
CMD ["--help"]
