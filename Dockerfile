# knetsim as an image:
#   docker build -t knetsim -f ./Dockerfile .
#   docker run -it --privileged --rm -p 127.0.0.1:6443-6444:6443-6444 knetsim
#   docker run --privileged --rm knetsim up default --exec 'C0w1 ip route'
#
# utils/setup makes it, as it does on a machine; there is no second way. Behind a proxy that needs a certificate of its
# own, name base images that know it. `--build-arg SKROUTERD_IMAGE=` leaves the real Skupper router out.

ARG BASE_IMAGE=debian:bookworm-slim
ARG GO_IMAGE=golang:1.26-bookworm
ARG SKROUTERD_IMAGE=quay.io/skupper/skupper-router:3.5.1

# The Go programs: compilers and caches stay in this stage.
FROM ${GO_IMAGE} AS programs
WORKDIR /opt/knetsim
COPY utils/setup utils/*.bash utils/
COPY tools tools
RUN ./utils/setup --only-tools

# Skupper's router, out of its own image; out of any other, nothing.
FROM ${SKROUTERD_IMAGE:-${BASE_IMAGE}} AS skrouterd-image
FROM ${BASE_IMAGE} AS skrouterd
COPY --from=skrouterd-image / /image/
COPY utils/unpack-skrouterd utils/prelude.bash /opt/knetsim/utils/
RUN /opt/knetsim/utils/unpack-skrouterd /image /opt/skrouterd

FROM ${BASE_IMAGE}
WORKDIR /opt/knetsim
# Debian's and Python's packages depend on these files only, so a change elsewhere does not install them again.
COPY utils/setup utils/*.bash utils/
COPY pyproject.toml setup.py requirements.txt LICENSE ./
COPY knetsim/__init__.py knetsim/__init__.py
# The pages' lines for a shell begin with sudo, which is to leave alone what ENV says below.
RUN ./utils/setup --quick && apt-get -qq install -y --no-install-recommends sudo > /dev/null \
    && echo 'Defaults !env_reset' > /etc/sudoers.d/knetsim \
    && apt-get clean && rm -rf /var/lib/apt/lists/*
COPY --from=programs /opt/knetsim/.tools/ .tools/
COPY --from=skrouterd /opt/skrouterd/ /opt/skrouterd/
RUN find /opt/skrouterd/bin -type f -exec ln -s -t /usr/local/bin {} +
COPY . .
RUN .venv/bin/python -m compileall -q knetsim
# Ports that are published arrive at the container's own address, not at its loopback.
ENV KNETSIM_API_ADDRESS=0.0.0.0
# `kubectl edit` asks for vi, which a slim image lacks as such.
ENV KUBE_EDITOR="busybox vi"
EXPOSE 6443 6444
ENTRYPOINT ["/opt/knetsim/utils/knetsim"]
CMD ["up"]
