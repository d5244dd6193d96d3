package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/gittest"
)

// standIn starts a server that takes part in an election, with a data directory of
// its own.
func (w *world) standIn(name string, args ...string) *serveProcess {
	w.t.Helper()
	return w.serve(append([]string{"--leader-elect", "--lease-namespace", w.home, "--data", filepath.Join(w.t.TempDir(), name)}, args...)...)
}

// logged waits for a line of the log, and returns it.
func (s *serveProcess) logged(msg string) (line map[string]any) {
	s.w.t.Helper()
	devtest.Await(s.w.t, "the log to say "+msg, func() error {
		for _, l := range s.log.lines() {
			if l["msg"] == msg {
				line = l
				return nil
			}
		}
		return errors.New("it does not")
	})
	return line
}

// holder is who the lease says leads.
func (w *world) holder() string {
	w.t.Helper()
	l, err := w.kube.CoordinationV1().Leases(w.home).Get(w.t.Context(), "belay-"+w.instance, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	if l.Spec.HolderIdentity == nil {
		return ""
	}
	return *l.Spec.HolderIdentity
}

// Of two servers one works. The other takes over when it is killed, and at once
// when it ends in order; what is right is not written again.
func TestLeaderDies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit("One application", map[string]string{"belay/a.yaml": application("a", "apps/a", "NS-a"),
		"apps/a/a.yaml": documents(configMap("a", "1"), configMap("b", "1"))})
	first := w.standIn("first", "--lease-duration", "60s") // which a slow disk does not cost it
	first.awaitSynced("a")
	second := w.standIn("second", "--lease-duration", "60s")
	second.logged("another process leads")

	st := second.state()
	if len(st.Problems) != 1 || !strings.Contains(st.Problems[0].Message, "stands by") || !strings.Contains(st.Problems[0].Message, w.holder()) {
		t.Errorf("the one that stands by says %+v", st.Problems)
	}
	if _, stderr, code := second.cli("sync", "a"); code == 0 || !strings.Contains(stderr, "stands by") || !strings.Contains(stderr, "port-forward pod/") {
		t.Errorf("a sync of it: %d %q", code, stderr)
	}
	if ready := second.get("/readyz"); !strings.Contains(ready, `"ready":true`) {
		t.Errorf("a rollout would wait for it: %s", ready)
	}
	if first.metric("belay_leading") != 1 || second.metric("belay_leading") != 0 {
		t.Error("the metric does not say who leads")
	}

	mark := w.cp.Mark(t)
	first.crashAt("written", 1)
	w.commit("Change one", map[string]string{"apps/a/a.yaml": documents(configMap("a", "2"), configMap("b", "1"), configMap("c", "1"))})
	first.hook()
	<-first.exited
	second.logged("leading")
	second.awaitSynced("a") // at a commit of which nobody told it
	w.awaitValue(w.ns("a"), "a", "2")
	counts := map[string]int{}
	for _, r := range w.writes(mark) {
		if r.Resource == "configmaps" {
			counts[r.Name]++
		}
	}
	// The killed one may have been in the middle of either of the two.
	if counts["b"] != 0 || counts["a"] > 2 || counts["c"] > 2 || counts["a"]+counts["c"] > 3 {
		t.Errorf("writes were %v:%s", counts, listing(w.writes(mark)))
	}

	third := w.standIn("third", "--lease-duration", "5m")
	third.logged("another process leads")
	began := time.Now()
	second.stop()
	third.logged("leading") // or it would wait for minutes
	third.awaitSynced("a")
	t.Logf("took over %v after the other was told to end", time.Since(began).Round(time.Millisecond))
}

// proxy passes connections on until it is cut.
type proxy struct {
	l     net.Listener
	mu    sync.Mutex
	conns []net.Conn
	cut   bool
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l}
	t.Cleanup(func() { l.Close(); p.sever() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			p.mu.Lock()
			if err != nil || p.cut {
				in.Close()
				p.mu.Unlock()
				continue
			}
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			go func() { io.Copy(in, out); in.Close() }()
			go func() { io.Copy(out, in); out.Close() }()
		}
	}()
	return p
}

// sever ends all connections and takes no more.
func (p *proxy) sever() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for _, c := range p.conns {
		c.Close()
	}
}

// proxied is the world's kubeconfig through a proxy.
func (w *world) proxied() (*proxy, string) {
	w.t.Helper()
	cfg, err := clientcmd.LoadFromFile(w.kubeconfig)
	if err != nil {
		w.t.Fatal(err)
	}
	p := newProxy(w.t, strings.TrimPrefix(cfg.Clusters["c"].Server, "https://"))
	cfg.Clusters["c"].Server = "https://" + p.l.Addr().String()
	path := filepath.Join(w.t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*cfg, path); err != nil {
		w.t.Fatal(err)
	}
	return p, path
}

