{{/* The environment of the picker; what a user says comes last. */}}
{{- define "inferpick.env" -}}
{{- $epp := .Values.inferenceExtension -}}
env:
- name: NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- with $epp.tracing }}
{{- if .enabled }}
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
- {name: OTEL_SERVICE_NAME, value: {{ include "inferpick.name" $ }}}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ .otelExporterEndpoint | quote }}}
- {name: OTEL_TRACES_SAMPLER, value: {{ .sampling.sampler | quote }}}
- {name: OTEL_TRACES_SAMPLER_ARG, value: {{ .sampling.samplerArg | quote }}}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: k8s.namespace.name=$(NAMESPACE),k8s.node.name=$(NODE_NAME),k8s.pod.name=$(POD_NAME)
{{- end }}
{{- end }}
{{- with $epp.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}
