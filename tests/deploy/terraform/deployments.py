"""What an environment would make, looked at as a whole. In: the states that the environments' tests
end with (mocked where AWS would answer). Out: sentences about what is wrong."""

import json

import helm_python as helm
import yaml

#: Actions that know no narrower resource than "*".
WITHOUT_RESOURCES = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}


def resources(module):
    yield from module.get("resources", [])
    for child in module.get("child_modules", []):
        yield from resources(child)


class Deployment:
    """All resources of an environment."""

    def __init__(self, state):
        self.all = [each for each in resources(state["root_module"]) if each["mode"] == "managed"]

    def of(self, kind):
        return [each for each in self.all if each["type"] == kind]

    def one(self, kind):
        (each,) = self.of(kind)
        return each["values"]


def listed(value):
    return value if isinstance(value, list) else [value]


def wildcards(deployment):
    """IAM rights without wildcards: no star in an action, and in a resource only where AWS wants it.
    (In a key's policy the resource "*" is the key itself, so those are not looked at.)"""
    policies = deployment.of("aws_iam_role_policy") + deployment.of("aws_iam_policy")
    if len(policies) < 3:
        yield "the environment's IAM policies were not found"
    for policy in policies:
        for statement in json.loads(policy["values"]["policy"])["Statement"]:
            actions, targets = listed(statement["Action"]), listed(statement["Resource"])
            if any("*" in action for action in actions):
                yield f"{policy['address']}: wildcard in {actions}"
            if "*" in targets and not set(actions) <= WITHOUT_RESOURCES:
                yield f"{policy['address']}: every resource for {actions}"
            for target in targets:
                if "*" in target.removesuffix(":log-stream:*") and target != "*":
                    yield f"{policy['address']}: wildcard in {target}"
    for role in deployment.of("aws_iam_role"):
        for statement in json.loads(role["values"]["assume_role_policy"])["Statement"]:
            principal = statement["Principal"]
            if principal == "*" or "*" in json.dumps(principal):
                yield f"{role['address']}: anybody may take the role"


def open_doors(deployment):
    """The Internet reaches the load balancer, at 80 and 443, and nothing else."""
    rules = deployment.of("aws_vpc_security_group_ingress_rule")
    if len(rules) < 4:
        yield "the environment's security group rules were not found"
    for rule in rules:
        values = rule["values"]
        by_group = ".clients[" not in rule["address"]
        if by_group and not str(values["referenced_security_group_id"]).startswith("sg-"):
            yield f"{rule['address']}: not only another security group may come in"
        if not by_group and values["to_port"] not in (80, 443):
            yield f"{rule['address']}: port {values['to_port']} is open"
        if values["from_port"] != values["to_port"]:
            yield f"{rule['address']}: a range of ports is open"
    inline = [each["address"] for each in deployment.of("aws_security_group_rule")]
    for address in inline:
        yield f"{address}: rules are written as aws_vpc_security_group_*_rule"


def logs(deployment):
    """Logs are encrypted, and don't stay for ever."""
    for group in deployment.of("aws_cloudwatch_log_group"):
        values = group["values"]
        if not values["retention_in_days"] or not values["kms_key_id"].startswith("arn:aws:kms:"):
            yield f"{group['address']}: no retention, or not encrypted"
    for key in deployment.of("aws_kms_key"):
        if not key["values"]["enable_key_rotation"]:
            yield f"{key['address']}: not rotated"


def protection(deployment, wanted):
    """What can be deleted, and what stands by."""
    found = {
        "database.deletion_protection": deployment.one("aws_db_instance")["deletion_protection"],
        "database.multi_az": deployment.one("aws_db_instance")["multi_az"],
        "cluster.deletion_protection": deployment.one("aws_eks_cluster")["deletion_protection"],
        "load_balancer.protection": deployment.one("aws_lb")["enable_deletion_protection"],
        "a NAT gateway in every zone": len(deployment.of("aws_nat_gateway")) == 3,
    }
    for name, value in found.items():
        if value is not wanted:
            yield f"{name} is {value}, should be {wanted}"
    database = deployment.one("aws_db_instance")
    if not database["storage_encrypted"] or database["publicly_accessible"]:
        yield "the database is not encrypted, or public"


def release(deployment, address):
    """The chart and the values of a helm release."""
    (found,) = [each for each in deployment.of("helm_release") if each["address"].endswith(address)]
    return found["values"]["name"], yaml.safe_load(found["values"]["values"][0])


def charts(deployment, folder):
    """Our charts take what they are told, and fit together."""
    objects = {}
    for address, path in (
        ("helm_release.relay", "helm/handoff"),
        ("helm_release.bindings", "terraform/modules/relay/bindings"),
    ):
        name, values = release(deployment, address)
        try:
            with helm.Chart.load(folder / path) as chart:
                chart.validate_schema(values)
                files = chart.render(values, name=name, namespace="handoff", is_install=True)
        except helm.HelmError as error:
            yield f"{path}: {error}"
            return
        manifests = [text for path, text in files.items() if path.endswith(".yaml")]
        for text in manifests:
            for each in yaml.safe_load_all(text):
                if each:
                    objects[each["kind"], each["metadata"]["name"]] = each

    def there(kind, name, whose):
        if (kind, name) not in objects:
            yield f"{whose} names the {kind} {name}, which isn't there"

    binding = next(each for (kind, _), each in objects.items() if kind == "TargetGroupBinding")
    service = binding["spec"]["serviceRef"]
    yield from there("Service", service["name"], "TargetGroupBinding")
    ports = objects.get(("Service", service["name"]), {"spec": {"ports": []}})["spec"]["ports"]
    if service["port"] not in [port["name"] for port in ports]:
        yield f"TargetGroupBinding names the port {service['port']}, which isn't there"
    external = next(each for (kind, _), each in objects.items() if kind == "ExternalSecret")
    store = external["spec"]["secretStoreRef"]
    yield from there(store["kind"], store["name"], "ExternalSecret")

    (pod,) = [
        each["spec"]["template"]
        for (kind, _), each in objects.items()
        if kind == "Deployment"
    ]
    (container,) = [each for each in pod["spec"]["containers"] if each["name"] != "pgbouncer"]
    numbers = {port["containerPort"] for port in container["ports"]}
    target = deployment.one("aws_lb_target_group")
    if target["port"] not in numbers:
        yield f"the load balancer sends to port {target['port']}, the relay listens at {numbers}"
    if target["health_check"][0]["path"] != container["readinessProbe"]["httpGet"]["path"]:
        yield "the load balancer asks something else than the readiness probe"
    if int(target["deregistration_delay"]) > pod["spec"]["terminationGracePeriodSeconds"]:
        yield "pods are killed before the load balancer has let go of them"
    scraper = deployment.one("aws_prometheus_scraper")["scrape_configuration"]
    name = pod["metadata"]["labels"]["app.kubernetes.io/name"]
    if not any(f"{name};{number}" in scraper for number in numbers):
        yield "Prometheus reads no port of the relay"


def problems(states, folder):
    found = []
    for environment, state in states.items():
        deployment = Deployment(state)
        for check in (
            wildcards(deployment),
            open_doors(deployment),
            logs(deployment),
            protection(deployment, wanted=environment == "production"),
            charts(deployment, folder),
        ):
            found += [f"{environment}: {problem}" for problem in check]
    if set(states) != {"staging", "production"}:
        found.append(f"environments: {sorted(states)}")
    return found
