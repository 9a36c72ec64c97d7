# The toolkit's own image: the gate that warms an engine before it has traffic (aot warm --gate), and
# the routers, each in an environment of its own.
#
#   docker build -t aot:0.1.0 .
#
# BASE: another image with Python 3.11 to 3.13. PIP_INDEX_URL and the like are passed on as build
# arguments where packages come from elsewhere.
ARG BASE=python:3.12-slim
FROM ${BASE}
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY . .
RUN python3 -m venv /opt/aot && /opt/aot/bin/pip install . \
 && for router in vllm-router smg sglang-router; do \
      python3 -m venv /opt/routers/$router \
      && /opt/routers/$router/bin/pip install $(sed -n 's/^  - //p' configs/routers/$router.yaml) \
      || exit 1; \
    done \
 && rm -rf /src/*
ENV PATH=/opt/aot/bin:$PATH HOME=/tmp XDG_CACHE_HOME=/tmp
# A number, so that runAsNonRoot can be checked.
USER 10001
WORKDIR /tmp
ENTRYPOINT ["aot"]
