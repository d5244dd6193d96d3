{{- /*
What Belay may deliver. Each verb has a use: "list" and "watch" to observe (as
metadata, but for kinds whose status tells their health), "patch" to apply, "create"
because an apply may create, "delete" to prune, and "get" to look again when somebody
changed an object in the same moment, and for "belay plan".

Left out on purpose: Roles and their bindings, with which whoever may commit could
give rights away; CustomResourceDefinitions; deleting namespaces; webhooks.
*/ -}}
{{- define "belay.deliver" -}}
{{- if .Values.rbac.workloads }}
{{- $all := list "get" "list" "watch" "create" "patch" "delete" | toJson }}
- apiGroups: [""]
  resources: [configmaps, secrets, services, serviceaccounts, persistentvolumeclaims{{ if eq .Values.scope "cluster" }}, resourcequotas, limitranges{{ end }}]
  verbs: {{ $all }}
- apiGroups: [apps]
  resources: [deployments, statefulsets, daemonsets]
  verbs: {{ $all }}
- apiGroups: [batch]
  resources: [jobs, cronjobs]
  verbs: {{ $all }}
- apiGroups: [networking.k8s.io]
  resources: [ingresses, networkpolicies]
  verbs: {{ $all }}
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: {{ $all }}
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: {{ $all }}
{{- if eq .Values.scope "cluster" }}
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get, list, watch, create, patch]
{{- end }}
{{- end }}
{{- with .Values.rbac.extraRules }}
{{ toYaml . }}
{{- end }}
# An Event where drift was undone or an object was refused.
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end }}
