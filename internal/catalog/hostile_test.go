package catalog_test

import (
	"strings"
	"testing"
	"time"
)

// TestHostileFilesEnd feeds large files made of whatever is dear to parse.
func TestHostileFilesEnd(t *testing.T) {
	const size = 96 << 10 // what is dear grows faster than its size
	repeat := func(s string) string { return strings.Repeat(s, size/len(s)) }
	var stairs strings.Builder
	for i := 0; stairs.Len() < size/2; i++ {
		stairs.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	for name, text := range map[string]string{
		"lists": repeat("["), "mappings": repeat("{a: "), "questions": repeat("? "), "dashes": repeat("- "), "anchors": repeat("&a "), "tags": repeat("!!x "),
		"comments": repeat("# a\n"), "comments in a mapping": repeat("a: b # c\n# d\n\n"), "keys": repeat("a: b\n"), "documents": repeat("---\n"),
		"broken documents": repeat("---\n{\n"), "small documents": repeat("---\na\n"), "one line": "a: " + repeat("x")[4:], "one key": repeat("x")[4:] + ": 1", "quotes": `"` + repeat(`\n`)[4:] + `"`,
		"stairs": stairs.String(), "blank": repeat("\n"), "block": "a: |\n" + repeat(" x\n")[8:], "aliases": "a: &a 1\nb: [" + repeat("*a,")[40:] + "]", "tabs": repeat("\t"),
		"late error": repeat("a: b\n")[100:] + "\n a: [\n", "colons": repeat(": "), "flow": "[" + repeat("a,")[4:] + "]", "unknown fields": app("a", repeat("x: 1\n")[120:]),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			load(t, nil, "c1", map[string]string{"a.yaml": text})
			d := time.Since(start)
			t.Logf("%s for %d KiB", d, len(text)>>10)
			if d > time.Minute {
				t.Errorf("%d KiB took %s", len(text)>>10, d)
			}
		})
	}
}
