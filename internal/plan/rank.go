package plan

import "github.com/belaydev/belay"

const crdGroup = "apiextensions.k8s.io"

// The ranks, in order. Few on purpose: objects of a rank are written in parallel.
const (
	rankNamespace = iota // where things live
	rankCRD              // what kinds there are; later ranks wait until they are served
	rankAccess           // who may do what, and within which bounds
	rankConfig           // what workloads read when they start
	rankNetwork          // how they are found
	rankWorkload         // what runs
	rankCustom           // custom resources, whose controllers may be among the workloads
	rankAdmission        // webhooks and aggregated APIs, which need their workloads first
)

var ranks = map[belay.Kind]int{
	{Kind: "Namespace"}: rankNamespace,
	{Group: crdGroup, Kind: "CustomResourceDefinition"}: rankCRD,

	{Group: "scheduling.k8s.io", Kind: "PriorityClass"}:                         rankAccess,
	{Group: "storage.k8s.io", Kind: "StorageClass"}:                             rankAccess,
	{Group: "storage.k8s.io", Kind: "CSIDriver"}:                                rankAccess,
	{Group: "node.k8s.io", Kind: "RuntimeClass"}:                                rankAccess,
	{Group: "networking.k8s.io", Kind: "IngressClass"}:                          rankAccess,
	{Group: "networking.k8s.io", Kind: "NetworkPolicy"}:                         rankAccess,
	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRole"}:                   rankAccess,
	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRoleBinding"}:            rankAccess,
	{Group: "rbac.authorization.k8s.io", Kind: "Role"}:                          rankAccess,
	{Group: "rbac.authorization.k8s.io", Kind: "RoleBinding"}:                   rankAccess,
	{Group: "storage.k8s.io", Kind: "VolumeAttributesClass"}:                    rankAccess,
	{Group: "resource.k8s.io", Kind: "DeviceClass"}:                             rankAccess,
	{Group: "flowcontrol.apiserver.k8s.io", Kind: "FlowSchema"}:                 rankAccess,
	{Group: "flowcontrol.apiserver.k8s.io", Kind: "PriorityLevelConfiguration"}: rankAccess,
	{Kind: "ServiceAccount"}:                                                    rankAccess,
	{Kind: "ResourceQuota"}:                                                     rankAccess,
	{Kind: "LimitRange"}:                                                        rankAccess,

	{Kind: "ConfigMap"}:                                       rankConfig,
	{Kind: "Secret"}:                                          rankConfig,
	{Kind: "PersistentVolume"}:                                rankConfig,
	{Kind: "PersistentVolumeClaim"}:                           rankConfig,
	{Kind: "PodTemplate"}:                                     rankConfig,
	{Group: "resource.k8s.io", Kind: "ResourceClaim"}:         rankConfig,
	{Group: "resource.k8s.io", Kind: "ResourceClaimTemplate"}: rankConfig,

	{Kind: "Service"}:   rankNetwork,
	{Kind: "Endpoints"}: rankNetwork,
	{Group: "discovery.k8s.io", Kind: "EndpointSlice"}: rankNetwork,

	{Kind: "Pod"}:                                           rankWorkload,
	{Kind: "ReplicationController"}:                         rankWorkload,
	{Group: "apps", Kind: "Deployment"}:                     rankWorkload,
	{Group: "apps", Kind: "StatefulSet"}:                    rankWorkload,
	{Group: "apps", Kind: "DaemonSet"}:                      rankWorkload,
	{Group: "apps", Kind: "ReplicaSet"}:                     rankWorkload,
	{Group: "batch", Kind: "Job"}:                           rankWorkload,
	{Group: "batch", Kind: "CronJob"}:                       rankWorkload,
	{Group: "policy", Kind: "PodDisruptionBudget"}:          rankWorkload,
	{Group: "networking.k8s.io", Kind: "Ingress"}:           rankWorkload,
	{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"}: rankWorkload,

	{Group: "apiregistration.k8s.io", Kind: "APIService"}:                             rankAdmission,
	{Group: "admissionregistration.k8s.io", Kind: "MutatingWebhookConfiguration"}:     rankAdmission,
	{Group: "admissionregistration.k8s.io", Kind: "ValidatingWebhookConfiguration"}:   rankAdmission,
	{Group: "admissionregistration.k8s.io", Kind: "MutatingAdmissionPolicy"}:          rankAdmission,
	{Group: "admissionregistration.k8s.io", Kind: "MutatingAdmissionPolicyBinding"}:   rankAdmission,
	{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicy"}:        rankAdmission,
	{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicyBinding"}: rankAdmission,
}

func rank(id belay.ObjectID) int {
	if r, ok := ranks[id.GroupKind()]; ok {
		return r
	}
	return rankCustom
}
