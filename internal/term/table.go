package term

import (
	"strings"

	"github.com/belaydev/belay"
)

// Cell is one field of a table.
type Cell struct {
	Text  string
	Style Style
}

// Text makes an unstyled cell.
func Text(s string) Cell { return Cell{Text: s} }

// Table is rows of cells under a head. Columns are as wide as their widest
// cell; on a terminal the last one is shortened to what is left of the width.
type Table struct {
	head []string
	rows [][]Cell
}

// NewTable makes a table with these column names.
func NewTable(head ...string) *Table { return &Table{head: head} }

// Row appends a row. Cells are cleaned; an empty one shows as "-", but for the last.
func (t *Table) Row(cells ...Cell) {
	for i := range cells {
		cells[i].Text = Clean(cells[i].Text)
		if cells[i].Text == "" && i < len(t.head)-1 {
			cells[i].Text = "-"
		}
	}
	t.rows = append(t.rows, cells)
}

// minLast is the width below which a last column is not shortened: text that is
// cut to nothing says nothing.
const minLast = 12

// Print writes the table.
func (p *Printer) Print(t *Table) error {
	widths := make([]int, len(t.head))
	for i, h := range t.head {
		widths[i] = Columns(h)
	}
	for _, r := range t.rows {
		for i, c := range r {
			widths[i] = max(widths[i], Columns(c.Text))
		}
	}
	left := 0 // of the last column
	if p.Width > 0 {
		used := 0
		for _, w := range widths[:len(widths)-1] {
			used += w + 2
		}
		left = max(p.Width-used, minLast)
	}
	var b strings.Builder
	line := func(cells []Cell) {
		for i, c := range cells {
			text, last := c.Text, i == len(cells)-1
			if last {
				text = Truncate(text, left)
			}
			b.WriteString(p.Paint(c.Style, text))
			if !last {
				b.WriteString(strings.Repeat(" ", widths[i]-Columns(text)+2))
			}
		}
		trimmed := strings.TrimRight(b.String(), " ")
		b.Reset()
		b.WriteString(trimmed + "\n")
	}
	head := make([]Cell, len(t.head))
	for i, h := range t.head {
		head[i] = Cell{h, Bold}
	}
	for _, r := range append([][]Cell{head}, t.rows...) {
		line(r)
	}
	_, err := p.w.Write([]byte(b.String()))
	return err
}

// SyncCell shows a sync state.
func SyncCell(s belay.SyncState) Cell {
	switch s {
	case belay.Synced:
		return Cell{string(s), Green}
	case belay.OutOfSync:
		return Cell{string(s), Yellow}
	}
	return Cell{string(s), Faint}
}

// HealthCell shows a health.
func HealthCell(h belay.Health) Cell {
	switch h {
	case belay.Healthy:
		return Cell{string(h), Green}
	case belay.Degraded, belay.Missing:
		return Cell{string(h), Red}
	case belay.Progressing, belay.Suspended:
		return Cell{string(h), Yellow}
	}
	return Cell{string(h), Faint}
}
