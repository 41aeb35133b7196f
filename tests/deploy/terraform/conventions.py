"""How files of terraform/ are written. Out: sentences about where one isn't written so."""

import hcl2

from workspace import PROJECT, roots

TERRAFORM = PROJECT / "terraform"
FILES = ("main.tf", "variables.tf", "outputs.tf", "versions.tf")


def blocks(path, kind):
    """(name, body) of each block of a kind with one label."""
    with path.open() as file:
        for block in hcl2.load(file).get(kind, []):
            for name, body in block.items():
                if not name.startswith("__"):
                    yield name.strip('"'), body


def module(folder):
    for name in FILES:
        if not (folder / name).exists():
            yield f"no {name}"
            return
    if not list(folder.glob("tests/*.tftest.hcl")):
        yield "no tests"
    for path in folder.glob("*.tf"):
        for kind, home in (("variable", "variables.tf"), ("output", "outputs.tf")):
            if path.name != home and any(blocks(path, kind)):
                yield f"{path.name}: {kind}s belong in {home}"
    main = "\n".join(path.read_text() for path in folder.glob("*.tf"))
    for name, body in blocks(folder / "variables.tf", "variable"):
        if not body.get("description") or "type" not in body:
            yield f"variable {name}: no description or no type"
        # A boolean has no wrong value.
        elif "validation" not in body and "bool" not in str(body["type"]):
            yield f"variable {name}: no validation"
        if f"var.{name}" not in main.replace(f"condition     = var.{name}", ""):
            yield f"variable {name}: not used"
    for name, body in blocks(folder / "outputs.tf", "output"):
        if not body.get("description"):
            yield f"output {name}: no description"
    text = (folder / "versions.tf").read_text()
    if "required_version" not in text or '"~> ' not in text:
        yield "versions.tf: Terraform or a provider without a version"
    if "modules" in folder.parts and not (folder / "README.md").exists():
        yield "no README.md"


def environments():
    """They differ by values alone: all files but main.tf are the same, and main.tf sets the same."""
    staging, production = TERRAFORM / "environments/staging", TERRAFORM / "environments/production"
    for name in ("providers.tf", "variables.tf", "outputs.tf", "versions.tf"):
        if (staging / name).read_text() != (production / name).read_text():
            yield f"environments: {name} is not the same"

    def shape(path):
        return [line.partition("=")[0] for line in path.read_text().splitlines()[1:]]

    if shape(staging / "main.tf") != shape(production / "main.tf"):
        yield "environments: main.tf sets other things, not only other values"


def problems():
    found = [
        f"{root}: {problem}" for root in roots() for problem in module(PROJECT / root)
    ]
    return found + list(environments())
