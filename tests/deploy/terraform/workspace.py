"""Terraform as the checks use it: on a copy of the project, with stand-ins for the providers.

The registry is never asked. Nothing is written outside the copy, which goes with the process.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
PROJECT = HERE.parents[2]
PROVIDERS = json.loads((HERE / "providers.json").read_text())
#: Of one command, on a busy machine.
DEADLINE_SECONDS = 300
#: The exit code that says that something needed is missing here.
NOT_RUN = 77


def roots():
    """The folders that Terraform is run in: everything with a versions.tf."""
    found = sorted((PROJECT / "terraform").rglob("versions.tf"))
    return [str(path.parent.relative_to(PROJECT)) for path in found]


class Workspace:
    """A copy of what Terraform reads, and how to run it there."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        for part in ("terraform", "helm"):
            if (PROJECT / part).exists():
                ignore = shutil.ignore_patterns(".terraform", "*.tfstate*", "terraform.tfvars")
                shutil.copytree(PROJECT / part, self.folder / part, ignore=ignore)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "TF_CLI_CONFIG_FILE": os.devnull,
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
        }

    def schema(self, name):
        """A file with the schemas of a provider's types that are in use: all of them are too many."""
        tools = pathlib.Path(os.environ["HANDOFF_TEST_TOOLS"])
        everything = json.loads((tools / "terraform" / f"{name}.json").read_text())
        used = {"resource": set(), "data": set()}
        for file in (self.folder / "terraform").rglob("*"):
            if file.suffix in (".tf", ".hcl"):
                for kind, each in re.findall(
                    r'^(?:mock_)?(resource|data) "(\w+)"', file.read_text(), re.M
                ):
                    used[kind].add(each)
        schema = {"provider": everything["provider"]}
        for kind, types in used.items():
            schema[kind] = {each: everything[kind][each] for each in types & everything[kind].keys()}
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(schema))
        return path

    @contextlib.contextmanager
    def providers(self):
        """Stand-ins for the providers, for all runs of Terraform in here."""
        with contextlib.ExitStack() as stack:
            reattach = {}
            for name in PROVIDERS:
                program = [sys.executable, str(HERE / "provider.py"), name, str(self.schema(name))]
                process = stack.enter_context(
                    subprocess.Popen(
                        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                    )
                )
                stack.callback(process.kill)
                for line in process.stdout:
                    if match := re.search(r"TF_REATTACH_PROVIDERS='(.*)'", line):
                        reattach.update(json.loads(match[1]))
                        break
                else:
                    sys.exit(f"The stand-in for the provider {name} did not start")
            self.environment["TF_REATTACH_PROVIDERS"] = json.dumps(reattach)
            yield

    def terraform(self, root, *arguments):
        """(succeeded, what it said)"""
        program = shutil.which("terraform")
        if not program:
            print("Not run: terraform, 1.11 or later, is not on PATH", file=sys.stderr)
            sys.exit(NOT_RUN)
        done = subprocess.run(
            [program, f"-chdir={self.folder / root}", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_SECONDS,
        )
        return done.returncode == 0, done.stdout



@contextlib.contextmanager
def workspace():
    with tempfile.TemporaryDirectory(prefix="handoff-terraform-") as folder:
        yield Workspace(folder)