// A leader that cannot renew its lease writes nothing more, although it could reach
// the cluster that it delivers to, and ends. Nor does one that was stopped for a
// while and wakes up.
func TestLeaderLosesItsLease(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const lease = 45 * time.Second // so long that nobody loses it to a slow disk
	leaders := map[string]*remote{"first": w.remote("first"), "second": w.remote("second"), "third": w.remote("third")}
	file := filepath.Join(t.TempDir(), "target")
	w.commit("One application", map[string]string{
		"belay/cluster.yaml": "apiVersion: belay.dev/v1alpha1\nkind: Cluster\nmetadata: {name: target}\nspec: {kubeconfig: {file: " + file + "}}\n",
		"belay/a.yaml":       application("a", "apps/a", "NS-a"), "apps/a/a.yaml": configMap("a", "1")})
	begin := w.cp.Mark(t)
	// Each process is told from the others by its user: it has read the file once.
	lead := func(name string, args ...string) *serveProcess {
		token, _ := leaders[name].token()
		write(t, file, string(leaders[name].kubeconfig(token)))
		return w.standIn(name, append([]string{"--lease-duration", lease.String(), "--interval", "200ms"}, args...)...)
	}
	last := func(name string) time.Time {
		var at time.Time
		for _, r := range w.cp.Requests(t, begin, devtest.Filter{UserAgent: "belay/", Verbs: []string{"patch", "create", "delete"}}) {
			if r.User == leaders[name].user() && r.Resource == "configmaps" && r.Time.After(at) {
				at = r.Time
			}
		}
		return at
	}
	p, through := w.proxied()
	first := lead("first", "--kubeconfig", through)
	first.awaitSynced("a")
	second := lead("second")
	second.logged("another process leads")

	// Commits without end, so that there is something to write at every moment.
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 2; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(300 * time.Millisecond):
				w.repo.CommitFiles("main", "Change", map[string]gittest.File{"apps/a/a.yaml": gittest.Text(configMap("a", fmt.Sprint(i)))})
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	before := last("first")
	devtest.Await(t, "the first to be at work", func() error {
		if !last("first").After(before) {
			return errors.New("it writes nothing")
		}
		return nil
	})
	p.sever()
	severed := time.Now()
	second.logged("leading")
	<-first.exited
	if code := first.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(first.log.String(), "could not be renewed in time") {
		t.Errorf("the first ended with %d", code)
	}
	devtest.Await(t, "the second to write", func() error {
		if last("second").IsZero() {
			return errors.New("it does not")
		}
		return nil
	})
	if at := last("first"); at.After(severed.Add(lease)) {
		t.Errorf("the first wrote %v after it was cut off", at.Sub(severed))
	}
	for _, r := range w.cp.Requests(t, begin, devtest.Filter{UserAgent: "belay/", Verbs: []string{"patch"}}) {
		if r.User == leaders["second"].user() && r.Time.Before(last("first")) {
			t.Errorf("the second wrote before the first had ended: %s", r)
		}
	}

	third := lead("third")
	third.logged("another process leads")
	if err := second.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	third.logged("leading")
	devtest.Await(t, "the third to write", func() error {
		if last("third").IsZero() {
			return errors.New("it does not")
		}
		return nil
	})
	woken := time.Now()
	if err := second.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	<-second.exited
	if at := last("second"); at.After(woken) {
		t.Errorf("the second wrote %v after it woke up", at.Sub(woken))
	}
}

// A forge's hook works at whichever process it reaches, and needs the secret.
func TestHookReachesTheLeader(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const secret = "0123456789abcdef0123456789abcdef"
	path := filepath.Join(t.TempDir(), "secret")
	write(t, path, secret+"\n")
	w.commit("One application", map[string]string{"belay/a.yaml": application("a", "apps/a", "NS-a"), "apps/a/a.yaml": configMap("a", "1")})
	start := func(name string) (*serveProcess, string) {
		s := w.standIn(name, "--hook-listen", "127.0.0.1:0", "--hook-secret-file", path, "--lease-duration", "5m")
		identity, _ := s.logged("waiting for the lease")["identity"].(string)
		_, addr, _ := strings.Cut(identity, "@")
		return s, "http://" + addr + "/hooks/push"
	}
	first, hook := start("first")
	first.awaitSynced("a")
	second, hookOfSecond := start("second")
	second.logged("another process leads")

	body := fmt.Sprintf(`{"ref":"refs/heads/main","repository":{"full_name":"x/fleet","clone_url":%q,"ssh_url":"git@example.com:x/fleet.git"}}`, w.url)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	sum := hex.EncodeToString(mac.Sum(nil))
	post := func(url, header, value string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set(header, value)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for _, refused := range [][2]string{{"X-Hub-Signature-256", "sha256=" + strings.Repeat("0", 64)}, {"X-Hub-Signature-256", "sha256="}, {"X-Gitlab-Token", "guess"}, {"X-Other", ""}} {
		if code := post(hook, refused[0], refused[1]); code != http.StatusForbidden {
			t.Errorf("%q: %d", refused, code)
		}
	}
	for i, taken := range []struct{ url, header, value string }{
		{hook, "X-Hub-Signature-256", "sha256=" + sum}, {hookOfSecond, "X-Hub-Signature-256", "sha256=" + sum},
		{hookOfSecond, "X-Gitea-Signature", sum}, {hookOfSecond, "X-Gitlab-Token", secret},
	} {
		value := fmt.Sprint(i + 2)
		w.commit("Change", map[string]string{"apps/a/a.yaml": configMap("a", value)})
		devtest.Await(t, taken.header+" to be taken at "+taken.url, func() error {
			code := post(taken.url, taken.header, taken.value)
			if code != http.StatusAccepted && code < 500 { // those are of a leader that is too slow; forges try again
				t.Fatalf("%s at %s: %d", taken.header, taken.url, code)
			}
			if code != http.StatusAccepted {
				return fmt.Errorf("the answer is %d", code)
			}
			return nil
		})
		w.awaitValue(w.ns("a"), "a", value)
	}
	resp, err := http.Get(strings.TrimSuffix(hook, "/hooks/push") + "/api/v1/status")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("the API answers there: %d", resp.StatusCode)
	}
	if m := second.get("/metrics"); strings.Contains(m, "belay_definition_problems") || !strings.Contains(m, "belay_build_info") {
		t.Error("the metrics of the one that stands by tell of a fleet that it does not know")
	}
	second.stop()
}
