"""Reads whole tables by one engine, and writes each row in one form, whatever the engine calls its values.

usage: read_rows.py duckdb|clickhouse|spark FOLDER...

A line for each row: the table's index among the folders, and the row. Numbers are texts that begin with `#`, so
that no digit depends on who reads the line; bytes are base64; times are ISO 8601 with microseconds, and end in `Z`
if they are moments.
"""

import base64
import datetime
import decimal
import json
import os
import sys
import tempfile
from pathlib import Path

from read_table import connect


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


def duckdb(folders):
    connection = connect(None)
    for folder in folders:
        result = connection.execute(f"from delta_scan('{folder}')")
        names = [column[0] for column in result.description]
        yield [canonical(dict(zip(names, row))) for row in result.fetchall()]


CLICKHOUSE = (
    "session_timezone = 'UTC', date_time_output_format = 'iso', output_format_json_quote_64bit_integers = 0,"
    " output_format_json_quote_decimals = 0"
)


def clickhouse(folders):
    import chdb

    # It reads files below the working directory only, and only by their full path.
    os.chdir("/")
    for folder in folders:
        sql = f"select * from deltaLakeLocal('{folder}') settings {CLICKHOUSE}"
        # Its strings are bytes. Those that are no text get through as surrogates.
        text = chdb.query(sql, "JSONEachRow").bytes().decode("utf-8", "surrogateescape")
        rows = [parse(line) for line in text.split("\n") if line]
        for path in binary_columns(folder):
            for row in rows:
                encode(row, path)
        yield rows


def binary_columns(folder):
    """The paths of what is binary, by the table's own log: ClickHouse calls it a string."""
    log = sorted((Path(folder) / "_delta_log").glob("*.json"))
    actions = (json.loads(line) for line in log[0].read_text().splitlines())
    schema = next(action["metaData"]["schemaString"] for action in actions if "metaData" in action)

    def walk(column, path):
        if column == "binary":
            yield path
        elif isinstance(column, dict) and column["type"] == "struct":
            for field in column["fields"]:
                yield from walk(field["type"], [*path, field["name"]])
        elif isinstance(column, dict) and column["type"] == "array":
            yield from walk(column["elementType"], path)

    return list(walk(json.loads(schema), []))


def encode(value, path):
    """Turns the string at a path into base64."""
    if isinstance(value, list):
        for item in value:
            encode(item, path)
    elif len(path) > 1:
        encode(value[path[0]], path[1:])
    elif value[path[0]] is not None:
        value[path[0]] = canonical(value[path[0]].encode("utf-8", "surrogateescape"))


def spark(folders):
    from pyspark.sql import SparkSession
    from pyspark.sql.functions import struct, to_json

    with tempfile.TemporaryDirectory() as scratch:
        settings = {
            "spark.jars": ",".join(map(str, (Path(os.environ["SPARK_HOME"]).parent / "delta").glob("*.jar"))),
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
        for folder in folders:
            frame = session.read.format("delta").load(folder)
            # As Spark spells them: Python's own times do not reach as far as Spark's.
            rows = frame.select(to_json(struct("*"), SPARK_JSON)).collect()
            yield [parse(row[0]) for row in rows]
        session.stop()


SPARK_JSON = {
    "ignoreNullFields": "false",
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
}


def parse(text):
    """JSON with its numbers as they are spelled."""
    return json.loads(text, parse_int="#{}".format, parse_float="#{}".format)


def main(engine, *folders):
    engines = {"duckdb": duckdb, "clickhouse": clickhouse, "spark": spark}
    for index, rows in enumerate(engines[engine](folders)):
        sys.stdout.writelines(json.dumps([index, row]) + "\n" for row in rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
