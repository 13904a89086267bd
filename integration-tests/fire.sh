#!/usr/bin/env bash
# Puts workers under fire for as many rounds as one likes: see tests/it/fire.rs.
# usage: fire.sh [--rounds N] [--seed S] [TEST...]    (TEST: part of a test's name, all four by default)
set -euo pipefail

while [ $# -gt 0 ]; do
  case $1 in
    --rounds) export ALLUVIUM_FIRE_ROUNDS=${2:?a number} && shift 2 ;;
    --seed) export ALLUVIUM_IT_SEED=${2:?a number} && shift 2 ;;
    --*) sed -n '2,3p' "$0" >&2 && exit 2 ;;
    *) break ;;
  esac
done

if [ $# -eq 0 ]; then set -- fire::; fi
# One after the other: they are to fight for commits, not for the machine.
exec "$(dirname "${BASH_SOURCE[0]}")/test.sh" --test it -- --test-threads 1 --nocapture "$@"
