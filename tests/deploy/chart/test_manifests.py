"""What the objects have to say, in every case that shows it."""

import json
import re
import unittest

import yaml

from chart import (
    CASES, CLUSTER, FOLDER, PLAIN, POOLED, REPOSITORY, environment, example, find, merged, nested,
    notes, pod_specs, relay, relays, render, rendered,
)  # fmt: skip


class EveryCase(unittest.TestCase):
    def each(self):
        for case in CASES:
            with self.subTest(case):
                yield case, rendered(case)

    def test_restricted_pods(self):
        """The restricted level of the pod security standards, and a little more."""
        seen = set()
        for _, objects in self.each():
            for name, _, pod in pod_specs(objects):
                seen.add(name)
                self.assertIs(pod["automountServiceAccountToken"], False, name)
                for forbidden in ("hostNetwork", "hostPID", "hostIPC"):
                    self.assertNotIn(forbidden, pod)
                self.assertIs(pod["securityContext"]["runAsNonRoot"], True, name)
                self.assertNotEqual(pod["securityContext"]["runAsUser"], 0)
                self.assertEqual(
                    pod["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"}, name
                )
                for volume in pod.get("volumes", []):
                    self.assertTrue({"secret", "configMap"} & set(volume), volume)
                for container in pod["containers"] + pod.get("initContainers", []):
                    context = container["securityContext"]
                    self.assertIs(context["allowPrivilegeEscalation"], False, name)
                    self.assertIs(context["readOnlyRootFilesystem"], True, name)
                    self.assertEqual(context["capabilities"], {"drop": ["ALL"]}, name)
                    self.assertIn("memory", container["resources"]["limits"], name)
                    self.assertIn("cpu", container["resources"]["requests"], name)
        for name in ("Deployment handoff", "Job handoff-migrate", "Pod handoff-test"):
            self.assertIn(name, seen)
        self.assertIn("Deployment handoff-pgbouncer", seen)

    def test_no_secret_is_written_down(self):
        for _, objects in self.each():
            self.assertIsNone(find(objects, "Secret"))
            for name, _, pod in pod_specs(objects):
                for container in pod["containers"] + pod.get("initContainers", []):
                    for variable in container.get("env", []):
                        if re.search("PASSWORD|USER|SECRET|TOKEN", variable["name"]):
                            self.assertIn("secretKeyRef", variable["valueFrom"], name)
            text = yaml.safe_dump_all(objects)
            for url in re.findall(r"postgres(?:ql)?://([^@\s]*)@", text):
                user, _, password = url.partition(":")
                self.assertRegex(password, r"^(\$\(DATABASE_PASSWORD\)|\{\{ \.password.*\}\})$")

    def test_selectors_find_their_pods(self):
        for _, objects in self.each():
            pods = [labels for _, labels, _ in pod_specs(objects)]
            selected = 0
            for o in objects:
                kind, spec = o["kind"], o.get("spec", {})
                if kind == "Service":
                    selector = spec["selector"]
                elif kind in ("Deployment", "PodDisruptionBudget"):
                    selector = spec["selector"]["matchLabels"]
                else:
                    continue
                selected += 1
                matching = [pod for pod in pods if selector.items() <= pod.items()]
                self.assertEqual(len(matching), 1, f"{kind} {o['metadata']['name']}")
            self.assertGreaterEqual(selected, 3)

    def test_names_are_short_enough(self):
        for values in CASES.values():
            for o in render(values, name="a" * 53):
                self.assertLessEqual(len(o["metadata"]["name"]), 63)

    def test_rollouts_lose_nothing(self):
        for _, objects in self.each():
            for o in objects:
                if o["kind"] != "Deployment":
                    continue
                strategy = o["spec"]["strategy"]
                self.assertEqual(strategy["type"], "RollingUpdate")
                self.assertEqual(strategy["rollingUpdate"], {"maxUnavailable": 0, "maxSurge": 1})
                for container in o["spec"]["template"]["spec"]["containers"]:
                    self.assertIn("readinessProbe", container)
                    self.assertIn("livenessProbe", container)

    def test_disruptions_block_nobody(self):
        for _, objects in self.each():
            for o in objects:
                if o["kind"] == "PodDisruptionBudget":
                    self.assertEqual(o["spec"]["maxUnavailable"], 1)
                    self.assertNotIn("minAvailable", o["spec"])

    def test_autoscaler_and_replicas_dont_fight(self):
        seen = set()
        for _, objects in self.each():
            autoscaler = find(objects, "HorizontalPodAutoscaler")
            deployment = relays(objects)
            seen.add(bool(autoscaler))
            self.assertEqual("replicas" in deployment["spec"], autoscaler is None)
            if autoscaler:
                target = autoscaler["spec"]["scaleTargetRef"]
                self.assertEqual(target["name"], deployment["metadata"]["name"])
                self.assertGreaterEqual(autoscaler["spec"]["minReplicas"], 2)
        self.assertEqual(seen, {True, False})

    def test_spread_over_zones_and_nodes(self):
        for _, objects in self.each():
            pod = relays(objects)["spec"]["template"]
            spread = pod["spec"]["topologySpreadConstraints"]
            self.assertEqual(
                [constraint["topologyKey"] for constraint in spread],
                ["topology.kubernetes.io/zone", "kubernetes.io/hostname"],
            )
            for constraint in spread:
                selector = constraint["labelSelector"]["matchLabels"]
                self.assertLessEqual(selector.items(), pod["metadata"]["labels"].items())


