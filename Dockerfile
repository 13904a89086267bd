# Builds one binary that needs glibc and nothing else, and an image that runs it as nobody.
#   docker build -t alluvium .
#   docker run -v "$PWD:/work" -w /work alluvium run clicks.yaml
# `docker stop` sends SIGTERM: the worker commits what it has read, leaves the group and exits 0.

ARG BUILDER=rust:1.95-bookworm
ARG BASE=debian:bookworm-slim

FROM ${BUILDER} AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates g++ make perl \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src

# Dependencies first: this layer is built again only when a manifest or the lock file changes.
COPY Cargo.toml Cargo.lock rust-toolchain.toml ./
COPY connector-runtime/Cargo.toml connector-runtime/Cargo.toml
COPY connector-runtime/api/Cargo.toml connector-runtime/api/Cargo.toml
COPY connectors/Cargo.toml connectors/Cargo.toml
COPY integration-tests/Cargo.toml integration-tests/Cargo.toml
RUN for package in connector-runtime connector-runtime/api connectors integration-tests; do \
        mkdir -p "$package/src" && touch "$package/src/lib.rs"; \
    done \
    && echo 'fn main() {}' > connector-runtime/src/main.rs \
    && mkdir connectors/benches \
    && for bench in json_decode parts; do echo 'fn main() {}' > "connectors/benches/$bench.rs"; done \
    && cargo build --release --locked --package connector-runtime --bin alluvium

COPY connector-runtime connector-runtime
COPY connectors connectors
# The program holds the reference of its configuration.
COPY configs/reference.yaml configs/reference.yaml
RUN find connector-runtime connectors -name '*.rs' -exec touch {} + \
    && cargo build --release --locked --package connector-runtime --bin alluvium \
    && cp target/release/alluvium /alluvium

FROM ${BASE}
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /alluvium /usr/local/bin/alluvium
USER 65534:65534
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/alluvium"]
CMD ["--help"]
