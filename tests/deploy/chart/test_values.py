"""Values: wrong ones are refused with a word on what is wrong; earlier ones go on working."""

import json
import math
import shutil
import tempfile
import unittest
from pathlib import Path

import helm_python as helm

from chart import (
    CASES, CLUSTER, DEFAULTS, FOLDER, PLAIN, POOLED, example, find, load, merged, nested,
    relay, environment, relay_settings, render, rendered,
)  # fmt: skip

#: What the chart sets itself, so that it can't be a setting.
CHARTS_OWN = {
    "DATABASE_URL", "DATABASE_LISTEN_URL", "PORT", "HANDOFF_BIND", "HANDOFF_METRICS_PORT",
}  # fmt: skip


class Refused(unittest.TestCase):
    """By the schema."""

    def refused(self, values, *words, base=PLAIN):
        with self.assertRaises(helm.HelmValuesError) as caught:
            render(merged(base, values))
        for word in words:
            self.assertIn(word, str(caught.exception))

    def test_unknown_values(self):
        self.refused({"replica": 3}, "replica", "not allowed")

    def test_unknown_values_inside(self):
        """In every part that isn't a map of the user's own."""
        own = {
            "nodeSelector", "affinity", "podAnnotations", "annotations", "labels", "template",
            "storage", "spec", "requests", "limits",
        }  # fmt: skip

        def parts(values, path=""):
            for key, value in values.items():
                if isinstance(value, dict) and key not in own:
                    yield f"{path}{key}"
                    yield from parts(value, f"{path}{key}.")

        found = list(parts(DEFAULTS))
        self.assertGreater(len(found), 15)
        for part in found:
            with self.subTest(part):
                self.refused(nested(f"{part}.surprise", 1), "surprise")

    def test_misspelled_settings(self):
        self.refused(nested("settings.HANDOFF_LANE", 2), "HANDOFF_LANE")

    def test_what_the_chart_sets(self):
        for name in CHARTS_OWN:
            self.refused(nested(f"settings.{name}", "x"), name)
            self.refused({"extraEnv": [{"name": name, "value": "x"}]}, "extraEnv")

    def test_bounds(self):
        for path, value in {
            "replicas": 0,
            "settings.HANDOFF_LANES": 65,
            "settings.HANDOFF_POOL_SIZE": 1,
            "settings.HANDOFF_SHUTDOWN_MS": "20s",
            "settings.RATE_LIMIT_MAX": 0,
            "service.port": 70000,
            "service.type": "ExternalName",
            "ingress.controller": "apache",
            "telemetry.otlp.endpoint": "collector:4318",
            "telemetry.otlp.samplerArg": "2",
            "telemetry.serviceMonitor.interval": "30",
            "telemetry.prometheusRule.runbookUrl": "RUNBOOK.md",
            "image.digest": "sha256:abc",
            "database.externalSecret.storeRef.kind": "Store",
            "database.pgbouncer.image.tag": "latest",
            "podAnnotations": {"a": 1},
        }.items():
            with self.subTest(path):
                self.refused(nested(path, value), "/" + path.replace(".", "/").split("/")[-1])

    def test_things_that_need_others(self):
        self.refused(nested("ingress.enabled", True), "hosts")
        self.refused(nested("httpRoute.enabled", True), "hostnames", "parentRefs")
        self.refused(nested("database.externalSecret.enabled", True), "remoteKey", "storeRef")

    def test_settings_are_those_of_the_relay(self):
        schema = json.loads((FOLDER / "values.schema.json").read_text())
        offered = set(schema["definitions"]["settings"]["properties"])
        known = relay_settings()
        self.assertGreater(len(known), 10)
        self.assertLessEqual(offered - {"RUST_LOG"}, known, "the relay doesn't know these")
        self.assertEqual(known - offered - CHARTS_OWN, set(), "the chart doesn't offer these")

    def test_every_default_has_a_place_in_the_schema(self):
        load().validate_schema(DEFAULTS)

    def test_every_value_of_the_schema_has_a_default(self):
        schema = json.loads((FOLDER / "values.schema.json").read_text())

        def compare(part, values, path):
            for key, inner in part.get("properties", {}).items():
                if path == "" and key in ("global", "settings"):
                    continue
                self.assertIn(key, values, f"{path}{key} is in the schema only")
                compare(inner, values[key], f"{path}{key}.")

        compare(schema, DEFAULTS, "")