class Relay(unittest.TestCase):
    def test_probes_and_ports(self):
        container = relay(rendered("defaults"))
        self.assertEqual(container["args"], ["serve"])
        self.assertNotIn("command", container)
        self.assertEqual(container["readinessProbe"]["httpGet"], {"path": "/readyz", "port": "http"})
        self.assertEqual(container["livenessProbe"]["httpGet"], {"path": "/healthz", "port": "http"})
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        variables = environment(container)
        self.assertEqual(ports["http"], int(variables["PORT"]["value"]))
        self.assertEqual(ports["metrics"], int(variables["HANDOFF_METRICS_PORT"]["value"]))

    def test_no_metrics(self):
        objects = rendered("no telemetry, no policy")
        container = relay(objects)
        self.assertNotIn("HANDOFF_METRICS_PORT", environment(container))
        self.assertEqual([port["name"] for port in container["ports"]], ["http"])
        self.assertIsNone(find(objects, "Service", "handoff-metrics"))
        self.assertIsNone(find(objects, "NetworkPolicy"))

    def test_metrics_are_no_part_of_the_public_service(self):
        service = find(rendered("defaults"), "Service", "handoff")
        self.assertEqual([port["targetPort"] for port in service["spec"]["ports"]], ["http"])

    def test_image(self):
        version = yaml.safe_load((FOLDER / "Chart.yaml").read_text())["appVersion"]
        self.assertTrue(relay(rendered("defaults"))["image"].endswith(f":{version}"))
        cargo = (REPOSITORY / "Cargo.toml").read_text()
        self.assertIn(f'version = "{version}"', cargo.split("[workspace.package]")[1][:40])
        tagged = render(merged(PLAIN, nested("image.tag", "7")))
        self.assertTrue(relay(tagged)["image"].endswith(":7"))
        self.assertIn("@sha256:", relay(rendered("placement and names"))["image"])

    def test_traces(self):
        variables = environment(relay(rendered("hosted")))
        self.assertEqual(
            variables["OTEL_EXPORTER_OTLP_ENDPOINT"]["value"],
            "http://otel-collector.observability:4318",
        )
        names = list(variables)
        self.assertLess(names.index("POD_NAME"), names.index("OTEL_RESOURCE_ATTRIBUTES"))
        self.assertNotIn("OTEL_EXPORTER_OTLP_ENDPOINT", environment(relay(rendered("defaults"))))

    def test_autoscaling_by_streams(self):
        metrics = find(rendered("autoscaling"), "HorizontalPodAutoscaler")["spec"]["metrics"]
        self.assertEqual(metrics[0]["resource"]["target"]["averageUtilization"], 70)
        self.assertEqual(metrics[1]["type"], "Pods")
        self.assertEqual(metrics[1]["pods"]["metric"]["name"], "handoff_streams_open")
        self.assertEqual(metrics[1]["pods"]["target"], {"type": "AverageValue", "averageValue": "5000"})


