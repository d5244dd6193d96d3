package version

import (
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

func TestFrom(t *testing.T) {
	b := from(&debug.BuildInfo{
		Main: debug.Module{Version: "v1.2.3"},
		Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "0123456789abcdef0123456789abcdef01234567"},
			{Key: "vcs.time", Value: "2026-01-02T03:04:05Z"},
			{Key: "vcs.modified", Value: "true"},
		},
	})
	if b.Version != "v1.2.3" || b.Commit != "0123456789abcdef0123456789abcdef01234567" || !b.Modified {
		t.Errorf("got %+v", b)
	}
	if want := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC); !b.Time.Equal(want) {
		t.Errorf("time is %v, want %v", b.Time, want)
	}
	if got, want := String(b), "v1.2.3 (commit 0123456789 with changes, go"; !strings.HasPrefix(got, want) {
		t.Errorf("String() = %q, want the prefix %q", got, want)
	}
}

func TestDevelopmentBuildHasAVersion(t *testing.T) {
	for _, v := range []string{"", "(devel)"} {
		if b := from(&debug.BuildInfo{Main: debug.Module{Version: v}}); b.Version != Devel {
			t.Errorf("version of %q is %q, want %q", v, b.Version, Devel)
		}
	}
	if b := Get(); b.Version == "" || b.Go == "" || b.Platform == "" {
		t.Errorf("Get() left something empty: %+v", b)
	}
}
