{{/* The chart's name. */}}
{{- define "handoff.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of the release's objects, short enough for what is appended to it. */}}
{{- define "handoff.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := include "handoff.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* The chart's name and version, as a label. */}}
{{- define "handoff.chart" -}}
{{- printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Labels of every object. */}}
{{- define "handoff.labels" -}}
helm.sh/chart: {{ include "handoff.chart" . }}
{{ include "handoff.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Labels that never change; a component is added where pods are meant. */}}
{{- define "handoff.selectorLabels" -}}
app.kubernetes.io/name: {{ include "handoff.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "handoff.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "handoff.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "handoff.image" -}}
{{- with .Values.image }}
{{- if .digest }}
{{- printf "%s@%s" .repository .digest }}
{{- else }}
{{- printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) }}
{{- end }}
{{- end }}
{{- end }}

{{/* What the restricted level of the pod security standards asks of a pod … */}}
{{- define "handoff.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* … and of a container. */}}
{{- define "handoff.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/*
Seconds from the end of a pod's service to its death: the pause before SIGTERM, the relay's own
deadline, and 5 s for what the relay does before and after it.
*/}}
{{- define "handoff.gracePeriod" -}}
{{- $shutdown := divf (int .Values.settings.HANDOFF_SHUTDOWN_MS) 1000 | ceil | int }}
{{- $least := add (int .Values.preStopSeconds) $shutdown 5 | int }}
{{- $given := int .Values.terminationGracePeriodSeconds }}
{{- if and $given (lt $given $least) }}
{{- fail (printf "terminationGracePeriodSeconds: %d is too short: preStopSeconds, HANDOFF_SHUTDOWN_MS and 5 s make %d" $given $least) }}
{{- end }}
{{- $given | default $least }}
{{- end }}

{{- define "handoff.maxReplicas" -}}
{{- if .Values.autoscaling.enabled }}{{ .Values.autoscaling.maxReplicas }}{{ else }}{{ .Values.replicas }}{{ end }}
{{- end }}

{{/*
The most connections to Postgres that the release can use. During a rollout there is one replica
more than usual, and one that is stopping (minReadySeconds keeps it at one). Of a replica's
connections its pool and four more can go through PgBouncer; its lanes, notifier and listener can't.
20 are for the migration, people, backups, and what Postgres keeps for itself.
*/}}
{{- define "handoff.connections" -}}
{{- $pods := add (include "handoff.maxReplicas" . | int) 2 }}
{{- $pooled := add (int .Values.settings.HANDOFF_POOL_SIZE) 4 }}
{{- $sessions := add (mul 2 (int .Values.settings.HANDOFF_LANES)) 2 }}
{{- with .Values.database.pgbouncer }}
{{- if .enabled }}
{{- add (mul $pods $sessions) (mul (add .replicas 1) .poolSize) 20 }}
{{- else }}
{{- add (mul $pods (add $pooled $sessions)) 20 }}
{{- end }}
{{- end }}
{{- end }}

{{/* The connections that PgBouncer has to accept, all from one replica of it if need be. */}}
{{- define "handoff.pooledConnections" -}}
{{- mul (add (include "handoff.maxReplicas" . | int) 2) (add (int .Values.settings.HANDOFF_POOL_SIZE) 4) }}
{{- end }}

{{/* Names of what belongs to the database. */}}
{{- define "handoff.clusterName" -}}
{{ include "handoff.fullname" . }}-db
{{- end }}

{{- define "handoff.poolerName" -}}
{{ include "handoff.fullname" . }}-pgbouncer
{{- end }}

{{- define "handoff.databaseSecret" -}}
{{- if .Values.database.externalSecret.enabled }}
{{- include "handoff.fullname" . }}-database
{{- else }}
{{- .Values.database.secret.name }}
{{- end }}
{{- end }}

{{- define "handoff.caSecret" -}}
{{- if .Values.database.cluster.enabled }}
{{- include "handoff.clusterName" . }}-ca
{{- else }}
{{- .Values.database.caSecret }}
{{- end }}
{{- end }}

{{/*
"true" where the database or its Secret comes with the release, and so isn't there yet before the
release is installed: then the first migration can't be a hook.
*/}}
{{- define "handoff.databaseComesWithRelease" -}}
{{- if or .Values.database.cluster.enabled .Values.database.externalSecret.enabled }}true{{ end }}
{{- end }}

{{/* Planner settings that the relay asks Postgres for, and that PgBouncer doesn't pass on. */}}
{{- define "handoff.plannerSettings" -}}
enable_seqscan=off enable_bitmapscan=off enable_hashjoin=off enable_mergejoin=off plan_cache_mode=force_generic_plan jit=off timezone=UTC client_min_messages=warning
{{- end }}

{{/* Limits that the relay's readers ask for; PgBouncer has no other clients. */}}
{{- define "handoff.readerSettings" -}}
statement_timeout=10s lock_timeout=2s idle_in_transaction_session_timeout=5s
{{- end }}

{{/* The same as the role's own settings, for a Cluster that the operator's Pooler leads to. */}}
{{- define "handoff.roleSettings" -}}
{{- range regexSplit " " (include "handoff.plannerSettings" .) -1 }}
{{- $setting := regexSplit "=" . 2 }}alter role handoff set {{ first $setting }} = '{{ last $setting }}';
{{ end }}
{{- end }}

{{/* max_connections of the chart's own Cluster: what is needed, and no less than Postgres' default. */}}
{{- define "handoff.clusterConnections" -}}
{{- max 100 (.Values.database.maxConnections | default (include "handoff.connections" .) | int) }}
{{- end }}

{{/*
PgBouncer's settings. Every connection to Postgres gets at its start what the relay's readers would
have asked for.
*/}}
{{- define "handoff.pgbouncerIni" -}}
{{- $settings := list }}
{{- range regexSplit " " (printf "%s %s" (include "handoff.plannerSettings" .) (include "handoff.readerSettings" .)) -1 }}
{{- $setting := regexSplit "=" . 2 }}
{{- $settings = append $settings (printf "set %s = %s" (first $setting) (last $setting | squote | replace "'" "''")) }}
{{- end }}
{{- with .Values.database.pgbouncer -}}
[databases]
* = host={{ .host }} port={{ .port }} connect_query='{{ join "; " $settings }}'

[pgbouncer]
listen_addr = *
listen_port = 6432
unix_socket_dir =
auth_type = scram-sha-256
auth_file = /etc/pgbouncer/users/userlist.txt
pool_mode = transaction
max_prepared_statements = 500
default_pool_size = {{ .poolSize }}
max_client_conn = {{ include "handoff.pooledConnections" $ }}
ignore_startup_parameters = extra_float_digits,options
{{- if $.Values.database.caSecret }}
server_tls_sslmode = verify-full
server_tls_ca_file = /etc/handoff/database-ca/ca.crt
{{- else }}
server_tls_sslmode = prefer
{{- end }}
{{- end }}
{{- end }}

{{/* How the relay and its migrations reach Postgres. */}}
{{- define "handoff.databaseEnv" -}}
{{- if .Values.database.cluster.enabled }}
{{- $cluster := include "handoff.clusterName" . }}
{{- $tls := "sslmode=verify-full&sslrootcert=/etc/handoff/database-ca/ca.crt" }}
{{- $direct := printf "postgres://$(DATABASE_USER):$(DATABASE_PASSWORD)@%s-rw:5432/handoff?%s" $cluster $tls }}
- name: DATABASE_USER
  valueFrom:
    secretKeyRef:
      name: {{ $cluster }}-app
      key: username
- name: DATABASE_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ $cluster }}-app
      key: password
{{- if .Values.database.pgbouncer.enabled }}
# The operator's pooler shows the cluster's certificate, which isn't in the pooler's name.
- name: DATABASE_URL
  value: postgres://$(DATABASE_USER):$(DATABASE_PASSWORD)@{{ include "handoff.poolerName" . }}:5432/handoff?sslmode=require
- name: DATABASE_LISTEN_URL
  value: {{ $direct }}
{{- else }}
- name: DATABASE_URL
  value: {{ $direct }}
{{- end }}
{{- else }}
{{- $secret := include "handoff.databaseSecret" . }}
{{- with .Values.database.secret }}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ .urlKey }}
{{- if .listenUrlKey }}
- name: DATABASE_LISTEN_URL
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ .listenUrlKey }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "handoff.databaseVolumeMounts" -}}
{{- if include "handoff.caSecret" . }}
volumeMounts:
  - name: database-ca
    mountPath: /etc/handoff/database-ca
    readOnly: true
{{- end }}
{{- end }}

{{- define "handoff.databaseVolumes" -}}
{{- with include "handoff.caSecret" . }}
volumes:
  - name: database-ca
    secret:
      secretName: {{ . }}
      # Of a cluster's the key of the authority is none of the relay's business.
      items:
        - key: ca.crt
          path: ca.crt
{{- end }}
{{- end }}

{{/* The container that migrates, of the Job and of a first installation's pods. */}}
{{- define "handoff.migrateContainer" -}}
- name: migrate
  image: {{ include "handoff.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: [migrate]
  env:
    {{- include "handoff.databaseEnv" . | trim | nindent 4 }}
  securityContext:
    {{- include "handoff.containerSecurityContext" . | nindent 4 }}
  resources:
    requests:
      cpu: 50m
      memory: 64Mi
    limits:
      memory: 128Mi
  {{- with include "handoff.databaseVolumeMounts" . }}
  {{- . | trim | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Refuses values that are legal one by one but don't go together. */}}
{{- define "handoff.check" -}}
{{- $database := .Values.database }}
{{- $sources := 0 }}
{{- range list $database.secret.name $database.externalSecret.enabled $database.cluster.enabled }}
{{- if . }}{{ $sources = add1 $sources }}{{ end }}
{{- end }}
{{- if ne (int $sources) 1 }}
{{- fail "database: set exactly one of secret.name, externalSecret.enabled and cluster.enabled" }}
{{- end }}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
{{- fail "autoscaling: minReplicas is more than maxReplicas" }}
{{- end }}
{{- if not .Values.telemetry.metrics.enabled }}
{{- if or .Values.telemetry.serviceMonitor.enabled (and .Values.autoscaling.enabled .Values.autoscaling.streamsPerPod) }}
{{- fail "telemetry.metrics.enabled: needed by serviceMonitor and by autoscaling.streamsPerPod" }}
{{- end }}
{{- end }}
{{- $needed := include "handoff.connections" . | int }}
{{- $given := int $database.maxConnections }}
{{- if and $given (lt $given $needed) }}
{{- fail (printf "database.maxConnections: %d are too few: %s replicas and a rollout can use %d (fewer replicas, a smaller HANDOFF_POOL_SIZE or PgBouncer need fewer)" $given (include "handoff.maxReplicas" .) $needed) }}
{{- end }}
{{- with $database.pgbouncer }}
{{- if and .enabled (not $database.cluster.enabled) }}
{{- if not $database.secret.listenUrlKey }}
{{- fail "database.secret.listenUrlKey: needed with pgbouncer, for what must go past it" }}
{{- end }}
{{- if not .host }}
{{- fail "database.pgbouncer.host: say where Postgres is" }}
{{- end }}
{{- if semverCompare "<1.21.0-0" .image.tag }}
{{- fail (printf "database.pgbouncer.image.tag: %s is too old, 1.21.0 is the first with prepared statements in transaction mode" .image.tag) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
