// Package term writes for people: tables, trees, previews, colour and progress,
// each as the stream it goes to can show it. Text from outside is cleaned of
// control characters, so that no commit message or cluster can steer a terminal.
//
// It must not know where values come from, and it decides nothing: what to show
// is the command's business.
package term

import (
	"io"
	"os"
	"strings"
	"unicode"

	xterm "golang.org/x/term"
	"golang.org/x/text/width"
)

// Printer writes to one stream in the way that suits it.
type Printer struct {
	w io.Writer
	// Colour switches escape sequences on.
	Colour bool
	// Width is the number of columns; 0 means no limit.
	Width int
}

// New makes a Printer for w. It uses colour and a width only if w is a
// terminal, and no colour where NO_COLOR is set or TERM is "dumb".
func New(w io.Writer, getenv func(string) string) *Printer {
	p := &Printer{w: w}
	f, ok := w.(*os.File)
	if !ok || !xterm.IsTerminal(int(f.Fd())) {
		return p
	}
	p.Colour = getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
	if cols, _, err := xterm.GetSize(int(f.Fd())); err == nil {
		p.Width = cols
	}
	return p
}

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && xterm.IsTerminal(int(f.Fd()))
}

// Redirect makes p write to w, still in the way that suits its first stream.
func (p *Printer) Redirect(w io.Writer) { p.w = w }

// Write writes bytes as they are.
func (p *Printer) Write(b []byte) (int, error) { return p.w.Write(b) }

// Style is how a piece of text looks.
type Style string

// The styles; each is the parameters of an SGR escape sequence.
const (
	Plain  Style = ""
	Bold   Style = "1"
	Faint  Style = "2"
	Red    Style = "31"
	Green  Style = "32"
	Yellow Style = "33"
	Cyan   Style = "36"
)

// Paint returns s in a style, or s itself where there is no colour.
func (p *Printer) Paint(style Style, s string) string {
	if !p.Colour || style == Plain || s == "" {
		return s
	}
	return "\x1b[" + string(style) + "m" + s + "\x1b[0m"
}

// Clean makes text from outside fit for one line of a terminal: runs of white
// space become one blank, other control characters and those that turn the
// direction of writing become U+FFFD.
func Clean(s string) string {
	return strings.Join(strings.Fields(CleanLine(s)), " ")
}

// CleanLine is [Clean] that keeps blanks as they are; line breaks and tabs
// become blanks.
func CleanLine(s string) string {
	if !strings.ContainsFunc(s, steers) {
		return s
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n' || r == '\r':
			return ' '
		case steers(r):
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// steers reports whether a terminal does something with r other than show it.
func steers(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)
}

// Columns is the number of terminal columns that s takes.
func Columns(s string) int {
	n := 0
	for _, r := range s {
		n += runeColumns(r)
	}
	return n
}

func runeColumns(r rune) int {
	if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// Truncate shortens s to at most n columns, the last of them an ellipsis.
func Truncate(s string, n int) string {
	if n <= 0 || Columns(s) <= n {
		return s
	}
	used := 0
	for i, r := range s {
		if used+runeColumns(r) > n-1 {
			return s[:i] + "…"
		}
		used += runeColumns(r)
	}
	return s
}
