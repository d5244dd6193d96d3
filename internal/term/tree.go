package term

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/belaydev/belay"
)

// Tree writes an application's objects in the order in which they are applied:
// grouped by wave when there is more than wave 0, with the state of each, and
// below an object why it is not right.
func (p *Printer) Tree(name string, objects []belay.ObjectStatus) error {
	objects = slices.Clone(objects)
	slices.SortStableFunc(objects, func(a, b belay.ObjectStatus) int {
		return cmp.Or(cmp.Compare(a.Wave, b.Wave), a.Compare(b.ObjectID))
	})
	idWidth, syncWidth, healthWidth := 0, 0, 0
	for i := range objects {
		sync, health := cells(&objects[i])
		idWidth = max(idWidth, Columns(Clean(objects[i].String())))
		syncWidth = max(syncWidth, len(sync.Text))
		healthWidth = max(healthWidth, len(health.Text))
	}
	var b strings.Builder
	leaf := func(prefix, branch, below string, o *belay.ObjectStatus) {
		id := Clean(o.String())
		sync, health := cells(o)
		fmt.Fprintf(&b, "%s%s%s  %s%s  %s", prefix, branch, pad(id, idWidth),
			p.Paint(sync.Style, sync.Text), strings.Repeat(" ", syncWidth-len(sync.Text)), p.Paint(health.Style, health.Text))
		if o.File != "" {
			b.WriteString(strings.Repeat(" ", healthWidth-len(health.Text)) + "  " +
				p.Paint(Faint, Clean(belay.Origin{File: o.File, Line: o.Line}.String())))
		}
		b.WriteByte('\n')
		if o.Message != "" {
			// The line above it names file and object already.
			msg := strings.TrimPrefix(o.Message, belay.Origin{File: o.File, Line: o.Line}.String()+": ")
			msg = strings.TrimPrefix(msg, o.String()+": ")
			b.WriteString(prefix + below + "  " + Clean(msg) + "\n")
		}
	}
	b.WriteString(p.Paint(Bold, Clean(name)) + "\n")
	waves := slices.Collect(chunksByWave(objects))
	flat := len(waves) == 1 && waves[0][0].Wave == 0
	for wi, wave := range waves {
		prefix := ""
		if !flat {
			branch, below := "├─ ", "│  "
			if wi == len(waves)-1 {
				branch, below = "└─ ", "   "
			}
			fmt.Fprintf(&b, "%swave %d\n", branch, wave[0].Wave)
			prefix = below
		}
		for i := range wave {
			branch, below := "├─ ", "│  "
			if i == len(wave)-1 {
				branch, below = "└─ ", "   "
			}
			leaf(prefix, branch, below, &wave[i])
		}
	}
	_, err := p.w.Write([]byte(b.String()))
	return err
}

// cells say how an object is: of a hook, when it runs and how far it is.
func cells(o *belay.ObjectStatus) (sync, health Cell) {
	sync, health = SyncCell(o.Sync), HealthCell(o.Health)
	if o.Hook == nil {
		return sync, health
	}
	phases := make([]string, len(o.Hook.Phases))
	for i, p := range o.Hook.Phases {
		phases[i] = Clean(string(p))
	}
	sync = Cell{Text: strings.Join(phases, ",") + " hook", Style: Plain}
	health.Text = Clean(string(cmp.Or(o.Hook.State, "-")))
	return sync, health
}

// chunksByWave splits objects, which are sorted by wave.
func chunksByWave(objects []belay.ObjectStatus) func(yield func([]belay.ObjectStatus) bool) {
	return func(yield func([]belay.ObjectStatus) bool) {
		for len(objects) > 0 {
			n := 1
			for n < len(objects) && objects[n].Wave == objects[0].Wave {
				n++
			}
			if !yield(objects[:n]) {
				return
			}
			objects = objects[n:]
		}
	}
}

func pad(s string, columns int) string {
	return s + strings.Repeat(" ", max(columns-Columns(s), 0))
}
