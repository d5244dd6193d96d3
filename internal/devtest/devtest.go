// Package devtest gives tests a real Kubernetes API server, with controllers
// and fake nodes behind it: the control plane that the devcluster module
// builds. It is for tests only, of any package; it must not know what is tested
// with it, so it imports nothing of this module.
//
// Tests share one control plane and keep apart by namespace:
//
//	cp := devtest.Cluster(t)
//	ns := cp.Namespace(t)
//	client := kubernetes.NewForConfigOrDie(cp.RESTConfig())
//
// Under "devcluster run -- go test ./..." (as "make test" does it) all packages
// share one; else each test process starts its own at the first use.
package devtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Environment variables by which "devcluster run" tells of its control plane.
const (
	envKubeconfig = "BELAY_TEST_KUBECONFIG"
	envAuditLog   = "BELAY_TEST_AUDIT_LOG"
)

// ControlPlane is a running control plane, shared or dedicated. Its methods may
// be called from several goroutines, except those that start or end it.
type ControlPlane struct {
	kubeconfig string
	auditLog   string   // "" if there is none
	process    *process // nil if somebody else's, or stopped
	dedicated  *Options // nil if shared
	dir        string   // of a dedicated one
}

var shared = sync.OnceValues(startShared)

// Cluster returns the control plane that the process's tests share. It fails
// the test if there is none and none can be started.
func Cluster(t testing.TB) *ControlPlane {
	t.Helper()
	cp, err := shared()
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	return cp
}

func startShared() (*ControlPlane, error) {
	if kubeconfig := os.Getenv(envKubeconfig); kubeconfig != "" {
		return &ControlPlane{kubeconfig: kubeconfig, auditLog: os.Getenv(envAuditLog)}, nil
	}
	// In a temporary directory of its own, which it removes when it ends.
	p, err := startProcess("--audit")
	if err != nil {
		return nil, err
	}
	return &ControlPlane{
		kubeconfig: p.kubeconfig,
		auditLog:   filepath.Join(filepath.Dir(p.kubeconfig), "audit.log"),
		process:    p,
	}, nil
}

// Options are for a control plane of one's own.
type Options struct {
	// Nodes is the number of fake nodes. Zero means one.
	Nodes int
}

// Dedicated starts a control plane for this test alone, which it may stop,
// kill and start again. It takes some seconds and 400 MB, so use [Cluster]
// where that does. It ends with the test.
func Dedicated(t testing.TB, opts Options) *ControlPlane {
	t.Helper()
	opts.Nodes = max(opts.Nodes, 1)
	dir := t.TempDir()
	cp := &ControlPlane{
		kubeconfig: filepath.Join(dir, "kubeconfig"),
		auditLog:   filepath.Join(dir, "audit.log"),
		dedicated:  &opts,
		dir:        dir,
	}
	t.Cleanup(func() { cp.end(t, (*process).stop) })
	cp.Start(t)
	return cp
}

// Start starts a dedicated control plane again, with its data, at the same
// address, and waits until it is ready.
func (c *ControlPlane) Start(t testing.TB) {
	t.Helper()
	c.mustBeDedicated(t)
	if c.process != nil {
		t.Fatal("devtest: the control plane is running")
	}
	p, err := startProcess("--audit", "--dir", c.dir, "--nodes", fmt.Sprint(c.dedicated.Nodes))
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	c.process = p
}

// Stop ends a dedicated control plane as a person would, and waits for it.
// Stopping a stopped one does nothing.
func (c *ControlPlane) Stop(t testing.TB) {
	t.Helper()
	c.mustBeDedicated(t)
	c.end(t, (*process).stop)
}

// Kill ends a dedicated control plane without a warning, and waits for it.
func (c *ControlPlane) Kill(t testing.TB) {
	t.Helper()
	c.mustBeDedicated(t)
	c.end(t, (*process).kill)
}

// Lose kills a dedicated control plane, takes all that it knows from it, and starts
// it again: another cluster at the same address, with the same authority and
// credentials.
func (c *ControlPlane) Lose(t testing.TB) {
	t.Helper()
	c.Kill(t)
	if err := os.RemoveAll(filepath.Join(c.dir, "etcd")); err != nil {
		t.Fatalf("devtest: %v", err)
	}
	c.Start(t)
}

