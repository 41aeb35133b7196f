mock_provider "aws" {
  source = "../../mocks"
}

mock_provider "helm" {}

variables {
  name                = "handoff-test"
  domain              = "relay.example.com"
  zone_id             = "Z0123456789"
  vpc_id              = "vpc-1"
  public_subnet_ids   = ["subnet-1", "subnet-2", "subnet-3"]
  image               = { repository = "example.com/handoff", digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000" }
  replicas            = { min = 3, max = 10 }
  otlp_endpoint       = "http://otel-collector.observability:4318"
  trace_share         = 0.1
  deletion_protection = true

  cluster = {
    name              = "handoff-test"
    security_group_id = "sg-cluster"
    oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/issuer"
    oidc_issuer       = "issuer"
  }

  database = {
    address         = "db.internal"
    secret_arn      = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db"
    kms_key_arn     = "arn:aws:kms:eu-central-1:123456789012:key/db"
    max_connections = 260
  }
}

run "from_outside_to_the_pods" {
  assert {
    condition     = aws_lb.this.idle_timeout >= 60 && aws_lb.this.drop_invalid_header_fields && aws_lb.this.enable_deletion_protection
    error_message = "A stream's keep-alive every 15 s and a wait of a minute live within the idle timeout."
  }

  assert {
    condition     = aws_lb_listener.https.protocol == "HTTPS" && strcontains(aws_lb_listener.https.ssl_policy, "TLS13") && aws_lb_listener.https.certificate_arn == aws_acm_certificate_validation.this.certificate_arn
    error_message = "Agents speak TLS 1.2 or 1.3, with a certificate that was validated."
  }

  assert {
    condition     = aws_lb_listener.http.default_action[0].type == "redirect" && aws_lb_listener.http.default_action[0].redirect[0].protocol == "HTTPS"
    error_message = "Nothing is served without TLS."
  }

  assert {
    condition     = aws_lb_target_group.this.health_check[0].path == "/readyz" && aws_lb_target_group.this.target_type == "ip" && aws_lb_target_group.this.tags["eks:eks-cluster-name"] == "handoff-test"
    error_message = "The load balancer asks pods whether they are ready, and Auto Mode may register them."
  }

  # A pod that stops is noticed before it stops serving, and is let finish.
  assert {
    condition     = output.values.preStopSeconds > aws_lb_target_group.this.health_check[0].interval * aws_lb_target_group.this.health_check[0].unhealthy_threshold && tonumber(aws_lb_target_group.this.deregistration_delay) >= output.values.preStopSeconds + output.values.settings.HANDOFF_SHUTDOWN_MS / 1000
    error_message = "The load balancer hears of a stopping pod in time, and waits for what is under way."
  }

  assert {
    condition     = aws_route53_record.this.name == "relay.example.com" && aws_route53_record.this.alias[0].name == aws_lb.this.dns_name && output.url == "https://relay.example.com"
    error_message = "The host name leads to the load balancer."
  }
}

run "who_may_reach_what" {
  command = plan

  variables {
    client_cidrs = ["203.0.113.0/24"]
  }

  assert {
    condition     = toset([for rule in aws_vpc_security_group_ingress_rule.clients : "${rule.cidr_ipv4}:${rule.from_port}-${rule.to_port}"]) == toset(["203.0.113.0/24:80-80", "203.0.113.0/24:443-443"])
    error_message = "Agents reach the load balancer from where they may, at 80 and 443 only."
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.pods.security_group_id == "sg-cluster" && aws_vpc_security_group_ingress_rule.pods.from_port == 3000 && aws_vpc_security_group_ingress_rule.pods.to_port == 3000 && aws_vpc_security_group_egress_rule.pods.from_port == 3000 && aws_vpc_security_group_egress_rule.pods.to_port == 3000 && aws_vpc_security_group_egress_rule.pods.referenced_security_group_id == "sg-cluster"
    error_message = "The load balancer reaches the relay's port and nothing else."
  }
}

run "secret" {
  assert {
    condition     = jsondecode(aws_iam_role_policy.secret_reader.policy).Statement[0].Resource == var.database.secret_arn && jsondecode(aws_iam_role_policy.secret_reader.policy).Statement[1].Resource == var.database.kms_key_arn && length(jsondecode(aws_iam_role_policy.secret_reader.policy).Statement) == 2
    error_message = "The role reads the database's secret and nothing else."
  }

  assert {
    condition     = jsondecode(aws_iam_role.secret_reader.assume_role_policy).Statement[0].Condition.StringEquals["issuer:sub"] == "system:serviceaccount:handoff:handoff-secret-reader" && jsondecode(aws_iam_role.secret_reader.assume_role_policy).Statement[0].Condition.StringEquals["issuer:aud"] == "sts.amazonaws.com"
    error_message = "One ServiceAccount may take the role."
  }

  assert {
    condition     = output.values.database.externalSecret.remoteKey == var.database.secret_arn && output.values.database.externalSecret.storeRef.name == yamldecode(helm_release.bindings.values[0]).secretStore && yamldecode(helm_release.bindings.values[0]).serviceAccount == "handoff-secret-reader"
    error_message = "The chart fetches the secret through the store whose role may read it."
  }

  assert {
    condition     = endswith(output.values.database.externalSecret.template.url, "@db.internal:5432/handoff?sslmode=require")
    error_message = "Without AWS' certificates the connection is encrypted, at least."
  }
}

run "checked_database" {
  variables {
    database_ca = "-----BEGIN CERTIFICATE-----\n"
  }

  assert {
    condition     = strcontains(output.values.database.externalSecret.template.url, "sslmode=verify-full") && output.values.database.caSecret == "handoff-database-ca" && yamldecode(helm_release.bindings.values[0]).databaseCa == var.database_ca
    error_message = "With AWS' certificates the database's is checked."
  }
}

run "connections" {
  command = plan

  assert {
    condition     = output.connections == (10 + 2) * (10 + 2 * 2 + 6) && output.values.settings.HANDOFF_POOL_SIZE == 10 && output.values.settings.HANDOFF_LANES == 2 && output.values.autoscaling.maxReplicas == 10
    error_message = "What is counted is what the replicas are told, with two more during an upgrade."
  }
}

run "too_few_connections" {
  command = plan

  variables {
    pool_size = 20
  }

  expect_failures = [helm_release.relay]
}

run "wrong_values" {
  command = plan

  variables {
    domain      = "https://relay.example.com"
    image       = { repository = "example.com/handoff", digest = "latest" }
    replicas    = { min = 1, max = 10 }
    lanes       = 65
    pool_size   = 0
    settings    = { DATABASE_URL = "postgres://elsewhere" }
    trace_share = 10
    resources   = { cpu = "one", memory = "1Gi" }
  }

  expect_failures = [
    var.domain, var.image, var.replicas, var.lanes, var.pool_size, var.settings, var.trace_share, var.resources,
  ]
}
