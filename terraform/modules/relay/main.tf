# The relay in the cluster, by its chart, and what binds it to AWS: the database's password.
# The way from outside is in ingress.tf.

locals {
  namespace       = "handoff"
  service_account = "handoff-secret-reader"
  secret_store    = "handoff-aws"

  # The chart names its objects by the release.
  release = "handoff"

  shutdown_seconds = 20
  # The load balancer goes on sending requests until it has heard that a pod is going.
  pre_stop_seconds = 20

  # A replica uses pool + lanes + 6. During an upgrade one more is there, and one that is stopping;
  # the chart counts the same.
  connections_per_replica = var.pool_size + 2 * var.lanes + 6
  connections             = (var.replicas.max + 2) * local.connections_per_replica

  tls = var.database_ca == null ? "sslmode=require" : "sslmode=verify-full&sslrootcert=/etc/handoff/database-ca/ca.crt"

  # Everything that this environment tells the chart.
  values = {
    image = {
      repository = var.image.repository
      digest     = var.image.digest
    }
    autoscaling = {
      enabled     = true
      minReplicas = var.replicas.min
      maxReplicas = var.replicas.max
    }
    # Numbers as numbers: the chart refuses them as texts.
    settings = merge({ for name, value in var.settings : name => try(tonumber(value), value) }, {
      HANDOFF_POOL_SIZE   = var.pool_size
      HANDOFF_LANES       = var.lanes
      HANDOFF_SHUTDOWN_MS = local.shutdown_seconds * 1000
    })
    preStopSeconds = local.pre_stop_seconds
    resources = {
      requests = var.resources
      limits   = { memory = var.resources.memory }
    }
    database = {
      maxConnections = var.database.max_connections
      caSecret       = var.database_ca == null ? "" : "handoff-database-ca"
      externalSecret = {
        enabled   = true
        remoteKey = var.database.secret_arn
        storeRef = {
          kind = "SecretStore"
          name = local.secret_store
        }
        template = {
          url = "postgres://{{ .username | urlquery }}:{{ .password | urlquery }}@${var.database.address}:5432/handoff?${local.tls}"
        }
        # Soon after the password was changed.
        refreshInterval = "1m"
      }
    }
    telemetry = {
      otlp = {
        endpoint   = var.otlp_endpoint
        samplerArg = tostring(var.trace_share)
      }
    }
  }
}

# The one right that anything in the cluster has for the relay: to read this one secret.
resource "aws_iam_role" "secret_reader" {
  name = "${var.name}-secret-reader"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRoleWithWebIdentity"
      Principal = { Federated = var.cluster.oidc_provider_arn }
      Condition = {
        StringEquals = {
          "${var.cluster.oidc_issuer}:aud" = "sts.amazonaws.com"
          "${var.cluster.oidc_issuer}:sub" = "system:serviceaccount:${local.namespace}:${local.service_account}"
        }
      }
    }]
  })
}

data "aws_region" "this" {}

resource "aws_iam_role_policy" "secret_reader" {
  name = "read-database-secret"
  role = aws_iam_role.secret_reader.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
        Resource = var.database.secret_arn
      },
      {
        Effect    = "Allow"
        Action    = "kms:Decrypt"
        Resource  = var.database.kms_key_arn
        Condition = { StringEquals = { "kms:ViaService" = "secretsmanager.${data.aws_region.this.region}.amazonaws.com" } }
      },
    ]
  })
}

# Its own pods have no AWS rights: each SecretStore brings the role that it reads by.
resource "helm_release" "external_secrets" {
  name             = "external-secrets"
  namespace        = "external-secrets"
  create_namespace = true
  repository       = "https://charts.external-secrets.io"
  chart            = "external-secrets"
  version          = var.external_secrets_version
  atomic           = true

  values = [yamlencode({
    installCRDs         = true
    replicaCount        = 2
    leaderElect         = true
    processClusterStore = false
    processPushSecret   = false
    certController      = { replicaCount = 2 }
    podDisruptionBudget = { enabled = true, minAvailable = 1 }
    webhook             = { replicaCount = 2 }
  })]
}

# Custom resources of the controllers, which can't be in the release that brings their definitions.
resource "helm_release" "bindings" {
  name             = "handoff-bindings"
  namespace        = local.namespace
  create_namespace = true
  chart            = "${path.module}/bindings"
  atomic           = true

  values = [yamlencode({
    region         = data.aws_region.this.region
    roleArn        = aws_iam_role.secret_reader.arn
    serviceAccount = local.service_account
    secretStore    = local.secret_store
    service        = local.release
    targetGroupArn = aws_lb_target_group.this.arn
    databaseCa     = var.database_ca == null ? "" : var.database_ca
  })]

  depends_on = [helm_release.external_secrets, aws_iam_role_policy.secret_reader]
}

resource "helm_release" "relay" {
  name      = local.release
  namespace = local.namespace
  chart     = "${path.module}/../../../helm/handoff"
  values    = [yamlencode(local.values)]

  # An upgrade that doesn't become ready is taken back. A migration may take 10 minutes.
  atomic  = true
  timeout = 1200

  lifecycle {
    precondition {
      condition     = local.connections + 20 <= var.database.max_connections
      error_message = "${var.replicas.max} replicas, and two more during an upgrade, use ${local.connections} connections, and 20 are kept for people and migrations; the database accepts ${var.database.max_connections}."
    }
  }

  depends_on = [helm_release.bindings]
}