class RefusedByTemplates(unittest.TestCase):
    """What is legal by itself but doesn't go together."""

    def refused(self, values, words):
        with self.assertRaises(helm.HelmRenderError) as caught:
            render(values)
        self.assertIn(words, str(caught.exception))

    def test_no_database(self):
        self.refused({}, "exactly one of secret.name, externalSecret.enabled and cluster.enabled")

    def test_two_databases(self):
        self.refused(merged(PLAIN, CLUSTER), "exactly one of")

    def test_grace_period_too_short(self):
        render(merged(PLAIN, {"terminationGracePeriodSeconds": 30}))
        self.refused(
            merged(PLAIN, {"terminationGracePeriodSeconds": 29}),
            "terminationGracePeriodSeconds: 29 is too short",
        )

    def test_fewer_than_the_fewest(self):
        self.refused(
            merged(PLAIN, {"autoscaling": {"enabled": True, "minReplicas": 11}}),
            "minReplicas is more than maxReplicas",
        )

    def test_looking_at_metrics_that_are_not_served(self):
        off = merged(PLAIN, nested("telemetry.metrics.enabled", False))
        self.refused(
            merged(off, nested("telemetry.serviceMonitor.enabled", True)), "telemetry.metrics.enabled"
        )
        streams = {"autoscaling": {"enabled": True, "streamsPerPod": 1}}
        self.refused(merged(off, streams), "telemetry.metrics.enabled")

    def test_too_few_connections(self):
        # (2 replicas + 2 of a rollout) x (10 + 2 x 2 + 6) + 20
        render(merged(PLAIN, nested("database.maxConnections", 100)))
        self.refused(
            merged(PLAIN, nested("database.maxConnections", 99)),
            "database.maxConnections: 99 are too few: 2 replicas and a rollout can use 100",
        )
        # The autoscaler's most count, not what `replicas` says.
        self.refused(
            merged(PLAIN, nested("database.maxConnections", 100), nested("autoscaling.enabled", True)),
            "10 replicas and a rollout can use 260",
        )

    def test_pgbouncer_needs_fewer(self):
        # 4 x (2 x 2 lanes + 2) past it, (2 + 1 of a rollout) x 20 through it, + 20
        render(merged(POOLED, nested("database.maxConnections", 104)))
        self.refused(
            merged(POOLED, nested("database.maxConnections", 103)), "a rollout can use 104"
        )

    def test_old_pgbouncer(self):
        render(merged(POOLED, nested("database.pgbouncer.image.tag", "1.21.0")))
        self.refused(
            merged(POOLED, nested("database.pgbouncer.image.tag", "1.20.1")), "1.20.1 is too old"
        )

    def test_pgbouncer_without_a_way_past_it(self):
        self.refused(
            merged(POOLED, nested("database.secret.listenUrlKey", "")), "listenUrlKey: needed"
        )
        self.refused(merged(POOLED, nested("database.pgbouncer.host", "")), "host: say where")


class Upgrades(unittest.TestCase):
    def test_an_upgrade_makes_what_an_installation_makes(self):
        for case, values in CASES.items():
            with self.subTest(case):
                self.assertEqual(rendered(case), render(values, upgrade=True))

    def test_selectors_never_change(self):
        """They can't be changed in a Deployment that exists."""
        later = {"image": {"tag": "9.9.9"}, "podAnnotations": {"a": "b"}, "replicas": 7}
        want = {
            "app.kubernetes.io/name": "handoff",
            "app.kubernetes.io/instance": "handoff",
            "app.kubernetes.io/component": "relay",
        }
        for values in (PLAIN, merged(PLAIN, later), CLUSTER):
            selector = find(render(values), "Deployment", "handoff")["spec"]["selector"]
            self.assertEqual(selector, {"matchLabels": want})

    def test_values_of_earlier_versions(self):
        """`helm upgrade --reuse-values` renders new templates with an earlier version's values.yaml.

        Of each version that is published, `previous/` keeps that file.
        """
        earlier = sorted((Path(__file__).parent / "previous").glob("*.yaml"))
        self.assertTrue(earlier)
        for values in earlier:
            with tempfile.TemporaryDirectory() as folder:
                copied = Path(folder) / "handoff"
                shutil.copytree(FOLDER, copied)
                shutil.copy(values, copied / "values.yaml")
                for case in (PLAIN, CLUSTER, POOLED, *map(example, ("laptop", "company", "hosted"))):
                    with self.subTest(values.stem):
                        objects = render(case, upgrade=True, folder=copied)
                        self.assertTrue(find(objects, "Deployment", "handoff"))

    def test_large_numbers_stay_as_they_are(self):
        objects = render(merged(PLAIN, nested("settings.RATE_LIMIT_MAX", 1_000_000_000)))
        self.assertEqual(environment(relay(objects))["RATE_LIMIT_MAX"]["value"], "1000000000")


class GracePeriod(unittest.TestCase):
    def test_in_step_with_the_relay(self):
        for pause, shutdown in ((0, 0), (5, 20000), (20, 1), (7, 90500), (300, 600000)):
            values = {"preStopSeconds": pause, "settings": {"HANDOFF_SHUTDOWN_MS": shutdown}}
            objects = render(merged(PLAIN, values))
            deployment = find(objects, "Deployment", "handoff")["spec"]
            grace = deployment["template"]["spec"]["terminationGracePeriodSeconds"]
            self.assertEqual(grace, pause + math.ceil(shutdown / 1000) + 5)
            self.assertGreaterEqual(deployment["minReadySeconds"], grace)
            self.assertGreater(deployment["progressDeadlineSeconds"], deployment["minReadySeconds"])
            self.assertEqual(
                environment(relay(objects))["HANDOFF_SHUTDOWN_MS"]["value"], str(shutdown)
            )
            hook = relay(objects).get("lifecycle")
            self.assertEqual(hook, {"preStop": {"sleep": {"seconds": pause}}} if pause else None)


if __name__ == "__main__":
    unittest.main()
