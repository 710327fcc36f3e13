# The project on a CPU: docker build -t token-pruning . && docker run --rm token-pruning
FROM python:3.11-slim

RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ git make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /work
COPY . .
RUN make setup

ENV PATH="/work/.venv/bin:$PATH"
CMD ["make", "demo"]
