"""Turns the published data sets into one JSON record a line.

usage: make_data.py flights FLIGHTS_CSV_ZIP OUT
       make_data.py webhooks FOLDER_OF_THE_NPM_PACKAGE OUT
       make_data.py movies MOVIES_JSON OUT
"""

import csv
import io
import json
import sys
import zipfile
from pathlib import Path

# Everything else in a flight is a number, or "NA".
TEXT = {"carrier", "tailnum", "origin", "dest", "time_hour"}

# Oldest first, as one long-lived topic would have seen the payloads change.
RELEASES = ["ghes-31", "ghes-32", "ghes-33", "ghes-34", "ghes-35", "api.github.com"]


def flights(archive):
    with zipfile.ZipFile(archive) as files, files.open("flights.csv") as raw:
        for row in csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8")):
            yield {name: flight_value(name, text) for name, text in row.items()}


def flight_value(name, text):
    if text == "NA":
        return None
    return text if name in TEXT else int(text)


def webhooks(package):
    for release in RELEASES:
        with open(Path(package) / release / "index.json", encoding="utf-8") as file:
            for event in json.load(file):
                yield from event["examples"]


def movies(file):
    with open(file, encoding="utf-8") as text:
        return json.load(text)


def main(what, source, out):
    records = {"flights": flights, "webhooks": webhooks, "movies": movies}[what](source)
    with open(out, "w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")))
            file.write("\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
