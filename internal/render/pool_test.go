package render_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render"
	"github.com/belaydev/belay/internal/render/rendertest"
	"github.com/belaydev/belay/internal/render/wire"
)

var testOptions = render.Options{Workers: 3}

func TestRenderGivesObjectsWithOriginAndReads(t *testing.T) {
	p := newPool(t, testOptions)
	files := rendertest.Files{
		"apps/web/a.yaml":     "# first\n---\n" + configMap("one", "1") + "---\n" + configMap("two", "2"),
		"apps/web/sub/b.json": `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"},"stringData":{"k":"hunter2"}}`,
		"apps/web/README.md":  "# not a manifest",
		"elsewhere/c.yaml":    configMap("three", "3"),
	}
	res := mustRender(t, p, files, request("apps/web"))
	want := "ConfigMap one@apps/web/a.yaml:3 ConfigMap two@apps/web/a.yaml:10 Secret s@apps/web/sub/b.json:1"
	if got := ids(res); got != want {
		t.Errorf("objects %s\nwant    %s", got, want)
	}
	if res.Kind != "plain" || res.UsesCapabilities || res.Partial {
		t.Errorf("result %+v", res)
	}
	o := res.Objects[0]
	if o.Origin.Repo != "https://git.example/fleet.git" || o.Origin.Revision != "c0ffee" || o.Digest != belay.Digest(o.Raw) {
		t.Errorf("object %+v", o)
	}
	secret := res.Objects[2]
	if secret.Digest != belay.KeyedDigest(testKey, secret.Raw) {
		t.Errorf("the digest of a Secret is not keyed")
	}
	var reads []string
	for _, r := range res.Reads {
		if d, err := files.Digest(r.Kind, r.Path); err != nil || d != r.Digest {
			t.Errorf("read %+v, but the digest is %q (%v)", r, d, err)
		}
		reads = append(reads, string(r.Kind)+" "+r.Path)
	}
	wantReads := "list apps/web, stat apps/web/Chart.yaml, stat apps/web/Kustomization, file apps/web/a.yaml, " +
		"stat apps/web/kustomization.yaml, stat apps/web/kustomization.yml, list apps/web/sub, file apps/web/sub/b.json"
	if got := strings.Join(reads, ", "); got != wantReads {
		t.Errorf("reads %s\nwant  %s", got, wantReads)
	}
}

func TestRendersRunConcurrently(t *testing.T) {
	p := newPool(t, testOptions)
	files := rendertest.Files{}
	for i := range 30 {
		files[fmt.Sprintf("apps/%d/cm.yaml", i)] = configMap(fmt.Sprintf("cm-%d", i), "x")
		files[fmt.Sprintf("apps/%d/kustomization.yaml", i)] = fmt.Sprintf("resources: [cm.yaml]\nnamePrefix: p%d-\n", i)
	}
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			res, err := p.Render(t.Context(), files, request(fmt.Sprintf("apps/%d", i)))
			want := fmt.Sprintf("ConfigMap p%d-cm-%d@apps/%d/cm.yaml:1", i, i, i)
			if err != nil || ids(res) != want {
				t.Errorf("render %d: %s %v, want %s", i, ids(res), err, want)
			}
		})
	}
	wg.Wait()
}

const chartYAML = "apiVersion: v2\nname: c\nversion: 1.0.0\n"

func chartOf(template string) rendertest.Files {
	return rendertest.Files{"c/Chart.yaml": chartYAML, "c/templates/t.yaml": template}
}

