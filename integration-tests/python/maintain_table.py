"""Looks after a Delta table as somebody else would: OPTIMIZE, VACUUM of what that replaced, a log
checkpoint, and the clean-up of the log.

usage: maintain_table.py FOLDER    once for each line on standard input; answers each with a line

A commit of somebody else in between makes a step fail, which is no harm: the next one comes.
"""

import sys

from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError


def maintain(folder):
    table = DeltaTable(folder)
    metrics = table.optimize.compact()
    # Only files that a version has removed: a worker's files that wait for their commit stay.
    vacuumed = table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    table.create_checkpoint()
    table.cleanup_metadata()
    return f"{metrics['numFilesRemoved']} rewritten, {len(vacuumed)} vacuumed"


for line in sys.stdin:
    try:
        print(maintain(sys.argv[1]), flush=True)
    except (CommitFailedError, DeltaError, OSError) as error:
        print(f"failed: {error}".replace("\n", " "), flush=True)
