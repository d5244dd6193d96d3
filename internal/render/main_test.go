package render_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render"
	"github.com/belaydev/belay/internal/render/rendertest"
	"github.com/belaydev/belay/internal/render/worker"
)

// TestMain makes the test binary a worker when the pool under test starts it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case render.WorkerArgument:
			worker.Main()
		case probeArgument:
			probe()
		case brokenArgument:
			broken(os.Args[2])
		}
	}
	os.Exit(m.Run())
}

var testKey = []byte("0123456789abcdef0123456789abcdef")

func newPool(t testing.TB, opts render.Options) *render.Pool {
	t.Helper()
	opts.Key = testKey
	if opts.Deadline == 0 { // long, as nothing here is about it
		opts.Deadline = 10 * time.Minute
	}
	p, err := render.NewPool(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func request(path string) render.Request {
	return render.Request{Application: "app", Source: belay.Source{Path: path}, Namespace: "prod", Repo: "https://git.example/fleet.git", Revision: "c0ffee"}
}

func mustRender(t testing.TB, p *render.Pool, f render.Files, req render.Request) render.Result {
	t.Helper()
	res, err := p.Render(t.Context(), f, req)
	if err != nil {
		t.Fatalf("render %s: %v", req.Source.Path, err)
	}
	return res
}

// renderError renders what must fail and checks that each error is one for users.
func renderError(t testing.TB, p *render.Pool, f render.Files, req render.Request) (render.Result, []*belay.Error) {
	t.Helper()
	res, err := p.Render(t.Context(), f, req)
	if err == nil {
		t.Fatalf("render %s: no error, but %d objects", req.Source.Path, len(res.Objects))
	}
	if len(res.Objects) > 0 {
		t.Errorf("a failed render has %d objects", len(res.Objects))
	}
	ps := render.Problems(err)
	if len(ps) == 0 {
		t.Fatalf("%T is no *belay.Error: %v", err, err)
	}
	for _, e := range ps {
		if e.Code == "" || e.Message == "" || e.Application != req.Application {
			t.Errorf("incomplete error %+v", e)
		}
		if e.Origin.File != "" && (e.Origin.Repo != req.Repo || e.Origin.Revision != req.Revision) {
			t.Errorf("error without its origin: %+v", e.Origin)
		}
	}
	return res, ps
}

func configMap(name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: %s\ndata:\n  key: %s\n", name, value)
}

func ids(res render.Result) string {
	var out []string
	for _, o := range res.Objects {
		out = append(out, o.ID.String()+"@"+o.Origin.String())
	}
	return strings.Join(out, " ")
}

func wantError(t testing.TB, errs []*belay.Error, code belay.Code, text string) {
	t.Helper()
	if got := errors.Join(toErrors(errs)...).Error(); errs[0].Code != code || !strings.Contains(got, text) {
		t.Errorf("error is %s %q, want %s with %q", errs[0].Code, got, code, text)
	}
}

func toErrors(errs []*belay.Error) []error {
	out := make([]error, len(errs))
	for i, e := range errs {
		out[i] = e
	}
	return out
}

var _ render.Files = rendertest.Files{}