func TestLimitsStopARenderAndOnlyThat(t *testing.T) {
	p := newPool(t, render.Options{Workers: 2, Deadline: 10 * time.Minute, Memory: 300 << 20, Output: 4 << 20, Input: 1 << 20})
	quick := newPool(t, render.Options{Workers: 2, Deadline: 2 * time.Second})
	for _, tc := range []struct {
		name  string
		files rendertest.Files
		path  string
		code  belay.Code
		want  string
	}{
		{"endless template", chartOf(`{{ range until 1000000 }}{{ range until 1000000 }}{{ end }}{{ end }}`), "c", belay.CodeUnavailable, "longer than 2s"},
		{"memory hog", chartOf(`{{ $s := "0123456789abcdef" }}{{ range until 40 }}{{ $s = printf "%s%s" $s $s }}{{ end }}`), "c", belay.CodeInvalid, "more than 300 MiB of memory"},
		{"one huge allocation", chartOf(`{{ repeat 2000000000 "x" }}`), "c", belay.CodeInvalid, "more than 300 MiB of memory"},
		{"two gigabytes of output", chartOf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n{{ range until 200000 }}  k{{ . }}: {{ repeat 10000 \"x\" }}\n{{ end }}"), "c", belay.CodeInvalid, "more than 300 MiB of memory"},
		{"too much output", chartOf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  k: {{ repeat 8000000 \"x\" }}\n"), "c", belay.CodeInvalid, "limit of 4 MiB"},
		{"alias bomb", rendertest.Files{"c/bomb.yaml": bomb()}, "c", belay.CodeInvalid, "aliases expand"},
		{"alias bomb of long texts", rendertest.Files{"c/bomb.yaml": longBomb()}, "c", belay.CodeInvalid, "more than 300 MiB of memory"},
		{"too much input", rendertest.Files{"c/big.yaml": "# " + strings.Repeat("x", 2<<20)}, "c", belay.CodeInvalid, "read more than 1 MiB of the source"},
		{"endless recursion", chartOf(`{{ define "x" }}{{ template "x" . }}{{ end }}{{ template "x" . }}`), "c", belay.CodeInvalid, "exceeded maximum template depth"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := p
			if tc.code == belay.CodeUnavailable {
				p = quick
			}
			_, errs := renderError(t, p, tc.files, request(tc.path))
			wantError(t, errs, tc.code, tc.want)
			// Who tries again is told that this took a processor all the time there was.
			late, told := errors.AsType[interface {
				error
				Spent() time.Duration
			}](errs[0])
			if told != (p == quick) || told && late.Spent() != 2*time.Second {
				t.Errorf("a costly error: %v, want %v", told, p == quick)
			}
			good := rendertest.Files{"ok/cm.yaml": configMap("ok", "1")}
			res, err := p.Render(t.Context(), good, request("ok"))
			for p == quick && belay.CodeOf(err) == belay.CodeUnavailable { // it, too, may be too slow for that deadline
				res, err = p.Render(t.Context(), good, request("ok"))
			}
			if got := ids(res); got != "ConfigMap ok@ok/cm.yaml:1" || err != nil {
				t.Errorf("the render after it: %s, %v", got, err)
			}
		})
	}
}

func bomb() string {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\na0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 12; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 10), ","))
	}
	return b.String()
}

// longBomb stays below the number of aliases that the YAML library allows, but
// each of them is long.
func longBomb() string {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\nlong: &long " + strings.Repeat("x", 20_000) + "\nlist:\n")
	for range 100_000 {
		b.WriteString("- *long\n")
	}
	return b.String()
}

func TestCancelledRenderEndsSoon(t *testing.T) {
	p := newPool(t, render.Options{Workers: 1, Deadline: 10 * time.Minute})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := p.Render(ctx, chartOf(`{{ range until 1000000 }}{{ range until 1000000 }}{{ end }}{{ end }}`), request("c"))
	if !errors.Is(err, context.DeadlineExceeded) || belay.CodeOf(err) != belay.CodeUnavailable {
		t.Errorf("error %v (%s)", err, belay.CodeOf(err))
	}
	if d := time.Since(start); d > 5*time.Minute { // half of the deadline
		t.Errorf("it took %s", d)
	}
}

func TestClosedPoolRefuses(t *testing.T) {
	p := newPool(t, testOptions)
	p.Close()
	if _, err := p.Render(t.Context(), rendertest.Files{}, request("a")); belay.CodeOf(err) != belay.CodeUnavailable {
		t.Errorf("error %v", err)
	}
}

func TestPoolThatCannotStart(t *testing.T) {
	for name, opts := range map[string]render.Options{
		"no program": {Command: []string{"/nonexistent/belay", "render-worker"}, Key: testKey},
		"no worker":  {Command: []string{"/bin/false"}, Key: testKey},
		"no key":     {},
	} {
		if p, err := render.NewPool(opts); err == nil {
			p.Close()
			t.Errorf("%s: no error", name)
		}
	}
}

