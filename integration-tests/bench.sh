#!/usr/bin/env bash
# Measures the whole way of a record against the ceiling: see bench/main.rs, and `bench.sh --help`.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
integration-tests/provision.sh
cargo build --release --workspace --bins
exec target/release/bench "$@"
