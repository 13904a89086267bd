#!/usr/bin/env bash
# Runs the tests of the whole workspace, with the real broker, store emulator and reader that they need.
# Arguments go on to `cargo test`: `test.sh --test it journey` runs the tests of one module.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
integration-tests/provision.sh

# Both commands select the same packages, targets and features, so that nothing is compiled twice. The
# first is there for the binary, which `cargo test` does not build for the tests of another package.
selection=(--workspace --features connector-runtime/failpoints)
cargo build "${selection[@]}" --all-targets

# A test program dies with cargo, and the services and workers that it started die with it: nothing is
# left running by Ctrl-C, by a failure, or by a kill of this script.
host=$(rustc -vV | sed -n 's/^host: //p')
runner=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$host")_RUNNER
export "$runner=setpriv --pdeathsig KILL --"
exec cargo test "${selection[@]}" --no-fail-fast "$@"
