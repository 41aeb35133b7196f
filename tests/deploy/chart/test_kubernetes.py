"""Rendered objects against the schemas of Kubernetes, strictly, and the chart under Helm's own checks."""

import tempfile
import unittest
from functools import cache

import helm_python as helm
import kubernetes_validate
import yaml

from chart import CASES, CUSTOM, FOLDER, find, load, rendered

#: The oldest that Chart.yaml allows, and the newest known.
VERSIONS = ("1.30.0", "1.37.0")

# It reads megabytes of definitions for each object; once for each version will do.
kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)


class Schemas(unittest.TestCase):
    def test_objects_are_valid(self):
        self.assertIn(f">={VERSIONS[0]}", (FOLDER / "Chart.yaml").read_text())
        self.assertLessEqual(set(VERSIONS), set(kubernetes_validate.utils.all_versions()))
        seen = {}
        for case in CASES:
            for o in rendered(case):
                if not o["apiVersion"].split("/")[0].endswith(CUSTOM):
                    # The same object comes in many cases: once is enough.
                    seen.setdefault(yaml.dump(o), (case, o))
        self.assertGreater(len(seen), 40)
        for case, o in seen.values():
            for version in VERSIONS:
                with self.subTest(f"{case}: {o['kind']} {o['metadata']['name']}, {version}"):
                    kubernetes_validate.validate(o, version, strict=True)

    def test_mistakes_are_seen(self):
        deployment = find(rendered("defaults"), "Deployment")
        wrong = yaml.safe_load(yaml.dump(deployment))
        wrong["spec"]["template"]["spec"]["terminationGracePeriod"] = 30
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(wrong, VERSIONS[1], strict=True)


class Helm(unittest.TestCase):
    def test_lint(self):
        for case, values in CASES.items():
            with self.subTest(case):
                report = helm.lint(FOLDER, values, strict=True, kube_version="v1.30.0")
                self.assertEqual(report["errors"], [])
                # 1: a remark (there is no icon)
                worse = [message for message in report["messages"] if message["severity"] > 1]
                self.assertEqual(worse, [])

    def test_package(self):
        with tempfile.TemporaryDirectory() as folder:
            archive = helm.package(FOLDER, destination=folder)
            with helm.Chart.load(archive) as packaged:
                self.assertEqual(packaged.version, load().version)
                names = {file["name"] for file in packaged.files}
                self.assertLessEqual({"files/alerts.yaml", "files/dashboard.json", "README.md"}, names)
                objects = packaged.render(CASES["company"], name="handoff", namespace="agents")
                self.assertEqual(
                    objects, load().render(CASES["company"], name="handoff", namespace="agents")
                )

    def test_install(self):
        """As `helm install --dry-run=client`: hooks are told apart, objects are put in order."""
        with helm.Config(
            namespace="agents", storage_driver="memory", kube_apiserver="http://127.0.0.1:1"
        ) as cluster:
            release = cluster.install(str(FOLDER), "handoff", CASES["hosted"], dry_run="client")
        kinds = [o["kind"] for o in yaml.safe_load_all(release["manifest"]) if o]
        self.assertLess(kinds.index("ServiceAccount"), kinds.index("Deployment"))
        self.assertFalse({"Job", "Pod"} & set(kinds), "hooks are no part of the release")
        self.assertIn("https://handoff.example.com", release["notes"])

    def test_notes(self):
        with helm.Config(
            namespace="agents", storage_driver="memory", kube_apiserver="http://127.0.0.1:1"
        ) as cluster:
            for case, values in CASES.items():
                with self.subTest(case):
                    text = cluster.install(str(FOLDER), "handoff", values, dry_run="client")["notes"]
                    self.assertRegex(text, r"curl -s https?://[^/\s]+/api/signup ")
                    self.assertRegex(text, r"Postgres has to bear \d+ connections")
                    closed = values.get("settings", {}).get("HANDOFF_SIGNUPS_PER_HOUR") == 0
                    self.assertEqual("so nobody can" in text, closed)


if __name__ == "__main__":
    unittest.main()