class Migration(unittest.TestCase):
    """The schema is there before the replicas that need it."""

    def hooks(self, case):
        job = find(rendered(case), "Job")
        return job["metadata"]["annotations"]["helm.sh/hook"].split(",")

    def test_by_a_hook(self):
        for case in ("defaults", "company", "pgbouncer"):
            self.assertEqual(self.hooks(case), ["pre-install", "pre-upgrade"])
            self.assertNotIn(
                "initContainers", find(rendered(case), "Deployment", "handoff")["spec"]["template"]["spec"]
            )
        job = find(rendered("defaults"), "Job")
        (container,) = job["spec"]["template"]["spec"]["containers"]
        self.assertEqual(container["args"], ["migrate"])
        self.assertEqual(container["image"], relay(rendered("defaults"))["image"])
        self.assertEqual(job["spec"]["template"]["spec"]["restartPolicy"], "Never")

    def test_by_the_pods_where_the_database_comes_with_the_release(self):
        for case in ("laptop", "cluster", "cluster with pooler", "external secret", "hosted"):
            self.assertEqual(self.hooks(case), ["pre-upgrade"])
            pod = find(rendered(case), "Deployment", "handoff")["spec"]["template"]["spec"]
            self.assertEqual([c["args"] for c in pod["initContainers"]], [["migrate"]])

    def test_the_hook_needs_nothing_of_the_release(self):
        """At `pre-install` no other object of the release is there."""
        for case in CASES:
            objects = rendered(case)
            job = find(objects, "Job")
            if "pre-install" not in job["metadata"]["annotations"]["helm.sh/hook"]:
                continue
            made = {o["metadata"]["name"] for o in objects if o["kind"] != "Job"}
            pod = job["spec"]["template"]["spec"]
            self.assertNotIn("serviceAccountName", pod)
            for volume in pod.get("volumes", []):
                self.assertNotIn(volume["secret"]["secretName"], made)
            for variable in pod["containers"][0]["env"]:
                self.assertNotIn(variable["valueFrom"]["secretKeyRef"]["name"], made)

    def test_goes_past_pgbouncer(self):
        """`migrate` takes DATABASE_LISTEN_URL where there is one: the same as the relay's."""
        for case in ("pgbouncer", "hosted", "cluster with pooler"):
            objects = rendered(case)
            (container,) = find(objects, "Job")["spec"]["template"]["spec"]["containers"]
            for name in ("DATABASE_URL", "DATABASE_LISTEN_URL"):
                self.assertEqual(environment(container)[name], environment(relay(objects))[name])