// Save stops a dedicated control plane, keeps a copy of all that it knows, and starts
// it again.
func (c *ControlPlane) Save(t testing.TB) (backup string) {
	t.Helper()
	backup = filepath.Join(t.TempDir(), "etcd")
	c.Stop(t)
	if err := os.CopyFS(backup, os.DirFS(filepath.Join(c.dir, "etcd"))); err != nil {
		t.Fatalf("devtest: %v", err)
	}
	c.Start(t)
	return backup
}

// Restore has a dedicated control plane go back to what it knew when it was saved.
func (c *ControlPlane) Restore(t testing.TB, backup string) {
	t.Helper()
	c.Kill(t)
	etcd := filepath.Join(c.dir, "etcd")
	if err := errors.Join(os.RemoveAll(etcd), os.CopyFS(etcd, os.DirFS(backup))); err != nil {
		t.Fatalf("devtest: %v", err)
	}
	c.Start(t)
}

func (c *ControlPlane) end(t testing.TB, how func(*process) error) {
	t.Helper()
	p := c.process
	c.process = nil
	if p == nil {
		return
	}
	if err := how(p); err != nil {
		t.Errorf("devtest: %v", err)
	}
}

func (c *ControlPlane) mustBeDedicated(t testing.TB) {
	t.Helper()
	if c.dedicated == nil {
		t.Fatal("devtest: other tests use this control plane too: use devtest.Dedicated to start and stop one")
	}
}

// Kubeconfig is the path of a kubeconfig with an administrator's credentials.
func (c *ControlPlane) Kubeconfig() string { return c.kubeconfig }

// RESTConfig returns a new client configuration for an administrator, without
// a limit to requests. Set its UserAgent to count a client's requests.
func (c *ControlPlane) RESTConfig() *rest.Config {
	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		panic(fmt.Sprintf("devtest: read %q: %v", c.kubeconfig, err)) // written by devcluster itself
	}
	config.QPS = -1
	config.WarningHandler = rest.NoWarnings{}
	return config
}

// Namespace makes a namespace for the test and returns its name, which carries
// the test's. It is ready to run pods in. At the end of the test its deletion
// is begun, and not waited for.
func (c *ControlPlane) Namespace(t testing.TB) string {
	t.Helper()
	client, err := kubernetes.NewForConfig(c.ownConfig())
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	name := namespaceName(t.Name())
	namespaces := client.CoreV1().Namespaces()
	if _, err := namespaces.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatalf("devtest: make a namespace: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		err := namespaces.Delete(ctx, name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) && (c.dedicated == nil || c.process != nil) {
			t.Errorf("devtest: delete the namespace: %v", err)
		}
	})
	Await(t, "the namespace's default service account", func() error {
		_, err := client.CoreV1().ServiceAccounts(name).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
	return name
}

// ownConfig is for this package's own requests, which nobody should count.
func (c *ControlPlane) ownConfig() *rest.Config {
	config := c.RESTConfig()
	config.UserAgent = "devtest"
	return config
}

var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// namespaceName makes a unique name of at most 63 characters.
func namespaceName(test string) string {
	name := notInName.ReplaceAllString(strings.ToLower(strings.TrimPrefix(test, "Test")), "-")
	if len(name) > 48 {
		name = name[:48]
	}
	return strings.TrimLeft(strings.Trim(name, "-")+"-"+strings.ToLower(rand.Text()[:8]), "-")
}

// Patience is how long a test waits for what has to come. Only a test that is
// about to fail waits for all of it, so it is far longer than anything takes,
// on the busiest of machines and under the race detector.
const Patience = 3 * time.Minute

// Await calls condition until it returns nil, at first often, and fails the
// test with the condition's last error if that takes longer than Patience.
// It must be called from the test's own goroutine. The description completes
// the sentence "waiting for …".
func Await(t testing.TB, description string, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	pause := 5 * time.Millisecond
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waiting for %s: not after %v: %v", description, Patience, err)
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("waiting for %s: %v", description, errors.Join(t.Context().Err(), err))
		case <-time.After(pause):
			pause = min(pause*3/2, 200*time.Millisecond)
		}
	}
}
