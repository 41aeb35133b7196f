"""The checks of terraform/, by name: see CHECKS at the end. Each prints what is wrong, and fails.

    HANDOFF_TEST_TOOLS=FOLDER python check.py NAME
"""

import json
import os
import pathlib
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import conventions
import deployments
from workspace import PROJECT, roots, workspace

ENVIRONMENTS = [root for root in roots() if root.startswith("terraform/environments/")]


def formatted():
    """`terraform fmt` has nothing to change."""
    with workspace() as space:
        good, text = space.terraform("terraform", "fmt", "-check", "-recursive", "-diff", ".")
        return [] if good else [text]


def initialized(space, root, *command):
    """What the command says in a folder that Terraform has read; fails where one of them fails."""
    init = ("init", "-backend=false", "-input=false", "-no-color")
    for each in (init, command):
        good, text = space.terraform(root, *each)
        if not good:
            return None, f"{root}: terraform {each[0]}\n{text}"
    return text, None


def modules():
    """Every module is valid by the providers' own schemas (each argument exists, each that is needed
    is there), and its tests pass, with mocked providers; there are some."""

    def problems(root):
        _, problem = initialized(space, root, "validate", "-no-color")
        if problem:
            return [problem]
        text, problem = initialized(space, root, "test", "-no-color")
        if problem:
            return [problem]
        return [] if re.search(r"Success! [1-9]\d* passed, 0 failed", text) else [f"{root}: {text}"]

    with workspace() as space, space.providers(), ThreadPoolExecutor(2) as pool:
        found = pool.map(problems, [root for root in roots() if root not in ENVIRONMENTS])
        return [problem for each in found for problem in each]


def environments():
    """The tests of the environments pass, and what they would make is as it should be, all in all:
    what is protected, who has which rights, what the chart is told."""

    def planned(root):
        text, problem = initialized(space, root, "test", "-json", "-verbose", "-no-color")
        if problem:
            return None, problem
        for line in text.splitlines():
            report = json.loads(line)
            if report["type"] == "test_state":
                return report["test_state"], None
        return None, f"{root}: no test makes everything"

    with workspace() as space, space.providers(), ThreadPoolExecutor(2) as pool:
        found = dict(zip(ENVIRONMENTS, pool.map(planned, ENVIRONMENTS)))
        problems = [problem for _, problem in found.values() if problem]
        if not problems:
            states = {pathlib.Path(root).name: state for root, (state, _) in found.items()}
            problems = deployments.problems(states, space.folder)
        return problems


def policies():
    """Checkov's policies hold, but for those that are skipped in the files, with reasons."""
    checkov = pathlib.Path(os.environ["HANDOFF_TEST_TOOLS"]) / "python/checkov/bin/checkov"
    done = subprocess.run(
        [checkov, "--directory", PROJECT / "terraform", "--framework", "terraform"]
        + ["--quiet", "--compact", "--skip-download", "--output", "json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    report = json.loads(done.stdout)
    if report["summary"]["passed"] < 100 or report["summary"]["parsing_errors"]:
        return [f"Checkov did not look: {report['summary']}\n{done.stderr}"]
    return [
        f"{failed['resource']}: {failed['check_name']} ({failed['check_id']})"
        for failed in report["results"]["failed_checks"]
    ]


CHECKS = {
    "formatted": formatted,
    "conventions": conventions.problems,
    "modules": modules,
    "environments": environments,
    "policies": policies,
}


def main():
    problems = CHECKS[sys.argv[1]]()
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