class Database(unittest.TestCase):
    def test_by_secret(self):
        variables = environment(relay(rendered("defaults")))
        reference = {"name": "handoff-database", "key": "url"}
        self.assertEqual(variables["DATABASE_URL"]["valueFrom"]["secretKeyRef"], reference)
        self.assertNotIn("DATABASE_LISTEN_URL", variables)

    def test_sessions_go_past_pgbouncer(self):
        variables = environment(relay(rendered("pgbouncer")))
        keys = {
            name: variables[name]["valueFrom"]["secretKeyRef"]["key"]
            for name in ("DATABASE_URL", "DATABASE_LISTEN_URL")
        }
        self.assertEqual(keys, {"DATABASE_URL": "url", "DATABASE_LISTEN_URL": "listen-url"})

        template = find(rendered("hosted"), "ExternalSecret")["spec"]["target"]["template"]["data"]
        pgbouncer = find(rendered("hosted"), "Service", "handoff-pgbouncer")
        (port,) = [port["port"] for port in pgbouncer["spec"]["ports"]]
        self.assertIn(f"@handoff-pgbouncer:{port}/", template["url"])
        self.assertNotIn("pgbouncer", template["listen-url"])

        variables = environment(relay(rendered("cluster with pooler")))
        pooler = find(rendered("cluster with pooler"), "Pooler")["metadata"]["name"]
        self.assertIn(f"@{pooler}:5432/", variables["DATABASE_URL"]["value"])
        self.assertIn("@handoff-db-rw:5432/", variables["DATABASE_LISTEN_URL"]["value"])

    def test_pgbouncer_keeps_prepared_statements(self):
        ini = find(rendered("pgbouncer"), "ConfigMap", "handoff-pgbouncer")["data"]["pgbouncer.ini"]
        settings = dict(re.findall(r"^(\w+) = ?(.*)$", ini, re.MULTILINE))
        parameters = find(rendered("cluster with pooler"), "Pooler")["spec"]["pgbouncer"]
        self.assertEqual(settings["pool_mode"], "transaction")
        self.assertEqual(parameters["poolMode"], "transaction")
        for place in (settings, parameters["parameters"]):
            self.assertGreater(int(place["max_prepared_statements"]), 0)
            self.assertIn("options", place["ignore_startup_parameters"])
            # 4 pods x (10 of the pool + 4)
            self.assertEqual(place["max_client_conn"], "56")
            self.assertEqual(place["default_pool_size"], "20")

    def test_pgbouncer_gives_sessions_the_relays_settings(self):
        """The relay asks for them at the start of a session, which PgBouncer ignores."""
        source = (REPOSITORY / "services" / "store" / "src" / "connection.rs").read_text()

        def asked(name):
            (text,) = re.findall(rf'{name}: &str = "([^"]*)"', source)
            return set(re.findall(r"-c (\w+)=(\w+)", text))

        planner, reader = asked("PLANNER_SETTINGS"), asked("READER_SETTINGS")
        self.assertGreater(len(planner), 5)
        ini = find(rendered("pgbouncer"), "ConfigMap", "handoff-pgbouncer")["data"]["pgbouncer.ini"]
        self.assertEqual(set(re.findall(r"set (\w+) = ''(\w+)''", ini)), planner | reader)
        cluster = find(rendered("cluster with pooler"), "Cluster")["spec"]
        statements = cluster["bootstrap"]["initdb"]["postInitApplicationSQL"]
        given = {re.fullmatch(r"alter role handoff set (\w+) = '(\w+)';", s).groups() for s in statements}
        self.assertEqual(given, planner)

    def test_cluster_bears_its_replicas(self):
        for case, least in (("cluster", 100), ("laptop", 100)):
            parameters = find(rendered(case), "Cluster")["spec"]["postgresql"]["parameters"]
            self.assertEqual(parameters["max_connections"], str(least))
        many = render(merged(CLUSTER, {"replicas": 30}))
        parameters = find(many, "Cluster")["spec"]["postgresql"]["parameters"]
        self.assertEqual(parameters["max_connections"], str(32 * 20 + 20))
        self.assertIn("660 connections", notes(merged(CLUSTER, {"replicas": 30})))

    def test_cluster_keeps_what_it_answered(self):
        def synchronous(case):
            return find(rendered(case), "Cluster")["spec"]["postgresql"].get("synchronous")

        self.assertIsNone(synchronous("laptop"))
        self.assertEqual(synchronous("cluster of two")["dataDurability"], "preferred")
        self.assertEqual(
            synchronous("cluster"), {"method": "any", "number": 1, "dataDurability": "required"}
        )
        cluster = find(rendered("cluster with backups"), "Cluster")
        self.assertEqual(cluster["metadata"]["annotations"]["helm.sh/resource-policy"], "keep")
        self.assertIn("barmanObjectStore", cluster["spec"]["backup"])
        self.assertIn("bootstrap", cluster["spec"])

    def test_cluster_is_verified(self):
        container = relay(rendered("cluster"))
        url = environment(container)["DATABASE_URL"]["value"]
        self.assertIn("sslmode=verify-full", url)
        path = re.search("sslrootcert=([^&]*)/ca.crt", url)[1]
        self.assertEqual([m["mountPath"] for m in container["volumeMounts"]], [path])
        pod = find(rendered("cluster"), "Deployment")["spec"]["template"]["spec"]
        (volume,) = pod["volumes"]
        self.assertEqual(volume["secret"]["secretName"], "handoff-db-ca")
        # Its private key stays where it is.
        self.assertEqual([item["key"] for item in volume["secret"]["items"]], ["ca.crt"])
        # Kubernetes replaces $(NAME) by what stands earlier in the list only.
        names = list(environment(container))
        self.assertLess(names.index("DATABASE_PASSWORD"), names.index("DATABASE_URL"))

    def test_checksums(self):
        """Pods that read a changed configuration at their start are replaced."""

        def sums(values):
            found = {}
            for o in render(values):
                if o["kind"] == "Deployment":
                    annotations = o["spec"]["template"]["metadata"].get("annotations", {})
                    found[o["metadata"]["name"]] = annotations
            return found

        before, same = sums(POOLED), sums(merged(POOLED, {"replicas": 2}))
        self.assertEqual(before, same)
        after = sums(merged(POOLED, nested("database.pgbouncer.poolSize", 21)))
        self.assertNotEqual(before["handoff-pgbouncer"], after["handoff-pgbouncer"])
        self.assertEqual(before["handoff"], after["handoff"])

        secret = CASES["external secret"]
        other = merged(secret, nested("database.externalSecret.remoteKey", "another"))
        self.assertNotEqual(sums(secret)["handoff"], sums(other)["handoff"])


