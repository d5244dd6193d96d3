package main

import (
	"encoding/json"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger/ledgertest"
)

// ledgerOf makes a ledger at DIR of FILE, which has an event a line. The records
// are those of the writer main, from main/1.
func ledgerOf(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: ledger-of DIR FILE")
	}
	var events []belay.Event
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		var ev belay.Event
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			ts.Fatalf("%v: %s", err, line)
		}
		events = append(events, ev)
	}
	ledgertest.Init(scriptTB{ts}, ts.MkAbs(args[0])).Append(events...)
}
