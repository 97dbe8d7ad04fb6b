# knetsim as an image:
#   docker build -t knetsim -f ./Dockerfile .
#   docker run -it --privileged --rm -p 127.0.0.1:6443-6444:6443-6444 knetsim
#   docker run --privileged --rm knetsim up default --exec 'C0w1 ip route'
#
# utils/setup makes it, as it does on a machine; there is no second way. Behind a proxy that needs a certificate of its
# own, name base images that know it.

ARG BASE_IMAGE=debian:bookworm-slim
ARG GO_IMAGE=golang:1.26-bookworm

# The Go programs: compilers and caches stay in this stage.
FROM ${GO_IMAGE} AS programs
WORKDIR /opt/knetsim
COPY utils/setup utils/*.bash utils/
COPY tools tools
RUN ./utils/setup --only-tools

FROM ${BASE_IMAGE}
WORKDIR /opt/knetsim
# Debian's and Python's packages depend on these files only, so a change elsewhere does not install them again.
COPY utils/setup utils/*.bash utils/
COPY pyproject.toml setup.py requirements.txt LICENSE ./
COPY knetsim/__init__.py knetsim/__init__.py
RUN ./utils/setup --quick && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
COPY --from=programs /opt/knetsim/.tools/ .tools/
COPY . .
RUN .venv/bin/python -m compileall -q knetsim
# Ports that are published arrive at the container's own address, not at its loopback.
ENV KNETSIM_API_ADDRESS=0.0.0.0
# `kubectl edit` asks for vi, which a slim image lacks as such.
ENV KUBE_EDITOR="busybox vi"
EXPOSE 6443 6444
ENTRYPOINT ["/opt/knetsim/utils/knetsim"]
CMD ["up"]
