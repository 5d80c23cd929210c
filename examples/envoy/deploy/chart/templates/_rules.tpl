{{/* What the picker reads of the cluster, and what it writes. Nothing else. */}}
{{- define "inferpick.rules" -}}
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [inference.networking.k8s.io, inference.networking.x-k8s.io]
  resources: [inferencepools]
  verbs: [list, watch]
- apiGroups: [inference.networking.x-k8s.io]
  resources: [inferencemodels]
  verbs: [list, watch]
- apiGroups: [inference.networking.x-k8s.io, llm-d.ai]
  resources: [inferenceobjectives, inferencemodelrewrites]
  verbs: [list, watch]
{{- if .Values.inferenceExtension.writeStatus }}
- apiGroups: [inference.networking.x-k8s.io]
  resources: [inferencemodels/status]
  verbs: [patch]
- apiGroups: [inference.networking.x-k8s.io, llm-d.ai]
  resources: [inferenceobjectives/status, inferencemodelrewrites/status]
  verbs: [patch]
{{- end }}
{{- if .Values.inferenceExtension.rollouts.enabled }}
- apiGroups: [inference.networking.x-k8s.io]
  resources: [inferencemodels]
  verbs: [get, patch]
- apiGroups: [inference.networking.x-k8s.io, llm-d.ai]
  resources: [inferencemodelrewrites]
  verbs: [get, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}
{{- end -}}

{{/* For who writes status and rollouts: the lease by which replicas agree on one. */}}
{{- define "inferpick.leaderRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "inferpick.name" . }}]
  verbs: [get, update]
{{- end -}}
