"""Custom resources against the definitions of their operators, as an npm package carries them.

Needs `node` on the PATH and the packages of `crds/`.
"""

import copy
import json
import subprocess
import unittest
from pathlib import Path

from chart import CASES, CUSTOM, rendered

FOLDER = Path(__file__).parent / "crds"


def check(resources):
    resources = [{"case": case, "resource": resource} for case, resource in resources]
    return subprocess.run(
        ["node", FOLDER / "check.mjs"],
        input=json.dumps(resources),
        capture_output=True,
        text=True,
        timeout=120,
    )


class CustomResources(unittest.TestCase):
    def test_all(self):
        resources = [
            (case, o)
            for case in CASES
            for o in rendered(case)
            if o["apiVersion"].split("/")[0].endswith(CUSTOM)
        ]
        self.assertEqual(
            {o["kind"] for _, o in resources},
            {"Cluster", "Pooler", "ExternalSecret", "HTTPRoute", "ServiceMonitor", "PrometheusRule"},
        )
        # Those with mistakes are checked in the same run: the compiler takes seconds to start.
        wrong = []
        for kind, field in (
            ("Cluster", "storages"),
            ("Pooler", "poolMode"),
            ("ExternalSecret", "refresh"),
            ("HTTPRoute", "hosts"),
            ("ServiceMonitor", "endpoint"),
            ("PrometheusRule", "rules"),
        ):
            resource = copy.deepcopy(next(o for _, o in resources if o["kind"] == kind))
            resource["spec"][field] = []
            wrong.append(("wrong", resource))
        untyped = copy.deepcopy(next(o for _, o in resources if o["kind"] == "Cluster"))
        untyped["spec"]["instances"] = "three"
        wrong.append(("untyped", untyped))

        result = check(resources + wrong)
        self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
        lines = result.stderr.strip().splitlines()
        found = [line for line in lines if line.startswith(("wrong: ", "untyped: "))]
        for kind in ("Cluster", "Pooler", "ExternalSecret", "HTTPRoute", "ServiceMonitor", "PrometheusRule"):
            self.assertTrue([line for line in found if line.startswith(f"wrong: {kind} ")], kind)
        self.assertTrue([line for line in found if "instances must be integer" in line])
        self.assertEqual([line for line in lines if line not in found], [])


if __name__ == "__main__":
    unittest.main()
