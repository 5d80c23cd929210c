{{/* The name of all that belongs to the picker. */}}
{{- define "inferpick.name" -}}
{{- .Values.nameOverride | default (printf "%s-epp" .Release.Name) | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "inferpick.poolName" -}}
{{- .Values.inferencePool.name | default .Release.Name -}}
{{- end -}}

{{/* Whether there is an InferencePool, of this release or of somebody else. */}}
{{- define "inferpick.hasPool" -}}
{{- if .Values.inferenceExtension.endpointsServer.createInferencePool -}}true{{- end -}}
{{- end -}}

{{/* Whether this release makes it. */}}
{{- define "inferpick.makesPool" -}}
{{- if and (include "inferpick.hasPool" .) .Values.inferencePool.create -}}true{{- end -}}
{{- end -}}

{{- define "inferpick.allNamespaces" -}}
{{- if has "*" .Values.inferenceExtension.namespaces -}}true{{- end -}}
{{- end -}}

{{- define "inferpick.serviceAccount" -}}
{{- .Values.inferenceExtension.serviceAccount.name | default (include "inferpick.name" .) -}}
{{- end -}}

{{/* Whether metrics are told to who shows a token, and the Secret that it is in. */}}
{{- define "inferpick.metricsToken" -}}
{{- with .Values.inferenceExtension.monitoring.prometheus -}}
{{- if and .enabled .auth.enabled -}}
{{- .auth.secretName | default (printf "%s-metrics-token" (include "inferpick.name" $)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether others are told how many replicas of the servers there should be. */}}
{{- define "inferpick.scales" -}}
{{- with .Values.inferenceExtension.autoscaling -}}
{{- if or .keda.enabled .externalMetrics.enabled -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether replicas ask each other what waits there: those that share what they know tell each other that, too. */}}
{{- define "inferpick.asksPickers" -}}
{{- if and (include "inferpick.scales" .) (not .Values.inferenceExtension.peers.keySecret) -}}true{{- end -}}
{{- end -}}

{{/* The Service by which they are found for that. */}}
{{- define "inferpick.pickersName" -}}
{{- printf "%s-pickers" (include "inferpick.name" . | trunc 55 | trimSuffix "-") -}}
{{- end -}}

{{/* The Service by which replicas find each other. */}}
{{- define "inferpick.peersName" -}}
{{- printf "%s-peers" (include "inferpick.name" . | trunc 57 | trimSuffix "-") -}}
{{- end -}}

{{- define "inferpick.selectorLabels" -}}
app.kubernetes.io/name: inferpick
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: endpoint-picker
{{- end -}}

{{- define "inferpick.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{ include "inferpick.selectorLabels" . }}
{{- end -}}

{{- define "inferpick.metadata" -}}
name: {{ include "inferpick.name" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "inferpick.labels" . | nindent 2 }}
{{- end -}}

{{- define "inferpick.image" -}}
{{- with .Values.inferenceExtension.image -}}
{{- with .registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The arguments of the picker, a list in YAML. What a user says comes last, and wins. */}}
{{- define "inferpick.args" -}}
{{- $epp := .Values.inferenceExtension -}}
- -kubernetes
{{- if include "inferpick.allNamespaces" . }}
{{- else if $epp.namespaces }}
- -namespaces={{ join "," $epp.namespaces }}
{{- else }}
- -pool-name={{ include "inferpick.poolName" . }}
- -pool-namespace=$(NAMESPACE)
{{- end }}
{{- if not (include "inferpick.hasPool" .) }}
- -endpoint-selector={{ $epp.endpointsServer.endpointSelector }}
- -endpoint-target-ports={{ $epp.endpointsServer.targetPorts }}
{{- end }}
- -write-status={{ $epp.writeStatus }}
- -lease={{ include "inferpick.name" . }}
- -config=/config/{{ $epp.pluginsConfigFile }}
- -log-format=json
- -drain-delay={{ $epp.drain.delaySeconds }}s
- -drain-timeout={{ $epp.drain.timeoutSeconds }}s
{{- if $epp.rollouts.enabled }}
- -rollouts
- -rollout-loader={{ $epp.rollouts.loader }}
{{- end }}
{{- if include "inferpick.metricsToken" . }}
- -metrics-token-file=/var/run/secrets/inferpick/metrics/token
{{- end }}
{{- if $epp.peers.keySecret }}
- -peers={{ include "inferpick.peersName" . }}:9004
- -peers-key-file=/var/run/secrets/inferpick/peers/key
- -peers-name=$(POD_NAME)
{{- end }}
{{- if $epp.autoscaling.keda.enabled }}
- -keda-addr=:9005
{{- end }}
{{- if $epp.autoscaling.externalMetrics.enabled }}
- -external-metrics-addr=:6443
{{- end }}
{{- if include "inferpick.asksPickers" . }}
- -autoscale-peers={{ include "inferpick.pickersName" . }}:9090
{{- end }}
{{- with $epp.metricsDataSource }}
{{- if eq .scheme "https" }}
- -model-server-metrics-scheme=https
- -model-server-metrics-https-insecure-skip-verify={{ .insecureSkipVerify }}
{{- end }}
{{- with .path | default (ternary "/prometheus/metrics" "" (eq $.Values.inferencePool.modelServerType "trtllm-serve")) }}
- -model-server-metrics-path={{ . }}
{{- end }}
{{- end }}
{{- if $epp.tracing.enabled }}
- -tracing=true
{{- end }}
{{- range $name, $value := $epp.flags }}
- {{ printf "-%s=%v" $name $value | quote }}
{{- end }}
{{- end -}}