class Doors(unittest.TestCase):
    """What streams need of proxies."""

    def annotations(self, controller):
        return find(rendered(f"ingress of {controller}"), "Ingress")["metadata"].get("annotations", {})

    def test_ingress(self):
        nginx = self.annotations("nginx")
        self.assertEqual(nginx["nginx.ingress.kubernetes.io/proxy-buffering"], "off")
        # The relay says something every 15 s.
        for side in ("read", "send"):
            timeout = nginx[f"nginx.ingress.kubernetes.io/proxy-{side}-timeout"]
            self.assertGreaterEqual(int(timeout), 60)
        self.assertEqual(self.annotations("haproxy"), {"haproxy.org/timeout-server": "1h"})
        alb = self.annotations("alb")
        self.assertIn("idle_timeout", alb["alb.ingress.kubernetes.io/load-balancer-attributes"])
        self.assertEqual(alb["alb.ingress.kubernetes.io/target-type"], "ip")
        self.assertEqual(alb["alb.ingress.kubernetes.io/healthcheck-path"], "/readyz")
        self.assertEqual(self.annotations("other"), {})

    def test_own_annotations_count_more(self):
        name = "nginx.ingress.kubernetes.io/proxy-read-timeout"
        objects = render(merged(CASES["ingress of nginx"], {"ingress": {"annotations": {name: "90"}}}))
        annotations = find(objects, "Ingress")["metadata"]["annotations"]
        self.assertEqual(annotations[name], "90")
        self.assertEqual(annotations["nginx.ingress.kubernetes.io/proxy-buffering"], "off")

    def test_ingress_leads_to_the_service(self):
        objects = rendered("company")
        ingress, service = find(objects, "Ingress")["spec"], find(objects, "Service", "handoff")
        (path,) = ingress["rules"][0]["http"]["paths"]
        backend = path["backend"]["service"]
        self.assertEqual(backend["name"], service["metadata"]["name"])
        self.assertIn(backend["port"]["name"], [port["name"] for port in service["spec"]["ports"]])
        self.assertEqual(ingress["tls"][0]["hosts"], [rule["host"] for rule in ingress["rules"]])

    def test_route(self):
        objects = rendered("route")
        (rule,) = find(objects, "HTTPRoute")["spec"]["rules"]
        self.assertEqual(rule["timeouts"], {"request": "0s", "backendRequest": "0s"})
        (backend,) = rule["backendRefs"]
        service = find(objects, "Service", backend["name"])
        self.assertIn(backend["port"], [port["port"] for port in service["spec"]["ports"]])


