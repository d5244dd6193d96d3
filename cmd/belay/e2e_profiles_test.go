package main

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
)

// Profiles are served where the flag says and nowhere else, and the metrics tell
// of the process and its disk.
func TestProfilesAndFiguresOfTheProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit("One application", map[string]string{"belay/a.yaml": application("a", "apps/a", "NS-a"), "apps/a/a.yaml": configMap("a", "1")})
	s := w.serve("--pprof-listen", "127.0.0.1:0", "--pprof-contention")
	s.awaitSynced("a")
	var profiles string
	for _, l := range s.log.lines() {
		if l["msg"] == "profiles are served" {
			profiles, _ = l["url"].(string)
		}
	}
	for path, want := range map[string]string{"goroutine?debug=1": "internal/reconcile", "mutex?debug=1": "sampling period=100"} {
		resp, err := http.Get(profiles + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d %v, without %q:\n%.500s", path, resp.StatusCode, err, want, body)
		}
	}
	resp, err := http.Get(s.url + "/debug/pprof/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("the API serves profiles, too: %d", resp.StatusCode)
	}
	for _, name := range []string{"go_goroutines", "go_memstats_heap_inuse_bytes", "process_start_time_seconds",
		`belay_data_bytes{part="ledger"}`, `belay_data_bytes{part="mirrors"}`, `belay_data_files{part="renders"}`} {
		// What is on the disk is looked at once a minute, and nobody waits for that.
		devtest.Await(t, name+" to be told", func() error {
			for line := range strings.Lines(s.get("/metrics")) {
				if value, ok := strings.CutPrefix(line, name+" "); ok && strings.TrimSpace(value) != "0" {
					return nil
				}
			}
			return errors.New("it is not there, or nothing")
		})
	}
	s.stop()
}

func TestProfileFlags(t *testing.T) {
	for _, test := range []struct {
		options openOptions
		code    belay.Code
		says    string
	}{
		{openOptions{profiles: "0.0.0.0:0"}, belay.CodeDenied, "loopback"},
		{openOptions{profiles: "6060"}, belay.CodeInvalid, "--pprof-listen"},
		{openOptions{contention: true}, belay.CodeInternal, "--pprof-listen"}, // a slip of usage, which has no code of its own
	} {
		l, err := test.options.listen(t.Context())
		if belay.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%+v: %v, want %s and %q", test.options, err, test.code, test.says)
		}
		l.close()
	}
	none := openOptions{}
	if l, err := none.listen(t.Context()); err != nil || l.profiles != nil {
		t.Errorf("without flags: %+v %v", l, err)
	}
}
