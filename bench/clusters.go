package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/belaydev/belay/bench/stub"
	"github.com/belaydev/belay/client"
	"github.com/belaydev/belay/internal/xec"
)

// clustersOptions are the command line of "bench clusters".
type clustersOptions struct {
	clusters, apps, pushes int
	rest, patience         time.Duration
	jsonFile, heapFile     string
	programs               options
}

// clustersResult is what was found out, and the form of the JSON file.
type clustersResult struct {
	Time         time.Time `json:"time"`
	Processors   int       `json:"processors"`
	Load         string    `json:"load"`
	Clusters     int       `json:"clusters"`
	Applications int       `json:"applicationsPerCluster"`
	// SyncedSeconds is from the start until all applications are Synced.
	SyncedSeconds float64 `json:"syncedSeconds"`
	// Rollout are the requests until then, Rest those of a while afterwards.
	Rollout map[string]int `json:"rolloutRequests"`
	Rest    map[string]int `json:"restRequests"`
	// RestCPU of Belay in percent of a core.
	RestCPU float64 `json:"restCpuPercent"`
	// Memory of Belay and of the stubs, in MiB.
	MemoryPeak  float64 `json:"memoryPeakMiB"`
	MemoryRest  float64 `json:"memoryRestMiB"`
	MemoryStubs float64 `json:"memoryStubsMiB"`
	// CPU of the rollout in seconds.
	CPURollout float64 `json:"cpuRolloutSeconds"`
	CPUStubs   float64 `json:"cpuStubsSeconds"`
	Watches    int     `json:"watches"`
	// Seen is from the push hook until the object is another, in milliseconds; SeenHung
	// the same while another cluster hangs, before that is known and after.
	Seen      spread `json:"seenMs"`
	SeenHung  spread `json:"seenHungMs"`
	SeenKnown spread `json:"seenKnownMs"`
	// Pushed are the requests of all pushes to clusters that answer.
	Pushed map[string]int `json:"pushedRequests"`
	// NoticedSeconds is how long it took until the status said that a cluster hangs, and Notice what it says.
	NoticedSeconds float64 `json:"noticedSeconds"`
	Notice         string  `json:"notice"`
	// NotReady are the clusters that are not ready then.
	NotReady []string `json:"notReady"`
}

func parseClusters(args []string, stderr io.Writer) (clustersOptions, error) {
	var o clustersOptions
	f := flag.NewFlagSet("bench clusters", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&o.clusters, "clusters", 100, "clusters, of which the last will hang")
	f.IntVar(&o.apps, "apps", 500, "applications in each, of one object")
	f.IntVar(&o.pushes, "pushes", 50, "commits to one application, three times: all well, one cluster hangs, and when that is known")
	f.DurationVar(&o.rest, "rest", 20*time.Second, "time to watch it rest")
	f.StringVar(&o.jsonFile, "json", "", "write the figures to this file")
	f.StringVar(&o.heapFile, "heap", "", "write a profile of what holds Belay's memory at rest to this file")
	o.programs.belayFlag(f)
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.patience = 5 * time.Minute
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.clusters < 2 || o.apps < 1 || o.pushes < 1:
		return o, errors.New("--clusters is at least 2, --apps and --pushes are at least 1")
	}
	return o, nil
}