class Policies(unittest.TestCase):
    """Nothing passes but what is needed."""

    def policy(self, case, name="handoff"):
        spec = find(rendered(case), "NetworkPolicy", name)["spec"]
        self.assertEqual(spec["policyTypes"], ["Ingress", "Egress"])
        return spec

    def ports(self, rules):
        return [[port["port"] for port in rule["ports"]] for rule in rules]

    def test_no_rule_is_open_in_both_ways(self):
        """A rule without ports allows everything."""
        for case in CASES:
            for o in rendered(case):
                if o["kind"] == "NetworkPolicy":
                    for rule in o["spec"]["ingress"] + o["spec"]["egress"]:
                        self.assertTrue(rule["ports"], case)

    def test_plain(self):
        spec = self.policy("defaults")
        self.assertEqual(self.ports(spec["ingress"]), [["http"], ["metrics"]])
        self.assertEqual(self.ports(spec["egress"]), [[53, 53], [5432]])
        self.assertEqual(spec["ingress"][1]["from"], [{"namespaceSelector": {}}])

    def test_every_pod_but_the_test_is_covered(self):
        for case in CASES:
            objects = rendered(case)
            policies = [o["spec"]["podSelector"] for o in objects if o["kind"] == "NetworkPolicy"]
            if not policies:
                continue
            for name, labels, _ in pod_specs(objects):
                covered = [
                    policy
                    for policy in policies
                    if policy["matchLabels"].items() <= labels.items()
                    and all(
                        labels.get(e["key"]) in e["values"] for e in policy.get("matchExpressions", [])
                    )
                ]
                self.assertEqual(len(covered), 0 if name.startswith("Pod ") else 1, f"{case}: {name}")

    def test_company(self):
        spec = self.policy("company")
        http, metrics = spec["ingress"]
        peers = json.dumps(http["from"])
        self.assertIn("ingress-nginx", peers)
        # `helm test` goes on working.
        test = http["from"][-1]["podSelector"]["matchLabels"]
        pod = find(rendered("company"), "Pod")["metadata"]["labels"]
        self.assertLessEqual(test.items(), pod.items())
        self.assertIn("monitoring", json.dumps(metrics["from"]))
        self.assertEqual(spec["egress"][1]["to"], [{"ipBlock": {"cidr": "10.20.0.0/16"}}])

    def test_cluster(self):
        database = self.policy("cluster with pooler")["egress"][1]
        self.assertEqual(
            [peer["podSelector"]["matchLabels"] for peer in database["to"]],
            [{"cnpg.io/cluster": "handoff-db"}, {"cnpg.io/poolerName": "handoff-pgbouncer"}],
        )

    def test_pgbouncer(self):
        spec = self.policy("hosted", "handoff-pgbouncer")
        self.assertEqual(self.ports(spec["ingress"]), [[6432]])
        self.assertEqual(self.ports(spec["egress"]), [[53, 53], [5432]])
        (peer,) = spec["ingress"][0]["from"]
        relays = find(rendered("hosted"), "Deployment", "handoff")["spec"]["template"]["metadata"]
        self.assertLessEqual(peer["podSelector"]["matchLabels"].items(), relays["labels"].items())
        self.assertIn([6432], self.ports(self.policy("hosted")["egress"]))

    def test_traces(self):
        self.assertIn([4318], self.ports(self.policy("hosted")["egress"]))
        self.assertIn([443], self.ports(self.policy("telemetry")["egress"]))


class Monitoring(unittest.TestCase):
    def test_service_monitor_finds_the_metrics(self):
        objects = rendered("company")
        monitor = find(objects, "ServiceMonitor")
        self.assertEqual(monitor["metadata"]["labels"]["release"], "prometheus")
        selector = monitor["spec"]["selector"]["matchLabels"]
        services = [
            o for o in objects
            if o["kind"] == "Service" and selector.items() <= o["metadata"]["labels"].items()
        ]  # fmt: skip
        self.assertEqual(len(services), 1)
        (endpoint,) = monitor["spec"]["endpoints"]
        ports = [port["name"] for port in services[0]["spec"]["ports"]]
        self.assertEqual((endpoint["path"], [endpoint["port"]]), ("/metrics", ports))

    def test_alerts(self):
        """They are those of the file, each with a link to the runbook."""
        source = yaml.safe_load((FOLDER / "files" / "alerts.yaml").read_text())["groups"]
        base = "https://wiki.example.com/runbook"
        values = nested("telemetry.prometheusRule", {"enabled": True, "runbookUrl": base})
        groups = find(render(merged(PLAIN, values)), "PrometheusRule")["spec"]["groups"]
        self.assertGreater(len(source), 0)
        for group in source:
            for rule in group["rules"]:
                if "alert" in rule:
                    link = f"{base}#{rule['alert'].lower()}"
                    rule.setdefault("annotations", {})["runbook_url"] = link
        self.assertEqual(groups, source)

    def test_dashboard(self):
        config = find(rendered("company"), "ConfigMap", "handoff-dashboard")
        self.assertEqual(config["metadata"]["labels"]["grafana_dashboard"], "1")
        source = json.loads((FOLDER / "files" / "dashboard.json").read_text())
        self.assertEqual(json.loads(config["data"]["handoff.json"]), source)

    def test_off_unless_asked_for(self):
        for kind in ("ServiceMonitor", "PrometheusRule", "Ingress", "HTTPRoute", "Cluster"):
            self.assertIsNone(find(rendered("defaults"), kind))


if __name__ == "__main__":
    unittest.main()
