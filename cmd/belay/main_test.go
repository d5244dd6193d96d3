package main

import (
	"log/slog"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/kube"
	"github.com/belaydev/belay/internal/render"
	"github.com/belaydev/belay/internal/render/worker"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == render.WorkerArgument {
		worker.Main()
		return
	}
	completionPatience, versionPatience = devtest.Patience, devtest.Patience // in the commands of scripts, too
	if len(os.Args) > 2 && os.Args[1] == recorderArgument {
		os.Exit(recordWorker(os.Args[2]))
	}
	if code, ok := e2eProcess(); ok {
		os.Exit(code)
	}
	kube.SetLogger(slog.New(slog.DiscardHandler)) // before any of its clients runs: commands run in this process, too
	testscript.Main(m, map[string]func(){"belay": main})
}

// TestScripts runs testdata/script/*.txtar. Beside testscript's own commands
// they have those of scriptCommands.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("TZ", "UTC")
			// Nothing listens there: scripts that want a server start one.
			e.Setenv("BELAY_SERVER", "http://127.0.0.1:1")
			setupScript(e)
			return nil
		},
		Cmds: scriptCommands,
	})
}
