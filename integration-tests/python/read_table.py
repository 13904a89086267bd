"""Answers one SQL query by DuckDB, a JSON array a row.

The request is a JSON object on standard input: {"sql": "...", "s3": null or {"endpoint", "key", "secret", "region"}}.
"""

import importlib.resources
import json
import sys

import duckdb


def extension(name):
    """The file of the Python package. Loaded from there, nothing is fetched, or installed in the user's home."""
    package = importlib.resources.files(f"duckdb_extension_{name}")
    return package / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"


def connect(s3):
    con = duckdb.connect()
    for name in ("httpfs", "delta"):
        con.execute(f"load '{extension(name)}'")
    con.execute("set TimeZone = 'UTC'")
    if s3:
        con.execute(
            f"create secret (type s3, key_id '{s3['key']}', secret '{s3['secret']}', region '{s3['region']}',"
            f" endpoint '{s3['endpoint']}', url_style 'path', use_ssl false)"
        )
    return con


def main():
    request = json.load(sys.stdin)
    result = connect(request["s3"]).execute(request["sql"])
    while rows := result.fetchmany(10_000):
        sys.stdout.writelines(json.dumps(row, default=str) + "\n" for row in rows)


if __name__ == "__main__":
    main()
