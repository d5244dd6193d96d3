package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger/ledgertest"
	"github.com/belaydev/belay/internal/xec"
)

// killArgument makes the test program index a ledger and end.
const killArgument = "index-a-ledger"

func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == killArgument {
		x, err := Open(Options{Ledger: os.Args[2], Path: os.Args[3]})
		if err == nil {
			err = x.Refresh(context.Background())
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println("done")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Whenever whoever indexes is killed, the next one ends up with what the ledger says.
func TestAKillAtAnyMomentLosesNothing(t *testing.T) {
	self, err := os.Executable()
	must(t, err)
	l := ledgertest.New(t)
	l.Stream("main", ledgertest.Many("main", 6000))
	l.Stream("edge", ledgertest.Many("edge", 1000))
	path := filepath.Join(t.TempDir(), "index.sqlite")
	rnd := rand.New(rand.NewPCG(5, 6))
	killed, finished := 0, 0
	for round := range 15 {
		p, err := xec.Command{Path: self, Args: []string{killArgument, l.Dir, path}, Inherit: []string{"PATH", "HOME", "TMPDIR"}, Pipes: true}.Start(t.Context())
		must(t, err)
		timer := time.AfterFunc(time.Duration(20+rnd.IntN(400))*time.Millisecond, p.Kill)
		if p.Wait() == nil {
			finished++
		} else {
			killed++
		}
		timer.Stop()
		must(t, p.Stdin.Close())
		must(t, p.Stdout.Close())
		if round%5 == 4 { // begin anew, with whatever is left of the log
			if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) { // none of them may have come so far
				must(t, err)
			}
		}
	}
	if killed < 5 {
		t.Errorf("only %d of %d were killed", killed, killed+finished)
	}
	x, fresh := open(t, Options{Ledger: l.Dir, Path: path}), open(t, Options{Ledger: l.Dir})
	got, want := tables(t, x), tables(t, fresh)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the tables hold %v, made at once %v", got, want)
	}
	q := belay.RecordQuery{Limit: belay.MaxPage}
	for {
		a, nextA, errA := x.Records(t.Context(), q)
		b, nextB, errB := fresh.Records(t.Context(), q)
		if errA != nil || errB != nil || nextA != nextB || !reflect.DeepEqual(a, b) {
			t.Fatalf("after %q: %d records and %d, %v, %v", q.After, len(a), len(b), errA, errB)
		}
		if q.After = nextA; nextA == "" {
			return
		}
	}
}

// tables counts the rows of each table.
func tables(t *testing.T, x *Index) map[string]int {
	t.Helper()
	db, err := x.current(t.Context())
	must(t, err)
	rows := map[string]int{}
	for _, table := range []string{"writers", "names", "actors", "objects", "records", "bodies", "deployments", "commits", "touched"} {
		var n int
		must(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table).Scan(&n))
		rows[table] = n
	}
	return rows
}
