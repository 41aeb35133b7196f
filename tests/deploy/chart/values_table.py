"""The table of values in the chart's README, made from the `# --` lines of values.yaml.

`values_table.py --write` brings it up to date.
"""

import json
import re
import sys

import yaml

from chart import FOLDER

BEGIN = "<!-- values: written by tests/deploy/chart/values_table.py --write -->\n"
END = "<!-- end of values -->\n"


def rows(text):
    """(path, default, description) of each value that has a `# --` line.

    A value without one belongs to a described one above it, or consists of described ones.
    """
    values = yaml.safe_load(text)
    path, described, comment = [], None, None
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# -- "):
            comment = stripped.removeprefix("# -- ")
            continue
        found = re.match(r"( *)([A-Za-z_]+):(?: |$)", line)
        if not found:
            continue
        depth = len(found[1]) // 2
        path = [*path[:depth], found[2]]
        if described is not None and depth > described:
            if comment is None:
                continue
        else:
            described = None
        if comment is None:
            continue
        value = values
        for key in path:
            value = value[key]
        described, explained, comment = depth, comment, None
        yield ".".join(path), value, explained


def table():
    text = (FOLDER / "values.yaml").read_text()
    found = list(rows(text))
    paths = [path for path, _, _ in found]
    lines = ["| value | default | meaning |\n", "| --- | --- | --- |\n"]
    for path, value, meaning in found:
        inside = any(other.startswith(path + ".") for other in paths)
        default = "" if inside else f"`{json.dumps(value, ensure_ascii=False)}`"
        lines.append(f"| `{path}` | {default} | {meaning.replace('|', chr(92) + '|')} |\n")
    return "".join(lines)


def undescribed():
    """Values that no `# --` line speaks of."""
    paths = [path for path, _, _ in rows((FOLDER / "values.yaml").read_text())]

    def leaves(values, path=""):
        for key, value in values.items():
            here = f"{path}{key}"
            if here in paths and not any(other.startswith(here + ".") for other in paths):
                continue
            if isinstance(value, dict) and value:
                yield from leaves(value, here + ".")
            elif here not in paths:
                yield here

    return list(leaves(yaml.safe_load((FOLDER / "values.yaml").read_text())))


def current_readme():
    """The README as it should be."""
    text = (FOLDER / "README.md").read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + "\n" + table() + "\n" + END + after


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        (FOLDER / "README.md").write_text(current_readme())
    else:
        print(table(), end="")
