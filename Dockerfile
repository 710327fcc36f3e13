# A machine without a GPU on which everything is set up; it runs the demo:
#     docker build -t token-pruning . && docker run --rm -v "$PWD/work_dirs:/token-pruning/work_dirs" token-pruning
FROM python:3.11-slim

# The compiler builds the project's own operator; OpenMP comes with it.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ git make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /token-pruning
# No wheels of CUDA on a machine without a GPU.
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu \
    PIP_NO_CACHE_DIR=1 \
    MSDA_BUILD=cpu
COPY . .
RUN make setup PYTHON=python3

CMD ["make", "demo"]
