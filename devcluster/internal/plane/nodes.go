package plane

import (
	"context"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"os"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/kwok/pkg/apis/internalversion"
	kwokconfig "sigs.k8s.io/kwok/pkg/config"
	kwok "sigs.k8s.io/kwok/pkg/kwok/controllers"
	kwoklog "sigs.k8s.io/kwok/pkg/log"
	kwokclient "sigs.k8s.io/kwok/pkg/utils/client"
)

// stageFiles tell kwok how the things live that on a real cluster somebody
// outside the control plane brings to life: nodes, pods, volumes and load
// balancers. One stage a file.
//
//go:embed stages/*.yaml
var stageFiles embed.FS

// startKwok makes the nodes and the default storage class, and starts the
// controller that plays their kubelets and provisioners.
func (p *Plane) startKwok(k *keys, nodes int) error {
	stages, err := loadStages()
	if err != nil {
		return fmt.Errorf("kwok: %w", err)
	}
	clients, err := kwokclient.NewClientset("", k.kwok)
	if err != nil {
		return fmt.Errorf("kwok: %w", err)
	}
	config, err := kwokConfig(clients, stages)
	if err != nil {
		return fmt.Errorf("kwok: %w", err)
	}
	controller, err := kwok.NewController(config)
	if err != nil {
		return fmt.Errorf("kwok: %w", err)
	}
	typed := config.TypedClient
	p.run("kwok", controllerGrace, func(ctx context.Context) error {
		ctx = kwoklog.NewContext(ctx, kwoklog.NewLogger(io.Writer(os.Stderr), kwoklog.LevelWarn))
		if err := makeStorageClass(ctx, typed); err != nil {
			return err
		}
		for i := range nodes {
			if err := makeNode(ctx, typed, i); err != nil {
				return err
			}
		}
		if err := controller.Start(ctx); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	})
	return nil
}

func loadStages() (map[internalversion.StageResourceRef][]*internalversion.Stage, error) {
	stages := map[internalversion.StageResourceRef][]*internalversion.Stage{}
	names, err := fs.Glob(stageFiles, "stages/*.yaml")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		data, err := stageFiles.ReadFile(name)
		if err != nil {
			return nil, err
		}
		stage, err := kwokconfig.UnmarshalWithType[*internalversion.Stage](data)
		if err != nil {
			return nil, fmt.Errorf("read %q: %w", name, err)
		}
		stages[stage.Spec.ResourceRef] = append(stages[stage.Spec.ResourceRef], stage)
	}
	return stages, nil
}

func kwokConfig(clients kwokclient.Clientset, stages map[internalversion.StageResourceRef][]*internalversion.Stage) (kwok.Config, error) {
	restConfig, err := clients.ToRESTConfig()
	if err != nil {
		return kwok.Config{}, err
	}
	restConfig.UserAgent = "kwok"
	dynamicClient, err := clients.ToDynamicClient()
	if err != nil {
		return kwok.Config{}, err
	}
	mapper, err := clients.ToRESTMapper()
	if err != nil {
		return kwok.Config{}, err
	}
	restClient, err := rest.RESTClientFor(restConfig)
	if err != nil {
		return kwok.Config{}, err
	}
	typed, err := kubernetes.NewForConfig(restConfig)
	if err != nil {
		return kwok.Config{}, err
	}
	return kwok.Config{
		Clock:                      clock.RealClock{},
		DynamicClient:              dynamicClient,
		RESTClient:                 restClient,
		RESTMapper:                 mapper,
		ImpersonatingDynamicClient: clients.ToImpersonatingDynamicClient(),
		ImpersonatingTypedClient:   clients.ToImpersonatingTypedClient(),
		TypedClient:                typed,
		ManageAllNodes:             true,
		CIDR:                       "10.244.0.0/16",
		NodeIP:                     "10.128.0.1",
		LocalStages:                stages,
		PodPlayStageParallelism:    8,
		NodePlayStageParallelism:   2,
		PodsOnNodeSyncParallelism:  2,
		// No leases: nothing else would take a node over, and they would be
		// renewed for ever in a cluster at rest.
		NodeLeaseDurationSeconds: 0,
		ID:                       "devcluster",
	}, nil
}

func makeNode(ctx context.Context, client kubernetes.Interface, i int) error {
	name := fmt.Sprintf("node-%d", i)
	_, err := client.CoreV1().Nodes().Create(ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name,
			Labels: map[string]string{
				"kubernetes.io/arch":          "amd64",
				"kubernetes.io/hostname":      name,
				"kubernetes.io/os":            "linux",
				"topology.kubernetes.io/zone": fmt.Sprintf("zone-%d", i%3),
			},
			Annotations: map[string]string{"kwok.x-k8s.io/node": "fake"},
		},
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func makeStorageClass(ctx context.Context, client kubernetes.Interface) error {
	_, err := client.StorageV1().StorageClasses().Create(ctx, &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{
			Name:        "standard",
			Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"},
		},
		Provisioner: "devcluster.belay.dev/volume",
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// awaitUsable waits until a pod could be created and would run.
func (p *Plane) awaitUsable(ctx context.Context, k *keys, nodes int) error {
	client, err := kubernetes.NewForConfig(k.admin)
	if err != nil {
		return err
	}
	err = p.poll(ctx, "service accounts", func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	if err != nil {
		return err
	}
	return p.poll(ctx, "nodes", func(ctx context.Context) error {
		list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		ready := 0
		for i := range list.Items {
			if usable(&list.Items[i]) {
				ready++
			}
		}
		if ready < nodes {
			return fmt.Errorf("%d of %d nodes are ready", ready, nodes)
		}
		return nil
	})
}

func usable(node *corev1.Node) bool {
	if len(node.Spec.Taints) > 0 {
		return false
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
