{{/* Name of the application, at most 63 characters (it is the value of a label). */}}
{{- define "rayservice-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Name of the release's objects: the release's own name when it says what this is. */}}
{{- define "rayservice-operator.fullname" -}}
{{- $name := include "rayservice-operator.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "rayservice-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "rayservice-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "rayservice-operator.labels" -}}
{{ include "rayservice-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "rayservice-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "rayservice-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* "true" when more than one pod could work at the same time. */}}
{{- define "rayservice-operator.leaderElect" -}}
{{- if gt (int .Values.replicas) 1 }}true{{ else }}false{{ end }}
{{- end }}

{{/* "true" when the admission webhook is on. */}}
{{- define "rayservice-operator.admission" -}}
{{- if eq (toString .Values.admission.enabled) "auto" }}{{ empty .Values.watchNamespaces }}{{ else }}{{ .Values.admission.enabled }}{{ end }}
{{- end }}

{{/* Name of the webhook's Service and of what belongs to it. */}}
{{- define "rayservice-operator.admissionName" -}}
{{- printf "%s-admission" (include "rayservice-operator.fullname" . | trunc 53 | trimSuffix "-") }}
{{- end }}

{{/* Name of the webhook's configuration, of which there is one in the cluster for each release. */}}
{{- define "rayservice-operator.admissionConfigurationName" -}}
{{- printf "%s-%s" (include "rayservice-operator.admissionName" .) .Release.Namespace }}
{{- end }}

{{/* Name of the Secret with the webhook's certificate. */}}
{{- define "rayservice-operator.admissionSecretName" -}}
{{- $certificates := .Values.admission.certificates }}
{{- if eq $certificates.mode "existing" }}
{{- required "admission.certificates.existing.secretName: name the Secret with the webhook's certificate" $certificates.existing.secretName }}
{{- else }}
{{- include "rayservice-operator.admissionName" . }}-tls
{{- end }}
{{- end }}

{{/* What the operator may do in a namespace that it looks after. */}}
{{- define "rayservice-operator.rules" -}}
# The users' own object is only read: what the operator has to say goes to its status.
- apiGroups: [ray.io]
  resources: [rayservices]
  verbs: [get, list, watch]
- apiGroups: [ray.io]
  resources: [rayclusters]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [ray.io]
  resources: [rayservices/status, rayclusters/status]
  verbs: [get, patch]
# Owner references that block deletion ask for this where OwnerReferencesPermissionEnforcement is on.
- apiGroups: [ray.io]
  resources: [rayservices/finalizers, rayclusters/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [pods, services, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
# Granted to each cluster's autoscaler, so the operator has to have it as well (as pods and rayclusters above).
- apiGroups: [""]
  resources: [pods/resize]
  verbs: [patch]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, list, watch, create, patch, delete]
# A token of a cluster is made once and read by name; no Secret is ever listed.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch]
# For upgrades in steps through a gateway.
- apiGroups: [gateway.networking.k8s.io]
  resources: [gateways, httproutes]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
- apiGroups: ["", events.k8s.io]
  resources: [events]
  verbs: [get, create, patch]
{{- if .Values.capacityCheck.enabled }}
# What an upgrade may still take of the namespace.
- apiGroups: [""]
  resources: [resourcequotas]
  verbs: [list]
{{- end }}
{{- end }}

{{/* What is needed to see how much room nodes have. Without it the operator says that it cannot see. */}}
{{- define "rayservice-operator.capacityRules" -}}
- apiGroups: [""]
  resources: [nodes, pods]
  verbs: [list]
# Only whether it is there: then nodes may be added.
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: [cluster-autoscaler-status]
  verbs: [get]
{{- end }}