const brokenArgument = "broken-worker"

// broken is a worker that greets well and then answers like an enemy.
func broken(how string) {
	in := bufio.NewReader(os.Stdin)
	if _, err := wire.Read(in, 1<<20); err != nil {
		os.Exit(1)
	}
	wire.Write(os.Stdout, wire.Hello, wire.Greeting{Sandbox: "none"})
	if _, err := wire.Read(in, 1<<30); err != nil {
		os.Exit(0)
	}
	switch how {
	case "exit":
		os.Exit(3)
	case "garbage":
		os.Stdout.Write([]byte(strings.Repeat("garbage", 100)))
	case "huge":
		os.Stdout.Write([]byte{byte(wire.Done), 0, 0, 0, 2, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, '{', '}'})
	case "cut":
		os.Stdout.Write([]byte{byte(wire.Done), 0, 0, 0, 200})
		os.Exit(0)
	case "parts":
		head := binary.AppendUvarint([]byte("\x05plain\x00\x01\x01x\x00"), 1<<40) // one object of a terabyte
		head = append(head, 0, 0, 0)
		frame := binary.BigEndian.AppendUint32([]byte{byte(wire.Done)}, uint32(len(head)))
		os.Stdout.Write(append(binary.BigEndian.AppendUint64(frame, 0), head...))
	case "escape":
		wire.WriteQuestion(os.Stdout, wire.Question{Read: []string{"../../etc/passwd", "/etc/passwd", ""}})
		f, err := wire.Read(in, 1<<30)
		if err != nil {
			os.Exit(4)
		}
		a, err := f.Answers()
		if err != nil {
			os.Exit(4)
		}
		out := wire.Output{Kind: "plain"}
		for _, it := range a.Items {
			if it.Error == nil {
				out.Fail(wire.Problem{Message: "it could read outside"})
			}
		}
		out.Add("../../outside.yaml", -5, []byte(configJSON))
		wire.WriteOutput(os.Stdout, &out)
	case "forged":
		out := wire.Output{Kind: "plain"}
		out.Add("a.yaml", 1, []byte(`{"apiVersion":"v1","kind":"ConfigMap"}`))
		out.Add("b.yaml", 1, []byte(`[]`))
		out.Add("c.yaml", 1, []byte(`{`))
		wire.WriteOutput(os.Stdout, &out)
	case "silent":
	}
	io.Copy(io.Discard, in)
	os.Exit(0)
}

const configJSON = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"}}`

func TestHostileWorker(t *testing.T) {
	for how, want := range map[string]string{
		"exit":    "exit status 3",
		"garbage": "the render worker broke off: unknown frame",
		"huge":    "more than 64 MiB of objects",
		"cut":     "without an answer",
		"parts":   "the render worker broke off: a part reaches beyond its frame",
		"silent":  "longer than 1s",
		"forged":  "a.yaml:1: metadata.name of the ConfigMap is missing",
	} {
		t.Run(how, func(t *testing.T) {
			deadline := 10 * time.Minute
			if how == "silent" {
				deadline = time.Second
			}
			p := newPool(t, render.Options{Deadline: deadline, Command: []string{os.Args[0], brokenArgument, how}})
			_, errs := renderError(t, p, rendertest.Files{}, request("a"))
			if got := errors.Join(toErrors(errs)...).Error(); !strings.Contains(got, want) {
				t.Errorf("error %q, want %q", got, want)
			}
			if how == "forged" && len(errs) != 3 {
				t.Errorf("%d errors, want one for each object", len(errs))
			}
		})
	}
	t.Run("escape", func(t *testing.T) {
		p := newPool(t, render.Options{Command: []string{os.Args[0], brokenArgument, "escape"}})
		res := mustRender(t, p, rendertest.Files{}, request("a"))
		if len(res.Objects) != 1 || res.Objects[0].Origin.File != "" || res.Objects[0].Origin.Line != 0 {
			t.Errorf("objects %+v", res.Objects)
		}
		for _, r := range res.Reads { // what it was told with the job
			if r.Path != "a" && !strings.HasPrefix(r.Path, "a/") {
				t.Errorf("reads %v", res.Reads)
			}
		}
	})
}
