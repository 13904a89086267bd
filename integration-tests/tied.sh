#!/usr/bin/env bash
# Runs a service that ends when its starter does.
# usage: tied.sh FOLDER COMMAND ARG...
#
# The starter keeps the other end of our standard input open. However it ends (also by kill -9, when
# nobody can clean up any more) the kernel closes that end; then the service dies and FOLDER goes.
# A service that ends by itself leaves FOLDER, with its output, to be looked at.
set -euo pipefail

folder=$1
shift

exec 3<&0
# A process group of its own: Ctrl-C is for the starter, and what the service starts dies with it.
setsid setpriv --pdeathsig KILL "$@" </dev/null >>"$folder/output.log" 2>&1 3<&- &
service=$!
trap '' INT TERM HUP
cat <&3 >/dev/null &
starter_lives=$!

wait -n "$service" "$starter_lives" || true
if kill -0 "$starter_lives" 2>/dev/null; then
  kill -9 "$starter_lives"
  wait "$service"
else
  kill -9 -- "-$service" 2>/dev/null || true
  wait "$service" 2>/dev/null || true
  rm -rf "$folder"
fi
