"""The checks of terraform/, by name: see CHECKS at the end. Each prints what is wrong, and fails.

    HANDOFF_TEST_TOOLS=FOLDER python check.py NAME
"""

import re
import sys
from concurrent.futures import ThreadPoolExecutor

from workspace import roots, workspace


def formatted():
    """`terraform fmt` has nothing to change."""
    with workspace() as space:
        good, text = space.terraform("terraform", "fmt", "-check", "-recursive", "-diff", ".")
        return [] if good else [text]


def modules():
    """Every module and environment is valid by the providers' own schemas (each argument exists, each
    that is needed is there), and its tests pass, with mocked providers; there are some."""

    def problems(space, root):
        init = ("init", "-backend=false", "-input=false", "-no-color")
        for command in (init, ("validate", "-no-color"), ("test", "-no-color")):
            good, text = space.terraform(root, *command)
            if not good:
                return [f"{root}: terraform {command[0]}\n{text}"]
        if not re.search(r"Success! [1-9]\d* passed, 0 failed", text):
            return [f"{root}: no tests\n{text}"]
        return []

    with workspace() as space, space.providers(), ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda root: problems(space, root), roots())
        return [problem for each in found for problem in each]


CHECKS = {check.__name__: check for check in (formatted, modules)}


def main():
    problems = CHECKS[sys.argv[1]]()
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
