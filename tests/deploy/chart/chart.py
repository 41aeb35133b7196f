"""The chart, rendered by Helm's own code, and the cases that all checks look at."""

import copy
import re
from functools import cache
from pathlib import Path

import helm_python as helm
import yaml

REPOSITORY = Path(__file__).parents[3]
FOLDER = REPOSITORY / "helm" / "handoff"
CUSTOM = ("cnpg.io", "external-secrets.io", "gateway.networking.k8s.io", "monitoring.coreos.com")


class Strings(yaml.CSafeLoader):
    """Reads octal numbers like Kubernetes does (YAML 1.1), and refuses a key given twice."""


def _mapping(loader, node):
    keys = [loader.construct_object(key) for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise ValueError(f"line {node.start_mark.line}: {twice} given twice")
    return yaml.CSafeLoader.construct_mapping(loader, node, deep=True)


Strings.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


@cache
def load(folder=FOLDER):
    return helm.Chart.load(folder)


def merged(base, *overrides):
    """`base` with what the overrides say, as Helm merges values."""
    result = copy.deepcopy(base)
    for override in overrides:
        for key, value in override.items():
            if isinstance(value, dict) and isinstance(result.get(key), dict):
                result[key] = merged(result[key], value)
            else:
                result[key] = copy.deepcopy(value)
    return result


def nested(path, value):
    """`{"a": {"b": value}}` of `"a.b"`."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def render(values, upgrade=False, name="handoff", folder=FOLDER):
    """The objects of a release; wrong values raise `helm.HelmError`."""
    chart = load(folder)
    chart.validate_schema(values)
    files = chart.render(
        values, name=name, namespace="agents", is_install=not upgrade, is_upgrade=upgrade
    )
    objects = []
    for path, text in files.items():
        if path.endswith(".yaml"):
            objects += [o for o in yaml.load_all(text, Loader=Strings) if o]
    return objects


def notes(values):
    return load().render(values, name="handoff", namespace="agents")["handoff/templates/NOTES.txt"]


def find(objects, kind, name=None):
    """The one object of a kind (and a name), or none."""
    found = [o for o in objects if o["kind"] == kind and name in (None, o["metadata"]["name"])]
    assert len(found) <= 1, f"{len(found)} objects {kind} {name}"
    return found[0] if found else None


def pod_specs(objects):
    """Every pod, by what makes it: (object's kind and name, labels, spec)."""
    for o in objects:
        if o["kind"] == "Pod":
            yield f"Pod {o['metadata']['name']}", o["metadata"]["labels"], o["spec"]
        elif o["kind"] in ("Deployment", "Job"):
            template = o["spec"]["template"]
            name = f"{o['kind']} {o['metadata']['name']}"
            yield name, template["metadata"]["labels"], template["spec"]


def environment(container):
    return {variable["name"]: variable for variable in container.get("env", [])}


def relays(objects):
    """The relay's Deployment."""
    component = "app.kubernetes.io/component"
    (found,) = [
        o
        for o in objects
        if o["kind"] == "Deployment" and o["metadata"]["labels"][component] == "relay"
    ]
    return found


def relay(objects):
    """The relay's container."""
    (container,) = relays(objects)["spec"]["template"]["spec"]["containers"]
    return container


def example(name):
    return yaml.safe_load((FOLDER / "examples" / f"{name}.yaml").read_text())


DEFAULTS = yaml.safe_load((FOLDER / "values.yaml").read_text())
PLAIN = {"database": {"secret": {"name": "handoff-database"}}}
CLUSTER = {"database": {"cluster": {"enabled": True}}}
POOLED = {
    "database": {
        "secret": {"name": "handoff-database", "listenUrlKey": "listen-url"},
        "pgbouncer": {"enabled": True, "host": "postgres.internal"},
    }
}
INGRESS = {"enabled": True, "hosts": ["handoff.example.com"], "tlsSecret": "tls"}

CASES = {
    "defaults": PLAIN,
    **{path.stem: example(path.stem) for path in sorted((FOLDER / "examples").glob("*.yaml"))},
    "one replica": merged(PLAIN, {"replicas": 1, "preStopSeconds": 0}),
    "cluster": CLUSTER,
    "cluster of two": merged(CLUSTER, nested("database.cluster.instances", 2)),
    "cluster with pooler": merged(CLUSTER, nested("database.pgbouncer.enabled", True)),
    "cluster with backups": merged(
        CLUSTER,
        nested("database.cluster.spec.backup.barmanObjectStore.destinationPath", "s3://backups/"),
    ),
    "pgbouncer": POOLED,
    "external secret": {
        "database": {
            "externalSecret": {
                "enabled": True,
                "storeRef": {"kind": "SecretStore", "name": "vault"},
                "remoteKey": "handoff",
            }
        }
    },
    "autoscaling": merged(PLAIN, {"autoscaling": {"enabled": True, "streamsPerPod": 5000}}),
    **{
        f"ingress of {controller}": merged(
            PLAIN, {"ingress": {**INGRESS, "controller": controller}}
        )
        for controller in ("nginx", "haproxy", "alb", "other")
    },
    "route": merged(
        PLAIN,
        {
            "httpRoute": {
                "enabled": True,
                "parentRefs": [{"name": "public"}],
                "hostnames": ["handoff.example.com", "*.handoff.example.com"],
            }
        },
    ),
    "telemetry": merged(
        PLAIN,
        {
            "telemetry": {
                "serviceMonitor": {"enabled": True},
                "prometheusRule": {"enabled": True},
                "dashboard": {"enabled": True},
                "otlp": {"endpoint": "https://collector.example.com"},
            }
        },
    ),
    "no telemetry, no policy": merged(
        PLAIN,
        {"telemetry": {"metrics": {"enabled": False}}, "networkPolicy": {"enabled": False}},
    ),
    "placement and names": merged(
        PLAIN,
        {
            "fullnameOverride": "agents-relay",
            "image": {"digest": "sha256:" + "0" * 64, "pullSecrets": [{"name": "registry"}]},
            "priorityClassName": "high",
            "nodeSelector": {"kubernetes.io/arch": "arm64"},
            "tolerations": [{"key": "dedicated", "operator": "Exists"}],
            "affinity": {"podAntiAffinity": {}},
            "podAnnotations": {"example.com/a": "b"},
            "serviceAccount": {"create": False},
            "service": {"type": "LoadBalancer", "annotations": {"example.com/a": "b"}},
            "extraEnv": [{"name": "OTEL_EXPORTER_OTLP_HEADERS", "value": "a=b"}],
        },
    ),
}


@cache
def rendered(case):
    return render(CASES[case])


def relay_settings():
    """The settings of `handoff-relay serve`, read from its source."""
    source = (REPOSITORY / "services" / "relay" / "src" / "settings.rs").read_text()
    return set(re.findall(r'env = "([A-Z_]+)"', source))
