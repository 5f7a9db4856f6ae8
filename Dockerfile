# Images of the agent and of the cloud.
#
#   docker build --target agent        --tag exec-server .          # Debian; --build-arg BASE= for your own tools
#   docker build --target agent-static --tag exec-server:static .   # nothing but the program
#   docker build --target cloud        --tag exec-cloud .           # registry and rendezvous
#
# The programs are static, run as user 10001 without any capability and with a read-only root, and
# are safe as process 1. Programs that are built already can take the place of the stage `binaries`:
#   docker build --build-context binaries=DIRECTORY ...

ARG BASE=debian:bookworm-slim
ARG BUILDER=rust:1.95-bookworm

FROM ${BUILDER} AS build
WORKDIR /src
COPY . .
RUN cargo run --quiet --locked --package xtask -- release /out

FROM scratch AS binaries
COPY --from=build /out/ /

# The agent on a system with a shell and tools.
FROM ${BASE} AS agent
ARG VERSION=unknown
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="exec-server" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=binaries /exec-server /usr/local/bin/exec-server
COPY --from=binaries --chown=10001:10001 /workspace/ /workspace/
# A name and a shell for the user: tools ask for them.
USER 0:0
RUN shell=/bin/sh; [ ! -x /bin/bash ] || shell=/bin/bash; \
    echo "executor:x:10001:10001::/workspace:$shell" >> /etc/passwd; \
    echo "executor:x:10001:" >> /etc/group
WORKDIR /workspace
ENV HOME=/workspace
USER 10001:10001
ENTRYPOINT ["/usr/local/bin/exec-server"]

# The agent alone: files and HTTP requests, and whatever programs a volume brings.
FROM scratch AS agent-static
ARG VERSION=unknown
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="exec-server" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=binaries /exec-server /usr/local/bin/exec-server
COPY --from=binaries --chown=10001:10001 /workspace/ /workspace/
WORKDIR /workspace
ENV HOME=/workspace \
    PATH=/usr/local/bin:/usr/bin:/bin
USER 10001:10001
ENTRYPOINT ["/usr/local/bin/exec-server"]

# Registry and rendezvous; its database is in the volume.
FROM scratch AS cloud
ARG VERSION=unknown
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="exec-cloud" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=binaries /exec-cloud /usr/local/bin/exec-cloud
COPY --from=binaries --chown=10001:10001 /data/ /var/lib/exec-cloud/
WORKDIR /var/lib/exec-cloud
ENV HOME=/var/lib/exec-cloud \
    PATH=/usr/local/bin:/usr/bin:/bin \
    EXEC_CLOUD_DATA_DIR=/var/lib/exec-cloud \
    EXEC_CLOUD_LISTEN=0.0.0.0:7700
USER 10001:10001
VOLUME /var/lib/exec-cloud
EXPOSE 7700
ENTRYPOINT ["/usr/local/bin/exec-cloud"]
CMD ["serve"]
