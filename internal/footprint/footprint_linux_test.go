package footprint

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"testing"
)

// resident is what is resident of mapped files, in kB.
func resident(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "RssFile:"); ok {
			n, err := strconv.Atoi(strings.Fields(v)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("the kernel does not tell")
	return 0
}

// The program's pages go, and it goes on.
func TestReleaseLetsGoOfTheProgram(t *testing.T) {
	p := Find()
	if len(p.mappings) == 0 {
		t.Fatal("the program was not found")
	}
	var page byte // every page of the program is touched
	for _, m := range p.mappings {
		mem, err := os.Open("/proc/self/mem")
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, m.size)
		if _, err := mem.ReadAt(b, int64(m.start)); err != nil {
			t.Fatal(err)
		}
		page ^= b[0]
		_ = mem.Close()
	}
	before := resident(t)
	p.Release()
	if after := resident(t); after >= before {
		t.Errorf("%d kB of files before, %d kB after (%d)", before, after, page)
	}
}

func TestMappingsThatWereWrittenToStay(t *testing.T) {
	const smaps = `00400000-00401000 r-xp 00000000 08:01 1    /bin/x
Rss:                   4 kB
Anonymous:             0 kB
00401000-00403000 r--p 00001000 08:01 1    /bin/x
Rss:                   4 kB
Anonymous:             4 kB
00403000-00404000 rw-p 00003000 08:01 1    /bin/x
Anonymous:             0 kB
00404000-00405000 r--p 00000000 08:01 2    /lib/y
Anonymous:             0 kB
7fff00000000-7fff00001000 r-xp 00000000 00:00 0
Anonymous:             0 kB
`
	p := parse(bufio.NewScanner(strings.NewReader(smaps)), "/bin/x")
	if len(p.mappings) != 1 || p.mappings[0] != (mapping{0x400000, 0x1000}) {
		t.Errorf("%x", p.mappings)
	}
}
