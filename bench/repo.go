package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// repoOptions are the command line of "bench repo".
type repoOptions struct {
	files, history, apps, pushes int
	jsonFile                     string
	programs                     options
}

// repoResult is what was found out, and the form of the JSON file.
type repoResult struct {
	Time         time.Time `json:"time"`
	Processors   int       `json:"processors"`
	Load         string    `json:"load"`
	Files        int       `json:"files"`
	Commits      int       `json:"commits"`
	Applications int       `json:"applications"`
	Pushes       int       `json:"pushes"`
	// MakeSeconds is what it took to make the repository, which is git's work alone.
	MakeSeconds float64 `json:"makeSeconds"`
	// CloneSeconds is from the start of the process until the first fetch has ended.
	CloneSeconds float64 `json:"cloneSeconds"`
	// SyncedSeconds is from the start until all applications are Synced.
	SyncedSeconds float64 `json:"syncedSeconds"`
	// OpenSeconds is the same of a restart, when all is there.
	OpenSeconds float64 `json:"openSeconds"`
	// Affected is from the end of a fetch until the affected applications are known.
	Affected spread `json:"affectedMs"`
	// Seen is from the push hook until the object is another.
	Seen spread `json:"seenMs"`
	// Found is how many applications each push to one of them concerned; Unread how
	// many a push of a file that nobody reads did.
	Found  int `json:"found"`
	Unread int `json:"unread"`
	// Renders and Applies of all pushes, and those of the pushes of unread files.
	Renders       float64 `json:"renders"`
	Applies       float64 `json:"applies"`
	UnreadRenders float64 `json:"unreadRenders"`
	// CPU of a push in milliseconds.
	CPUProcess float64 `json:"cpuProcessMs"`
	CPUWorkers float64 `json:"cpuWorkersMs"`
	CPUGit     float64 `json:"cpuGitMs"`
	// MemoryPeak and MemoryRest in MiB, workers and git included.
	MemoryPeak float64 `json:"memoryPeakMiB"`
	MemoryRest float64 `json:"memoryRestMiB"`
}

// spread is a median and the worst that but one in a hundred were better than.
type spread struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

func spreadOf(values []float64) spread { return spread{quantile(values, 0.5), quantile(values, 0.99)} }

func parseRepo(args []string, stderr io.Writer) (repoOptions, error) {
	var o repoOptions
	f := flag.NewFlagSet("bench repo", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&o.files, "files", 200_000, "files in the repository")
	f.IntVar(&o.history, "commits", 20_000, "commits in its history")
	f.IntVar(&o.apps, "apps", 1000, "applications spread over it, of one object each")
	f.IntVar(&o.pushes, "pushes", 50, "pushes of one file")
	f.StringVar(&o.jsonFile, "json", "", "write the figures to this file")
	o.programs.belayFlag(f)
	o.programs.devclusterFlag(f)
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case min(o.apps, o.pushes, o.history) < 1:
		return o, errors.New("--apps, --commits and --pushes are at least 1")
	case o.files < 3*o.apps:
		return o, errors.New("--files is at least three times --apps: each application has a definition, a manifest and something beside it")
	}
	return o, nil
}

