#!/usr/bin/env bash
# Becomes a node of a cluster. Formats its storage the first time only, so that a node that was killed
# comes back with what it had.
# usage: node.sh FOLDER JARS CLUSTER_ID    (FOLDER holds server.properties and log4j2.yaml)
set -euo pipefail

folder=$1 jars=$2 cluster=$3

java=(java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$jars/*")

if [ ! -e "$folder/data/meta.properties" ]; then
  "${java[@]}" kafka.tools.StorageTool format -t "$cluster" -c "$folder/server.properties"
fi
exec "${java[@]}" -Xmx400m -Dlog4j2.configurationFile="$folder/log4j2.yaml" \
  kafka.Kafka "$folder/server.properties"
