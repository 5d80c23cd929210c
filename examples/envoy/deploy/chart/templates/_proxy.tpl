{{- define "inferpick.proxyConfig" -}}
{{- .Values.proxy.config | default (.Files.Get "files/envoy.yaml") -}}
{{- end -}}

{{/*
Envoy is a sidecar in the sense of Kubernetes (a container that is started before the others
and ended after them): it has to go on until the picker has let all requests finish.
*/}}
{{- define "inferpick.proxyContainer" -}}
initContainers:
- name: envoy
  restartPolicy: Always
  image: {{ .Values.proxy.image }}
  imagePullPolicy: {{ .Values.proxy.imagePullPolicy }}
  args: [-c, /etc/envoy/envoy.yaml, --log-level, {{ .Values.proxy.logLevel }}]
  ports:
  - {name: http, containerPort: 8081}
  - {name: envoy-metrics, containerPort: 19001}
  readinessProbe:
    httpGet: {path: /ready, port: 19001}
    periodSeconds: 2
  resources:
    {{- toYaml .Values.proxy.resources | nindent 4 }}
  securityContext:
    {{- toYaml .Values.inferenceExtension.securityContext | nindent 4 }}
  volumeMounts:
  - {name: proxy, mountPath: /etc/envoy, readOnly: true}
{{- end -}}
