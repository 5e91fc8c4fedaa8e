"""Does every line of a cases folder give its right value? Prints a table of them.

    python benchmarks/cases.py FOLDER [NAME ...]

FOLDER holds small base models and files that went wrong for somebody; its README.md says what each
has to give. The rows are those of the modules cases_*.py beside this one: a name, what is wanted,
and a function that looks. Exits 1 where a row is not right.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from case_runs import Case


def rows() -> Iterator[Case]:
    """Yield the rows of the modules beside this one."""
    for path in sorted(Path(__file__).parent.glob("cases_*.py")):
        yield from import_module(path.stem).CASES


def looked(case: Case, cases: Path) -> tuple[str, bool]:
    """Return what a row gives and whether that is right; an exception is not."""
    with tempfile.TemporaryDirectory() as work:
        try:
            return case.look(cases, Path(work))
        except Exception:
            return traceback.format_exc().strip().splitlines()[-1], False


def main() -> None:
    """Look at all rows, or those whose name has one of the given words."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    cases, wrong = given.folder.resolve(), 0
    print("| case | wanted | got | right |\n|---|---|---|---|")
    for case in rows():
        if given.names and not any(name in case.name for name in given.names):
            continue
        got, right = looked(case, cases)
        wrong += not right
        print(f"| {case.name} | {case.wanted} | {got} | {'yes' if right else 'NO'} |", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
