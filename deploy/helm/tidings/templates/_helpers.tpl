{{- define "tidings.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "tidings.selector" -}}
app.kubernetes.io/name: tidings
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tidings.labels" -}}
{{ include "tidings.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* The names under which the API is reached; a request with another Host is refused. */}}
{{- define "tidings.hosts" -}}
{{- $name := include "tidings.name" . -}}
{{- $in := printf "%s.%s" $name .Release.Namespace -}}
{{- list $name $in (printf "%s.svc" $in) (printf "%s.svc.cluster.local" $in) | toJson -}}
{{- end -}}
