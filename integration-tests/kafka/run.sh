#!/usr/bin/env bash
# Formats the storage of a new broker and becomes that broker.
# usage: run.sh FOLDER JARS FORMAT...    (FOLDER holds server.properties and log4j2.yaml; FORMAT are
# further arguments for the formatting)
set -euo pipefail

folder=$1 jars=$2
shift 2

# C1 only: a broker that lives for minutes is not worth a second compiler.
java=(java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$jars/*")

"${java[@]}" kafka.tools.StorageTool format --standalone \
  -t "$("${java[@]}" kafka.tools.StorageTool random-uuid)" -c "$folder/server.properties" "$@"
exec "${java[@]}" -Xmx512m -Dlog4j2.configurationFile="$folder/log4j2.yaml" \
  kafka.Kafka "$folder/server.properties"
