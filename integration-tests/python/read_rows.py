"""Runs statements by one engine, and writes each row in one form, whatever the engine calls its values.

usage: read_rows.py ENGINE < STEPS

ENGINE is a heading of docs/engines.md. The steps are a JSON array of [true if its result is rows, code]. A line for
each row: the step's index, and the row. Numbers are texts that begin with `#`, so that no digit depends on who reads
the line; bytes are base64; times are ISO 8601 with microseconds, and end in `Z` if they are moments.
"""

import ast
import base64
import contextlib
import datetime
import decimal
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from read_table import connect

# The paths of the columns that are binary, for engines whose results do not say so.
BINARY = [["bytes"], ["value"], ["_kafka", "key"], ["_kafka", "headers", "value"]]


def canonical(value):
    match value:
        case None | bool() | str():
            return value
        case int() | float():
            return f"#{value}"
        case decimal.Decimal():
            return f"#{value:f}"
        case bytes() | bytearray():
            return base64.b64encode(value).decode()
        case datetime.datetime() if value.tzinfo:
            utc = value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
            return utc.isoformat(timespec="microseconds") + "Z"
        case datetime.datetime():
            return value.isoformat(timespec="microseconds")
        case datetime.date():
            return value.isoformat()
        case list():
            return [canonical(item) for item in value]
        case dict():
            return {name: canonical(item) for name, item in value.items()}
    raise TypeError(f"a {type(value)}: {value!r}")


@contextlib.contextmanager
def duckdb():
    connection = connect(None)

    def run(code):
        result = connection.execute(code)
        names = [column[0] for column in result.description]
        return [canonical(dict(zip(names, row))) for row in result.fetchall()]

    yield run


CLICKHOUSE = (
    "session_timezone = 'UTC', date_time_output_format = 'iso', output_format_json_quote_64bit_integers = 0,"
    " output_format_json_quote_decimals = 0"
)


@contextlib.contextmanager
def clickhouse():
    import chdb

    # It reads files below the working directory only, and only by their full path.
    os.chdir("/")

    def run(code):
        sql = f"select * from ({code.rstrip().removesuffix(';')}) settings {CLICKHOUSE}"
        # Its strings are bytes. Those that are no text get through as surrogates.
        text = chdb.query(sql, "JSONEachRow").bytes().decode("utf-8", "surrogateescape")
        rows = [parse(line) for line in text.split("\n") if line]
        change_binary(rows, lambda value: value.encode("utf-8", "surrogateescape"))
        return rows

    yield run


def change_binary(rows, bytes_of):
    for path in BINARY:
        for row in rows:
            encode(row, path, bytes_of)


def encode(value, path, bytes_of):
    """Turns the string at a path into base64, if it is there."""
    if isinstance(value, list):
        for item in value:
            encode(item, path, bytes_of)
    elif len(path) > 1:
        encode(value.get(path[0], {}), path[1:], bytes_of)
    elif value.get(path[0]) is not None:
        value[path[0]] = canonical(bytes_of(value[path[0]]))


@contextlib.contextmanager
def spark():
    from pyspark.sql import SparkSession
    from pyspark.sql.functions import struct, to_json

    with tempfile.TemporaryDirectory() as scratch:
        settings = {
            "spark.jars": ",".join(os.environ["SPARK_JARS"].split()),
            "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
            "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.shuffle.partitions": "1",
            "spark.databricks.delta.snapshotPartitions": "1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.memory": "1g",
            # Its life is too short for a second compiler.
            "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            "spark.local.dir": scratch,
            "spark.sql.warehouse.dir": scratch,
            "spark.ui.enabled": "false",
        }
        session = SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()

        def rows(frame):
            # As Spark spells them: Python's own times do not reach as far as Spark's.
            return [parse(row[0]) for row in frame.select(to_json(struct("*"), SPARK_JSON)).collect()]

        yield python({"spark": session}, rows)
        session.stop()


SPARK_JSON = {
    "ignoreNullFields": "false",
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
}


def python(names, rows):
    """Runs code among these names; the value of an expression in its last line is a frame, which becomes rows."""

    def run(code):
        tree = ast.parse(code)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "docs/engines.md", "exec"), names)
        value = last and eval(compile(ast.Expression(last.value), "docs/engines.md", "eval"), names)
        return None if value is None else rows(value)

    return run


@contextlib.contextmanager
def arrow():
    """An engine that is a Python package, whose frames are Arrow tables or become such."""

    def rows(frame):
        table = frame.to_arrow() if hasattr(frame, "to_arrow") else frame
        return [canonical(row) for row in table.to_pylist(maps_as_pydicts="strict")]

    yield python({}, rows)


@contextlib.contextmanager
def alluvium():
    binary = Path(os.environ["ALLUVIUM"])
    path = f"{binary.parent}:{os.environ['PATH']}"

    def run(code):
        done = subprocess.run(["sh", "-ec", code], env={"PATH": path}, stdout=subprocess.PIPE, check=True, text=True)
        rows = [whole_times(parse(line)) for line in done.stdout.split("\n") if line]
        change_binary(rows, bytes.fromhex)
        return rows

    yield run


def whole_times(value):
    """Gives times all digits of a second."""
    match value:
        case str() if time := re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z?)", value):
            return f"{time[1]}.{(time[2] or ''):0<6}{time[3]}"
        case list():
            return [whole_times(item) for item in value]
        case dict():
            return {name: whole_times(item) for name, item in value.items()}
    return value


def parse(text):
    """JSON with its numbers as they are spelled."""
    return json.loads(text, parse_int="#{}".format, parse_float="#{}".format)


ENGINES = {
    "DuckDB": duckdb,
    "ClickHouse": clickhouse,
    "Spark": spark,
    "delta-rs": arrow,
    "Polars": arrow,
    "Daft": arrow,
    "alluvium query": alluvium,
}


def main(engine):
    with ENGINES[engine]() as run:
        for index, (reads, code) in enumerate(json.load(sys.stdin)):
            try:
                rows = run(code)
            except Exception as error:
                raise SystemExit(f"{error}\n\nof\n\n{code}")
            if reads:
                sys.stdout.writelines(json.dumps([index, row]) + "\n" for row in rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    # All rows are out. Threads of Arrow may still run, and make the interpreter abort at its end
    # (https://github.com/apache/arrow/issues/39862): it has none.
    os._exit(0)
