// Package version says what this binary was built from, as the Go toolchain
// recorded it. It must not know of release processes: no variable is set by
// linker flags, so that "go install module@version" tells the same as a release.
package version

import (
	"runtime"
	"runtime/debug"
	"time"

	"github.com/belaydev/belay"
)

// Devel is the version of a build that has none.
const Devel = "devel"

// Get returns what the running binary was built from.
func Get() belay.Build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return from(info)
}

func from(info *debug.BuildInfo) belay.Build {
	b := belay.Build{
		Version:  info.Main.Version,
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	if b.Version == "" || b.Version == "(devel)" {
		b.Version = Devel
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			// A time that cannot be read is a time that is not known.
			b.Time, _ = time.Parse(time.RFC3339, s.Value)
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// String is one line for people: "v1.2.3 (commit 1a2b3c4d5e, go1.26.0, linux/amd64)".
func String(b belay.Build) string {
	s := b.Version + " ("
	if b.Commit != "" {
		s += "commit " + belay.Revision{Commit: b.Commit}.Short()
		if b.Modified {
			s += " with changes"
		}
		s += ", "
	}
	return s + b.Go + ", " + b.Platform + ")"
}