func runRepo(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parseRepo(args, stderr)
	if err != nil {
		return err
	}
	if err := o.programs.findPrograms(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "belay-bench-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is left is in the temporary directory
	o.programs.dir, o.programs.rest = dir, 15*time.Second
	say := saying(stderr)
	say("starting a control plane")
	cp, err := startControlPlane(ctx, o.programs.devcluster, filepath.Join(dir, "cluster"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cp.stop()) }()
	b, err := newRepoBench(ctx, o, benchConfig{options: o.programs, kubeconfig: cp.kubeconfig, prefix: "bench", say: say, logLevel: "debug"})
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

// writeJSON writes figures to a file that was asked for.
func writeJSON(file string, figures any) error {
	if file == "" {
		return nil
	}
	b, err := json.MarshalIndent(figures, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the figures: %w", err)
	}
	if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the figures: %w", err)
	}
	return nil
}

// repoBench measures what a push of one file to a large repository costs.
type repoBench struct {
	*bench
	o    repoOptions
	res  repoResult
	seen *observer
}

func newRepoBench(ctx context.Context, o repoOptions, c benchConfig) (*repoBench, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	cfg.QPS, cfg.WarningHandler = -1, rest.NoWarnings{}
	r, err := makeRepository(ctx, filepath.Join(c.dir, "large.git"))
	if err != nil {
		return nil, err
	}
	return &repoBench{bench: &bench{benchConfig: c, cfg: cfg, repo: r}, o: o, res: repoResult{Time: time.Now().UTC().Truncate(time.Second),
		Processors: processors(), Load: load(), Files: o.files, Commits: o.history, Applications: o.apps, Pushes: o.pushes}}, nil
}

// home is the directory of an application, namespace where it is delivered to.
func (b *repoBench) home(i int) string { return fmt.Sprintf("area-%02d/service-%05d", i%20, i) }

func (b *repoBench) namespace(i int) string { return fmt.Sprintf("%s-repo-%05d", b.prefix, i) }

func (b *repoBench) manifest(i int, value string) map[string]string {
	object := objectsOf(fleetBelay, value, "")[0]
	return map[string]string{b.home(i) + "/deploy/configmap.yaml": encode(object)}
}

func (b *repoBench) measure(ctx context.Context) (*repoResult, error) {
	b.say("making a repository of %d files and %d commits", b.o.files, b.o.history)
	began := time.Now()
	if err := b.build(ctx); err != nil {
		return nil, err
	}
	b.res.MakeSeconds = time.Since(began).Seconds()
	var names []string
	for i := range b.o.apps {
		names = append(names, b.namespace(i))
	}
	b.say("making %d namespaces", len(names))
	if err := makeNamespaces(ctx, b.as("bench-observer"), names); err != nil {
		return nil, err
	}
	var err error
	if b.seen, err = observe(ctx, b.as("bench-observer"), fleetBelay, b.prefix, b.say); err != nil {
		return nil, err
	}
	defer b.seen.end()
	for _, life := range []func(context.Context, *server, time.Time) error{b.first, b.again} {
		began := time.Now()
		s, err := b.serve(ctx)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(life(ctx, s, began), s.stop()); err != nil {
			return nil, err
		}
	}
	return &b.res, nil
}

// first is the first life: clone, rollout, pushes, rest.
func (b *repoBench) first(ctx context.Context, s *server, began time.Time) error {
	b.say("the first life: clone, rollout, %d pushes", b.o.pushes)
	at, err := s.awaitSynced(ctx, b.o.apps)
	if err != nil {
		return err
	}
	b.res.SyncedSeconds = at.Sub(began).Seconds()
	for synced := time.Now(); b.res.CloneSeconds == 0 && time.Since(synced) < logPatience; { // the log may come later
		lines, err := b.logged()
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(lines, func(l logLine) bool { return l.Msg == msgFetched }); i >= 0 {
			b.res.CloneSeconds = lines[i].Time.Sub(began).Seconds()
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	if err := pause(ctx, 3*time.Second); err != nil { // whatever follows a rollout
		return err
	}
	if err := b.push(ctx, s); err != nil {
		return err
	}
	if err := b.unread(ctx, s); err != nil {
		return err
	}
	b.res.MemoryPeak = mib(s.sampler.usage().Memory)
	// Longer than a worker keeps the memory of its last render.
	if err := pause(ctx, b.rest); err != nil {
		return err
	}
	b.res.MemoryRest = mib(readUsage(s.pid()).Memory)
	return nil
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// push pushes one file of one application after another.
func (b *repoBench) push(ctx context.Context, s *server) error {
	before, err := s.counters(ctx)
	if err != nil {
		return err
	}
	used := s.sampler.usage()
	var seen []float64
	var commits []string
	for n := range b.o.pushes {
		i := n * 7919 % b.o.apps // all over the repository
		value := fmt.Sprint("push-", n)
		if err := b.repo.commit(ctx, value, b.manifest(i, value)); err != nil {
			return err
		}
		commit, err := b.repo.head()
		if err != nil {
			return err
		}
		w := b.seen.value(b.namespace(i), value)
		began := time.Now()
		if _, err := s.Push(ctx, b.repo.url()); err != nil {
			return fmt.Errorf("send the push hook: %w", err)
		}
		at, err := b.seen.wait(ctx, w, "the effect of a push")
		if err != nil {
			return err
		}
		seen, commits = append(seen, at.Sub(began).Seconds()*1000), append(commits, commit)
		if err := pause(ctx, 100*time.Millisecond); err != nil { // its record is written
			return err
		}
	}
	after, err := s.counters(ctx)
	if err != nil {
		return err
	}
	now := s.sampler.usage().minus(used)
	per := func(seconds float64) float64 { return seconds * 1000 / float64(b.o.pushes) }
	b.res.CPUProcess, b.res.CPUWorkers, b.res.CPUGit = per(now.Process), per(now.Workers), per(now.Others)
	b.res.Renders, b.res.Applies = after.minus(before).renders, after.minus(before).applies
	affected, found, err := b.awaitFound(ctx, commits)
	if err != nil {
		return err
	}
	b.res.Seen, b.res.Affected = spreadOf(seen), spreadOf(affected)
	for _, n := range found {
		b.res.Found = max(b.res.Found, n)
	}
	return nil
}

// unread pushes a file that no application reads.
func (b *repoBench) unread(ctx context.Context, s *server) error {
	before, err := s.counters(ctx)
	if err != nil {
		return err
	}
	if err := b.repo.commit(ctx, "Something else", map[string]string{b.home(0) + "/src/part-0/file-0.txt": "changed\n"}); err != nil {
		return err
	}
	commit, err := b.repo.head()
	if err != nil {
		return err
	}
	if _, err := s.Push(ctx, b.repo.url()); err != nil {
		return fmt.Errorf("send the push hook: %w", err)
	}
	_, found, err := b.awaitFound(ctx, []string{commit})
	if err != nil {
		return err
	}
	b.res.Unread = found[0]
	if err := pause(ctx, time.Second); err != nil { // what it should not do, it would have done by then
		return err
	}
	after, err := s.counters(ctx)
	b.res.UnreadRenders = after.minus(before).renders
	return err
}

// again is a restart.
func (b *repoBench) again(ctx context.Context, s *server, began time.Time) error {
	b.say("a restart")
	at, err := s.awaitSynced(ctx, b.o.apps)
	b.res.OpenSeconds = at.Sub(began).Seconds()
	return err
}

// What the log of Belay tells of pushes.
const (
	msgFetched  = "repository fetched"
	msgAffected = "affected applications found"
)

type logLine struct {
	Time         time.Time
	Msg          string
	To           string
	Applications int
}

func (b *repoBench) logged() ([]logLine, error) {
	f, err := os.Open(filepath.Join(b.dir, "belay.log"))
	if err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	var out []logLine
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l logLine
		if !strings.Contains(lines.Text(), msgFetched) && !strings.Contains(lines.Text(), msgAffected) {
			continue
		}
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("read the log: %w", err)
		}
		out = append(out, l)
	}
	return out, lines.Err()
}

// found tells how many milliseconds after the end of the fetch it was known which
// applications each commit affects, and how many those are.
func (b *repoBench) found(commits []string) (times []float64, applications []int, err error) {
	lines, err := b.logged()
	if err != nil {
		return nil, nil, err
	}
	at := map[string]int{}
	ms := map[string]float64{}
	var fetched time.Time
	for _, l := range lines {
		switch l.Msg {
		case msgFetched:
			fetched = l.Time
		case msgAffected:
			at[l.To], ms[l.To] = l.Applications, l.Time.Sub(fetched).Seconds()*1000
		}
	}
	for _, c := range commits {
		n, ok := at[c]
		if !ok {
			return nil, nil, fmt.Errorf("the log does not tell which applications commit %s affects", c)
		}
		times, applications = append(times, ms[c]), append(applications, n)
	}
	return times, applications, nil
}

// logPatience is how long a line of the log may take after what it tells of.
const logPatience = 5 * time.Minute

// awaitFound waits until the log tells of all commits, which may be later than their effect.
func (b *repoBench) awaitFound(ctx context.Context, commits []string) (times []float64, applications []int, err error) {
	for began := time.Now(); ; {
		if times, applications, err = b.found(commits); err == nil || time.Since(began) > logPatience {
			return times, applications, err
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return nil, nil, err
		}
	}
}

func (r *repoResult) print(w io.Writer) {
	fmt.Fprintf(w, "\n%d files, %d commits, %d applications; %d processors; load of the machine before the run: %s\n\n", r.Files, r.Commits, r.Applications, r.Processors, r.Load)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(label, format string, a ...any) {
		fmt.Fprintf(t, "%s\t"+format+"\n", append([]any{label}, a...)...)
	}
	row("making the repository (git alone)", "%.1f s", r.MakeSeconds)
	row("start until it is cloned", "%.1f s", r.CloneSeconds)
	row("start until all are Synced", "%.1f s", r.SyncedSeconds)
	row("restart until all are Synced", "%.1f s", r.OpenSeconds)
	row("end of the fetch until the affected are found", "median %.1f ms, 99th percentile %.1f ms", r.Affected.P50, r.Affected.P99)
	row("  applications found, of a push to one", "%d", r.Found)
	row("  of a push that nobody reads", "%d", r.Unread)
	row("push hook until the object is another", "median %.0f ms, 99th percentile %.0f ms", r.Seen.P50, r.Seen.P99)
	row("renders and applies of all pushes", "%.0f, %.0f of %d", r.Renders, r.Applies, r.Pushes)
	row("CPU a push: process, workers, git", "%.1f, %.1f, %.1f ms", r.CPUProcess, r.CPUWorkers, r.CPUGit)
	row("memory: peak, at rest", "%.0f, %.0f MiB", r.MemoryPeak, r.MemoryRest)
	_ = t.Flush() // the terminal may be gone
}
