"""The process that puts a record into tables: `python -m modelyard.fold --record DIR --tables DIR`.

The gateway starts it now and then, so that no table is ever written while it answers, nor by what answers. Prints what
it did as one line of JSON; where there is nothing to do it imports nothing heavy, and says so. It may be killed at any
time and run again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from modelyard import wiring
from modelyard.errors import ModelyardError
from modelyard.serving.segment import CLOSED, listed

_NICENESS = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Fold once. The exit code is that of the error, 0 without one."""
    parser = argparse.ArgumentParser(prog="python -m modelyard.fold", description="Put a record into tables.")
    parser.add_argument("--record", type=Path, required=True, help="the folder of the record")
    parser.add_argument("--tables", type=Path, required=True, help="the folder of the Delta tables")
    parser.add_argument("--project", type=Path, help="the project, whose serve.traces of the answers are traced too")
    parser.add_argument("--target", default="test", help="the target of the project")
    wanted = parser.parse_args(arguments)
    try:
        if not listed(wanted.record, CLOSED):
            print(json.dumps({"rows": {}, "segments": 0}))  # noqa: T201
            return 0
        done = wiring.fold_record(wanted.record, wanted.tables, wanted.project, wanted.target)
    except ModelyardError as error:
        sys.stderr.write(f"modelyard: {error}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"modelyard: the record in {wanted.record} cannot be read: {error.strerror}\n")
        return 8
    print(json.dumps(asdict(done)))  # noqa: T201
    return 0


if __name__ == "__main__":
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)  # answering comes first
    sys.exit(main())