func runClusters(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parseClusters(args, stderr)
	if err != nil {
		return err
	}
	if err := o.programs.findBelay(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "belay-bench-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is left is in the temporary directory
	o.programs.dir = dir
	kubeconfig := filepath.Join(dir, "kubeconfig")
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	p, control, err := start(ctx, xec.Command{Path: self, Args: []string{stubCommand, "--clusters", strconv.Itoa(o.clusters), "--kubeconfig", kubeconfig}},
		stderr, func(line string) (string, bool) { return line, strings.HasPrefix(line, "http://") })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	say := saying(stderr)
	b, err := newClustersBench(ctx, o, benchConfig{options: o.programs, kubeconfig: kubeconfig, prefix: "bench", calm: 15 * time.Second, say: say}, control, p.pid())
	if err != nil {
		return err
	}
	res, err := b.measure(ctx)
	if err != nil {
		return withLog(err, filepath.Join(dir, "belay.log"))
	}
	res.print(stdout)
	return writeJSON(o.jsonFile, res)
}

// stubCommand makes this program the stubs of "bench clusters", in a process of
// their own so that what they take is not counted as Belay's.
const stubCommand = "stub"

func runStub(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("bench stub", flag.ContinueOnError)
	f.SetOutput(stderr)
	n := f.Int("clusters", 3, "how many")
	kubeconfig := f.String("kubeconfig", "", "file to write")
	if err := f.Parse(args); err != nil {
		return err
	}
	s, err := stub.Serve(ctx, *n)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := os.WriteFile(*kubeconfig, []byte(s.Kubeconfig()), 0o600); err != nil {
		return fmt.Errorf("write the kubeconfig: %w", err)
	}
	control, stop, err := serveControl(ctx, s)
	if err != nil {
		return err
	}
	defer stop()
	fmt.Fprintln(stdout, control)
	<-ctx.Done()
	return nil
}

// clustersBench measures what many clusters cost.
type clustersBench struct {
	*bench
	o       clustersOptions
	res     clustersResult
	control string
	stubs   int // their process, 0 if it is this one
	pushed  int
}

func newClustersBench(ctx context.Context, o clustersOptions, c benchConfig, control string, stubs int) (*clustersBench, error) {
	r, err := makeRepository(ctx, filepath.Join(c.dir, "clusters.git"))
	if err != nil {
		return nil, err
	}
	b := &clustersBench{bench: &bench{benchConfig: c, repo: r}, o: o, control: control, stubs: stubs, res: clustersResult{
		Time: time.Now().UTC().Truncate(time.Second), Processors: processors(), Load: load(), Clusters: o.clusters, Applications: o.apps}}
	return b, r.commit(ctx, "The fleet", b.files())
}

func (b *clustersBench) files() map[string]string {
	out := map[string]string{}
	for c := range b.o.clusters {
		name := stub.Name(c)
		out["belay/clusters/"+name+".yaml"] = fmt.Sprintf(
			"apiVersion: belay.dev/v1alpha1\nkind: Cluster\nmetadata: {name: %s}\nspec:\n  kubeconfig: {file: %s}\n  context: %s\n", name, b.kubeconfig, name)
		for i := range b.o.apps {
			app := fmt.Sprintf("%s-app-%05d", name, i)
			out["belay/"+name+"/"+app+".yaml"] = fmt.Sprintf("apiVersion: belay.dev/v1alpha1\nkind: Application\nmetadata: {name: %s}\nspec:\n"+
				"  source: {path: apps/%s/%05d}\n  destination: {cluster: %s, namespace: %s}\n", app, name, i, name, b.namespace(i))
			out[b.file(c, i)] = encode(objectsOf(fleetBelay, "0", "")[0])
		}
	}
	return out
}

func (b *clustersBench) file(c, i int) string {
	return fmt.Sprintf("apps/%s/%05d/configmap.yaml", stub.Name(c), i)
}

func (b *clustersBench) namespace(i int) string { return fmt.Sprintf("%s-%05d", b.prefix, i) }

func (b *clustersBench) measure(ctx context.Context) (res *clustersResult, err error) {
	b.say("the first rollout of %d applications to %d clusters", b.o.apps*b.o.clusters, b.o.clusters)
	began := time.Now()
	if b.o.heapFile != "" {
		l, err := listenLoopback(ctx)
		if err != nil {
			return nil, err
		}
		b.pprof = l.Addr().String() // free a moment ago
		if err := l.Close(); err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
	}
	s, err := b.serve(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	at, err := s.awaitSynced(ctx, b.o.apps*b.o.clusters)
	if err != nil {
		return nil, err
	}
	b.res.SyncedSeconds = at.Sub(began).Seconds()
	u := s.sampler.usage()
	b.res.CPURollout, b.res.CPUStubs = u.cpu(), readUsage(b.stubs).cpu()
	counts, err := b.counts(ctx)
	if err != nil {
		return nil, err
	}
	b.res.Rollout = counts.Requests
	for _, step := range []func(context.Context, *server) error{b.atRest, b.healthy, b.hanging} {
		if err := step(ctx, s); err != nil {
			return nil, err
		}
	}
	return &b.res, nil
}

// atRest waits for what follows a rollout, and measures what is done then.
func (b *clustersBench) atRest(ctx context.Context, s *server) error {
	b.say("rest")
	b.res.MemoryPeak = mib(s.sampler.usage().Memory)
	if err := b.quiet(ctx); err != nil {
		return err
	}
	before, err := b.counts(ctx)
	if err != nil {
		return err
	}
	used := s.sampler.usage()
	if err := pause(ctx, b.o.rest); err != nil {
		return err
	}
	after, err := b.counts(ctx)
	if err != nil {
		return err
	}
	now := s.sampler.usage()
	b.res.Rest, b.res.Watches = increase(after.Requests, before.Requests), after.Watches
	b.res.RestCPU = now.minus(used).cpu() / b.o.rest.Seconds() * 100
	b.res.MemoryRest, b.res.MemoryStubs = mib(readUsage(s.pid()).Memory), mib(readUsage(b.stubs).Memory)
	if b.o.heapFile == "" {
		return nil
	}
	return b.heap(ctx)
}

// heap keeps a profile of the memory that is in use.
func (b *clustersBench) heap(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.pprof+"/debug/pprof/heap?gc=1", nil)
	if err != nil {
		return fmt.Errorf("profile the memory: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("profile the memory: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	profile, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("profile the memory: %w", err)
	}
	if err := os.WriteFile(b.o.heapFile, profile, 0o644); err != nil {
		return fmt.Errorf("write the profile: %w", err)
	}
	return nil
}

// quiet waits until nothing was asked for a while.
func (b *clustersBench) quiet(ctx context.Context) error {
	last, since := "", time.Now()
	for time.Since(since) < b.calm {
		c, err := b.counts(ctx)
		if err != nil {
			return err
		}
		if now := fmt.Sprint(c.Requests); now != last {
			last, since = now, time.Now()
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func increase(after, before map[string]int) map[string]int {
	out := map[string]int{}
	for verb, n := range after {
		if n -= before[verb]; n != 0 {
			out[verb] = n
		}
	}
	return out
}

func (b *clustersBench) healthy(ctx context.Context, s *server) (err error) {
	b.say("%d commits to one application", b.o.pushes)
	before, err := b.counts(ctx)
	if err != nil {
		return err
	}
	if b.res.Seen, err = b.push(ctx, s); err != nil {
		return err
	}
	after, err := b.counts(ctx)
	b.res.Pushed = increase(after.Requests, before.Requests)
	return err
}

// hanging has the last cluster hang: it accepts connections and never answers.
func (b *clustersBench) hanging(ctx context.Context, s *server) (err error) {
	hung := b.o.clusters - 1
	b.say("%s hangs", stub.Name(hung))
	if err := b.ask(ctx, http.MethodPost, "/hang?cluster="+strconv.Itoa(hung), nil); err != nil {
		return err
	}
	began := time.Now()
	// One of its applications changes, too, so that something waits for it.
	if err := b.repo.commit(ctx, "What hangs", map[string]string{b.file(hung, 0): encode(objectsOf(fleetBelay, "hung", "")[0])}); err != nil {
		return err
	}
	if _, err := s.Push(ctx, b.repo.url()); err != nil {
		return fmt.Errorf("send the push hook: %w", err)
	}
	if b.res.SeenHung, err = b.push(ctx, s); err != nil {
		return err
	}
	for b.res.Notice == "" {
		st, err := s.Status(ctx, client.Filter{})
		if err != nil {
			return fmt.Errorf("ask for the status: %w", err)
		}
		for _, c := range st.Clusters {
			if c.Name == stub.Name(hung) && !c.Ready {
				b.res.Notice, b.res.NoticedSeconds = c.Message, time.Since(began).Seconds()
			}
			if !c.Ready {
				b.res.NotReady = append(b.res.NotReady, c.Name)
			}
		}
		switch {
		case b.res.Notice != "":
		case time.Since(began) > b.o.patience:
			return fmt.Errorf("after %v the status does not say that %s hangs", b.o.patience, stub.Name(hung))
		default:
			b.res.NotReady = nil
			if err := pause(ctx, 250*time.Millisecond); err != nil {
				return err
			}
		}
	}
	b.res.SeenKnown, err = b.push(ctx, s)
	return err
}

// push commits to one application after another, in all clusters but the last.
func (b *clustersBench) push(ctx context.Context, s *server) (spread, error) {
	var seen []float64
	for range b.o.pushes {
		n := b.pushed
		b.pushed++
		c, i := n%(b.o.clusters-1), n*7919%b.o.apps
		value := fmt.Sprint("push-", n)
		if err := b.repo.commit(ctx, value, map[string]string{b.file(c, i): encode(objectsOf(fleetBelay, value, "")[0])}); err != nil {
			return spread{}, err
		}
		query := url.Values{"cluster": {strconv.Itoa(c)}, "namespace": {b.namespace(i)}, "value": {value}}
		began := time.Now()
		if _, err := s.Push(ctx, b.repo.url()); err != nil {
			return spread{}, fmt.Errorf("send the push hook: %w", err)
		}
		var at time.Time
		if err := b.ask(ctx, http.MethodGet, "/value?"+query.Encode(), &at); err != nil {
			return spread{}, err
		}
		seen = append(seen, at.Sub(began).Seconds()*1000)
		if err := pause(ctx, 100*time.Millisecond); err != nil { // its record is written
			return spread{}, err
		}
	}
	return spreadOf(seen), nil
}

func (b *clustersBench) counts(ctx context.Context) (c stub.Counts, err error) {
	if err = b.ask(ctx, http.MethodGet, "/counts", &c); err == nil && len(c.Unknown) > 0 {
		err = fmt.Errorf("the stubs have no answer for %s", strings.Join(c.Unknown, ", "))
	}
	return c, err
}

// ask asks the stubs themselves.
func (b *clustersBench) ask(ctx context.Context, method, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, b.control+path, nil)
	if err != nil {
		return fmt.Errorf("ask the stubs: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask the stubs: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask the stubs for %s: %s", path, resp.Status)
	}
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("ask the stubs for %s: %w", path, err)
	}
	return nil
}

// serveControl lets others ask the stubs, on loopback.
func serveControl(ctx context.Context, s *stub.Clusters) (address string, stop func(), err error) {
	l, err := listenLoopback(ctx)
	if err != nil {
		return "", nil, err
	}
	srv := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l) // it ends with Close
	}()
	return "http://" + l.Addr().String(), func() {
		_ = srv.Close() // nobody is left to be told
		<-done
	}, nil
}

func (r *clustersResult) print(w io.Writer) {
	fmt.Fprintf(w, "\n%d stubbed clusters × %d applications of one object; %d processors; load of the machine before the run: %s\n\n",
		r.Clusters, r.Applications, r.Processors, r.Load)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(label, format string, a ...any) {
		fmt.Fprintf(t, "%s\t"+format+"\n", append([]any{label}, a...)...)
	}
	row("start until all are Synced", "%.1f s", r.SyncedSeconds)
	row("  CPU of Belay, of the stubs", "%.1f s, %.1f s", r.CPURollout, r.CPUStubs)
	row("  requests", "%s", list(r.Rollout))
	row("at rest: requests", "%s", list(r.Rest))
	row("  watches open", "%d", r.Watches)
	row("  CPU of Belay", "%.2f %% of a core", r.RestCPU)
	row("memory of Belay: peak, at rest", "%.0f, %.0f MiB", r.MemoryPeak, r.MemoryRest)
	row("  of the stubs", "%.0f MiB", r.MemoryStubs)
	show := func(s spread) string { return fmt.Sprintf("median %.0f ms, 99th percentile %.0f ms", s.P50, s.P99) }
	row("commit to one: hook until the object is another", "%s", show(r.Seen))
	row("  requests of all of them", "%s", list(r.Pushed))
	row("  while another cluster hangs", "%s", show(r.SeenHung))
	row("  when that is known", "%s", show(r.SeenKnown))
	row("a cluster hangs: until the status says so", "%.0f s", r.NoticedSeconds)
	row("  what it says", "%s", r.Notice)
	row("  clusters that are not ready", "%s", strings.Join(r.NotReady, ", "))
	_ = t.Flush() // the terminal may be gone
}
