{{/* What the schema cannot say: what values say together. */}}
{{- define "inferpick.validate" -}}
{{- $epp := .Values.inferenceExtension -}}
{{- if not $epp.image.repository -}}
{{- fail "inferenceExtension.image.repository is required: no image is published, build one with examples/envoy/Dockerfile" -}}
{{- end -}}
{{- if and (include "inferpick.makesPool" .) (not .Values.inferencePool.modelServers.matchLabels) -}}
{{- fail "inferencePool.modelServers.matchLabels is required: the labels of the pods that serve the model (app: llama); or inferencePool.create: false, for a pool that is there" -}}
{{- end -}}
{{- if and (not (include "inferpick.hasPool" .)) (not $epp.endpointsServer.endpointSelector) -}}
{{- fail "inferenceExtension.endpointsServer.endpointSelector is required without an InferencePool: the labels of the pods that serve the model (app=llama)" -}}
{{- end -}}
{{- if and (not (include "inferpick.hasPool" .)) (or $epp.namespaces .Values.experimentalHttpRoute.enabled) -}}
{{- fail "inferenceExtension.endpointsServer.createInferencePool: false leaves no pool that namespaces and experimentalHttpRoute could be for" -}}
{{- end -}}
{{- if and (include "inferpick.makesPool" .) $epp.namespaces (not (or (has "*" $epp.namespaces) (has .Release.Namespace $epp.namespaces))) -}}
{{- fail (printf "inferenceExtension.namespaces does not have %s, where the InferencePool of this release is: add it, or say inferencePool.create: false" .Release.Namespace) -}}
{{- end -}}
{{- if and (has "*" $epp.namespaces) (gt (len $epp.namespaces) 1) -}}
{{- fail "inferenceExtension.namespaces: \"*\" is all of them, want it alone" -}}
{{- end -}}
{{- if not (or (eq $epp.pluginsConfigFile "default-plugins.yaml") (hasKey $epp.pluginsCustomConfig $epp.pluginsConfigFile)) -}}
{{- fail (printf "inferenceExtension.pluginsConfigFile %q is not among the files of pluginsCustomConfig: %s" $epp.pluginsConfigFile (keys $epp.pluginsCustomConfig | sortAlpha | join ", " | default "there are none")) -}}
{{- end -}}
{{- if and $epp.parser (or (ne $epp.pluginsConfigFile "default-plugins.yaml") (hasKey $epp.pluginsCustomConfig "default-plugins.yaml")) -}}
{{- fail "inferenceExtension.parser is for the default configuration: write parser into the file of yours" -}}
{{- end -}}
{{- if (dig "latencyPredictor" "enabled" false $epp) -}}
{{- fail "inferenceExtension.latencyPredictor is not needed: the default policy, and latency-cost, learn latencies in the picker itself" -}}
{{- end -}}
{{- if (dig "sidecar" "enabled" false $epp) -}}
{{- fail "inferenceExtension.sidecar: for an Envoy of the picker's say proxy.enabled, for other containers inferenceExtension.extraContainers" -}}
{{- end -}}
{{- with $epp.autoscaling -}}
{{- if and .keda.enabled .externalMetrics.enabled -}}
{{- fail "inferenceExtension.autoscaling: keda and externalMetrics are both enabled: with KEDA in the cluster, KEDA is who serves external.metrics.k8s.io, and a cluster has one" -}}
{{- end -}}
{{- if and .keda.deployment (not .keda.enabled) -}}
{{- fail "inferenceExtension.autoscaling.keda.deployment is of a ScaledObject that asks the picker: want keda.enabled: true with it" -}}
{{- end -}}
{{- if and .keda.deployment $epp.namespaces -}}
{{- fail "inferenceExtension.autoscaling.keda.deployment is for the pool of this release, and namespaces serves many: make their ScaledObjects beside them" -}}
{{- end -}}
{{- end -}}
{{- if and (eq .Values.provider.name "gke") (not (include "inferpick.hasPool" .)) -}}
{{- fail "provider.name gke has policies for an InferencePool, and there is none" -}}
{{- end -}}
{{- end -}}
