"""checkov's policies for Kubernetes on what is rendered."""

import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

import yaml

from chart import CASES, CUSTOM, rendered

CHECKOV = Path(os.environ["HANDOFF_TEST_TOOLS"], "python/checkov/bin/checkov")

#: Policies that aren't for this chart, and why.
SKIPPED = {
    "CKV_K8S_11": "a CPU limit throttles a replica that has nobody to share with",
    "CKV_K8S_15": "tags are versions and don't move; digests can be given",
    "CKV_K8S_43": "the chart can't know a digest; `image.digest` takes one",
    "CKV_K8S_8": "the pod of `helm test` has nothing to probe",
    "CKV_K8S_9": "the pod of `helm test` has nothing to probe",
    "CKV_K8S_35": "the relay takes its settings from the environment",
}

WRONG = """
apiVersion: v1
kind: Pod
metadata: {name: wrong, namespace: agents}
spec:
  hostNetwork: true
  containers:
    - name: wrong
      image: busybox:1
      securityContext: {privileged: true}
"""


class Checkov(unittest.TestCase):
    def test_policies(self):
        with tempfile.TemporaryDirectory() as folder:
            seen = set()
            for case in CASES:
                objects = []
                for o in rendered(case):
                    text = yaml.dump(o)
                    if not o["apiVersion"].split("/")[0].endswith(CUSTOM) and text not in seen:
                        seen.add(text)
                        o = {**o, "metadata": {**o["metadata"], "namespace": "agents"}}
                        objects.append(o)
                if objects:
                    Path(folder, f"{case.replace(' ', '-')}.yaml").write_text(yaml.dump_all(objects))
            Path(folder, "wrong.yaml").write_text(WRONG)
            run = subprocess.run(
                [
                    CHECKOV, "--directory", folder,
                    "--framework", "kubernetes", "--output", "json", "--compact", "--quiet",
                    "--skip-download",
                ],
                capture_output=True,
                text=True,
                timeout=300,
                env={**os.environ, "HOME": folder, "LOG_LEVEL": "ERROR"},
            )  # fmt: skip
        self.assertTrue(run.stdout, run.stderr)
        report = json.loads(run.stdout)
        self.assertGreater(report["summary"]["passed"], 1000)
        wrong, skipped, failed = set(), set(), []
        for check in report["results"]["failed_checks"]:
            policy, resource = check["check_id"], check["resource"]
            if check["file_path"] == "/wrong.yaml":
                wrong.add(policy)
            elif policy in SKIPPED and not (
                policy in ("CKV_K8S_8", "CKV_K8S_9") and not resource.startswith("Pod.")
            ):
                skipped.add(policy)
            else:
                failed.append(f"{check['file_path']}: {resource}: {policy} {check['check_name']}")
        self.assertFalse(failed, "\n".join(failed))
        self.assertEqual(skipped, set(SKIPPED), "what is skipped needn't be")
        # Privileged, on the node's network, with root in the container.
        self.assertLessEqual({"CKV_K8S_16", "CKV_K8S_19", "CKV_K8S_23"}, wrong)


if __name__ == "__main__":
    unittest.main()
