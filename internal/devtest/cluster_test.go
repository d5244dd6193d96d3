package devtest_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/belaydev/belay/internal/devtest"
)

func client(t *testing.T, cp *devtest.ControlPlane) kubernetes.Interface {
	t.Helper()
	c, err := kubernetes.NewForConfig(cp.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// template is a pod template; its pods do what the annotation says.
func template(does, image string, restart corev1.RestartPolicy) corev1.PodTemplateSpec {
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "a"}},
		Spec: corev1.PodSpec{
			RestartPolicy: restart,
			Containers:    []corev1.Container{{Name: "a", Image: image}},
		},
	}
	if does != "" {
		template.Annotations = map[string]string{"devcluster.belay.dev/pod": does}
	}
	return template
}

func deployment(name, does, image string) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}},
			Template: template(does, image, corev1.RestartPolicyAlways),
		},
	}
}

func job(name, does string) *batchv1.Job {
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       batchv1.JobSpec{BackoffLimit: new(int32), Template: template(does, "a:1", corev1.RestartPolicyNever)},
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	version, err := client(t, devtest.Cluster(t)).Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if version.GitVersion != "v1.36.2" || version.Major != "1" || version.Minor != "36" {
		t.Errorf("version %+v, want v1.36.2", version)
	}
}

func TestDeploymentBecomesAvailable(t *testing.T) {
	t.Parallel()
	cp := devtest.Cluster(t)
	ns, c := cp.Namespace(t), client(t, cp)
	deployments := c.AppsV1().Deployments(ns)
	if _, err := deployments.Create(t.Context(), deployment("d", "", "a:1"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	devtest.Await(t, "the Deployment", func() error {
		d, err := deployments.Get(t.Context(), "d", metav1.GetOptions{})
		if err != nil || d.Status.AvailableReplicas == 1 {
			return err
		}
		return fmt.Errorf("status %+v", d.Status)
	})

	// A pod is replaced, and all goes when its owner goes.
	pods := c.CoreV1().Pods(ns)
	list, err := pods.List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("%d pods, %v", len(list.Items), err)
	}
	old := list.Items[0].Name
	if err := pods.Delete(t.Context(), old, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	devtest.Await(t, "another pod", func() error {
		list, err := pods.List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, pod := range list.Items {
			if pod.Name != old && pod.Status.Phase == corev1.PodRunning {
				return nil
			}
		}
		return fmt.Errorf("%d pods, no other running", len(list.Items))
	})
	if err := deployments.Delete(t.Context(), "d", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	devtest.Await(t, "the pods to be collected", func() error {
		list, err := pods.List(t.Context(), metav1.ListOptions{})
		if err == nil && len(list.Items) > 0 {
			return fmt.Errorf("%d pods", len(list.Items))
		}
		return err
	})
}

func TestPodsThatDoNotRun(t *testing.T) {
	t.Parallel()
	cp := devtest.Cluster(t)
	ns, c := cp.Namespace(t), client(t, cp)
	for _, test := range []struct{ name, does, image, want string }{
		{"broken-image", "", "a:broken", "Pending ImagePullBackOff"},
		{"image", "image", "a:1", "Pending ImagePullBackOff"},
		{"crash", "crash", "a:1", "Running CrashLoopBackOff"},
		{"unready", "unready", "a:1", "Running false"},
		{"fine", "", "a:1", "Running true"},
		{"pending", "pending", "a:1", "Pending -"},
	} {
		template := template(test.does, test.image, corev1.RestartPolicyAlways)
		pods := c.CoreV1().Pods(ns)
		_, err := pods.Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: test.name, Annotations: template.Annotations},
			Spec:       template.Spec,
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		devtest.Await(t, test.name, func() error {
			pod, err := pods.Get(t.Context(), test.name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if got := describe(pod); got != test.want {
				return fmt.Errorf("pod is %q, want %q", got, test.want)
			}
			return nil
		})
	}
}

func describe(pod *corev1.Pod) string {
	state := "-"
	for _, s := range pod.Status.ContainerStatuses {
		state = fmt.Sprint(s.Ready)
		if s.State.Waiting != nil {
			state = s.State.Waiting.Reason
		}
	}
	if pod.Spec.NodeName == "" {
		state = "unscheduled"
	}
	return string(pod.Status.Phase) + " " + state
}

func TestJobs(t *testing.T) {
	t.Parallel()
	cp := devtest.Cluster(t)
	jobs := client(t, cp).BatchV1().Jobs(cp.Namespace(t))
	for does, want := range map[string]batchv1.JobConditionType{"": batchv1.JobComplete, "fail": batchv1.JobFailed} {
		name := "job-" + string(rune('a'+len(does)))
		if _, err := jobs.Create(t.Context(), job(name, does), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		devtest.Await(t, "the Job "+string(want), func() error {
			j, err := jobs.Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			for _, c := range j.Status.Conditions {
				if c.Type == want && c.Status == corev1.ConditionTrue {
					return nil
				}
			}
			return fmt.Errorf("status %+v", j.Status)
		})
	}
}

func TestVolumesAndLoadBalancers(t *testing.T) {
	t.Parallel()
	cp := devtest.Cluster(t)
	ns, c := cp.Namespace(t), client(t, cp)
	claims := c.CoreV1().PersistentVolumeClaims(ns)
	_, err := claims.Create(t.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data"},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse("1Gi")}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var volume string
	devtest.Await(t, "the claim to be bound", func() error {
		claim, err := claims.Get(t.Context(), "data", metav1.GetOptions{})
		if err == nil && claim.Status.Phase != corev1.ClaimBound {
			err = fmt.Errorf("phase %s", claim.Status.Phase)
		}
		volume = claim.Spec.VolumeName
		return err
	})
	if err := claims.Delete(t.Context(), "data", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	devtest.Await(t, "the volume to be deleted", func() error {
		_, err := c.CoreV1().PersistentVolumes().Get(t.Context(), volume, metav1.GetOptions{})
		return wantNotFound(err)
	})

	services := c.CoreV1().Services(ns)
	_, err = services.Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "lb"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	devtest.Await(t, "the load balancer's address", func() error {
		s, err := services.Get(t.Context(), "lb", metav1.GetOptions{})
		if err == nil && len(s.Status.LoadBalancer.Ingress) == 0 {
			err = errors.New("none")
		}
		return err
	})
}

func wantNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("still there (%w)", err)
}

func TestNamespaceIsDeleted(t *testing.T) {
	t.Parallel()
	cp := devtest.Cluster(t)
	ns, c := cp.Namespace(t), client(t, cp)
	if _, err := c.AppsV1().Deployments(ns).Create(t.Context(), deployment("d", "", "a:1"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.CoreV1().Namespaces().Delete(t.Context(), ns, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	devtest.Await(t, "the namespace to go", func() error {
		_, err := c.CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
		return wantNotFound(err)
	})
}

func TestServiceAccountTokenAndRBAC(t *testing.T) {
	t.Parallel()
	cp := devtest.Cluster(t)
	ns, c := cp.Namespace(t), client(t, cp)
	token, err := c.CoreV1().ServiceAccounts(ns).CreateToken(t.Context(), "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config := rest.AnonymousClientConfig(cp.RESTConfig())
	config.BearerToken = token.Status.Token
	account, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	_, err = account.CoreV1().Secrets(ns).List(t.Context(), metav1.ListOptions{})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "system:serviceaccount:"+ns+":default") {
		t.Fatalf("list Secrets: %v, want it forbidden to the service account", err)
	}
	_, err = c.RbacV1().RoleBindings(ns).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "b"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "edit"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Name: "default", Namespace: ns}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	devtest.Await(t, "the binding to take effect", func() error {
		_, err := account.CoreV1().Secrets(ns).List(t.Context(), metav1.ListOptions{})
		return err
	})
	_, err = account.CoreV1().Secrets("kube-system").List(t.Context(), metav1.ListOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("list Secrets of another namespace: %v, want it forbidden", err)
	}
}

func TestCustomResources(t *testing.T) {
	t.Parallel()
	cp := devtest.Cluster(t)
	ns := cp.Namespace(t)
	c, err := dynamic.NewForConfig(cp.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	group := ns + ".example.com"
	crds := c.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	_, err = crds.Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1",
		"kind":       "CustomResourceDefinition",
		"metadata":   map[string]any{"name": "widgets." + group},
		"spec": map[string]any{
			"group": group,
			"scope": "Namespaced",
			"names": map[string]any{"kind": "Widget", "plural": "widgets"},
			"versions": []any{map[string]any{
				"name": "v1", "served": true, "storage": true,
				"schema": map[string]any{"openAPIV3Schema": map[string]any{
					"type":       "object",
					"properties": map[string]any{"spec": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
				}},
			}},
		},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// t.Context has ended by now.
		if err := crds.Delete(contextOf(t), "widgets."+group, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	widgets := c.Resource(schema.GroupVersionResource{Group: group, Version: "v1", Resource: "widgets"}).Namespace(ns)
	devtest.Await(t, "the custom resource to be served", func() error {
		_, err := widgets.Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": group + "/v1", "kind": "Widget",
			"metadata": map[string]any{"name": "w"}, "spec": map[string]any{"size": int64(3)},
		}}, metav1.CreateOptions{})
		return err
	})
	w, err := widgets.Get(t.Context(), "w", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if size, _, _ := unstructured.NestedInt64(w.Object, "spec", "size"); size != 3 {
		t.Errorf("size %d, want 3", size)
	}
}
