{{- define "belay.name" -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "belay.serviceAccount" -}}
{{ default (include "belay.name" .) .Values.serviceAccount.name }}
{{- end }}

{{- define "belay.selector" -}}
app.kubernetes.io/name: belay
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "belay.labels" -}}
{{ include "belay.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "belay.image" -}}
{{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ default .Chart.AppVersion .Values.image.tag }}{{ end }}
{{- end }}

{{- /* The namespaces that are delivered to, as JSON. */ -}}
{{- define "belay.namespaces" -}}
{{ default (list .Release.Namespace) .Values.namespaces | toJson }}
{{- end }}

{{- define "belay.instance" -}}
{{ default (ternary .Release.Namespace "" (eq .Values.scope "namespaces")) .Values.instance }}
{{- end }}
