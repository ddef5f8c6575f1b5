{{- define "reprise.name" -}}
{{- if contains "reprise" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-reprise" (.Release.Name | trunc 42 | trimSuffix "-") }}{{ end }}
{{- end }}

{{- define "reprise.selector" -}}
app.kubernetes.io/name: reprise
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "reprise.labels" -}}
app.kubernetes.io/name: reprise
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "reprise.image" -}}
{{- with .Values.image }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}{{ end }}
{{- end }}

{{- define "reprise.mover" -}}
reprise-mover
{{- end }}

{{- define "reprise.dump-mover" -}}
reprise-dump-mover
{{- end }}

{{/* What a mover may do that makes or loads a dump: find a pod, and run the declared command in it. */}}
{{- define "reprise.dump-mover.rules" -}}
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
# Over a WebSocket, to run a command is a `get`; newer API servers ask for `create` beside it.
- apiGroups: [""]
  resources: [pods/exec]
  verbs: [get, create]
{{- end }}

{{/* What may be done in protected namespaces: the rules of a ClusterRole, or of a Role in each of them. */}}
{{- define "reprise.protected.rules" -}}
# Reading: a recovery point holds whatever objects the application consists of, and nobody lists their kinds beforehand.
# What cannot be read is missing from the point, and said there.
- apiGroups: ["*"]
  resources: ["*"]
  verbs: [get, list]
# Hooks run commands in pods.
- apiGroups: [""]
  resources: [pods/exec]
  verbs: [get, create]
# Writing: a restore makes again what the point holds, in place of what stands there. The kinds are as open as for reading.
{{- if has "*" .Values.restore.apiGroups }}
- apiGroups: ["*"]
  resources: ["*"]
  verbs: [create, patch, delete]
{{- else }}
- apiGroups: [""]
  resources:
    - configmaps
    - endpoints
    - limitranges
    - persistentvolumeclaims
    - pods
    - podtemplates
    - replicationcontrollers
    - resourcequotas
    - secrets
    - serviceaccounts
    - services
  verbs: [create, patch, delete]
- apiGroups: [apps]
  resources: [controllerrevisions, daemonsets, deployments, replicasets, statefulsets]
  verbs: [create, patch, delete]
- apiGroups: [batch]
  resources: [cronjobs, jobs]
  verbs: [create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [ingresses, networkpolicies]
  verbs: [create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [create, patch, delete]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [create, patch, delete]
# What a Role grants is bounded by what the operator itself may do, unless restore.escalate is set; which come back, restore.allow.roles says.
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [create, patch, delete]
{{- with .Values.restore.apiGroups }}
- apiGroups: {{ toJson . }}
  resources: ["*"]
  verbs: [create, patch, delete]
{{- end }}
{{- end }}
{{- if .Values.restore.escalate }}
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles]
  verbs: [escalate, bind]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [clusterroles]
  verbs: [bind]
{{- end }}
{{- end }}
