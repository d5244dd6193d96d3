package index

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger/ledgertest"
	"github.com/belaydev/belay/internal/ledger/record"
)

func open(t testing.TB, o Options) *Index {
	t.Helper()
	x, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

// all pages through the answer to a query.
func all(t testing.TB, x *Index, q belay.RecordQuery) []string {
	t.Helper()
	ids := []string{}
	for {
		records, next, err := x.Records(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for i := range records {
			ids = append(ids, records[i].ID())
		}
		if next == "" {
			return ids
		}
		if next != ids[len(ids)-1] {
			t.Fatalf("the next page is after %s, this one ended with %s", next, ids[len(ids)-1])
		}
		q.After = next
	}
}

// The index says of any query what looking at every event says.
func TestQueriesChooseWhatLookingAtEachRecordChooses(t *testing.T) {
	l := ledgertest.New(t)
	var records []belay.Record
	for _, writer := range []string{"main", "edge"} {
		var events []belay.Event
		for ev := range ledgertest.Many(writer, 300) {
			if writer == "edge" && ev.Application != "" {
				ev.Application = "edge-" + ev.Application
			}
			events = append(events, ev)
			records = append(records, belay.Record{Writer: writer, Seq: uint64(len(events)), Event: ev})
		}
		l.AppendTo(writer, events...)
	}
	x := open(t, Options{Ledger: l.Dir})
	// Writers in the order in which the index met them: edge, main.
	slices.SortStableFunc(records, func(a, b belay.Record) int {
		return cmp.Or(b.Event.Time.Compare(a.Event.Time), cmp.Compare(b.Writer, a.Writer), cmp.Compare(b.Seq, a.Seq))
	})
	rnd := rand.New(rand.NewPCG(1, 2))
	pick := func(s ...string) []string {
		if rnd.IntN(3) > 0 {
			return nil
		}
		return s
	}
	chosen := 0
	most := often
	t.Cleanup(func() { often = most })
	for n := range 300 {
		if often = most; n%2 == 0 {
			often = 50
		}
		q := belay.RecordQuery{
			Applications: pick(fmt.Sprintf("app-%02d", rnd.IntN(50)), fmt.Sprintf("edge-app-%02d", rnd.IntN(50))),
			Projects:     pick("team-1", "nobody"), Clusters: pick("cluster-0", "cluster-2"),
			Person: strings.Join(pick([]string{"LISKOV", "lovelace", "kubectl"}[rnd.IntN(3)]), ""), Change: strings.Join(pick(ledgertest.Hash(rnd.IntN(4))[:6]), ""),
			Writer: strings.Join(pick("edge"), ""), Object: strings.Join(pick(fmt.Sprintf("deployment/web-%02d", rnd.IntN(50))), ""),
			Limit: 1 + rnd.IntN(200), Brief: rnd.IntN(2) == 0,
		}
		if rnd.IntN(3) == 0 {
			q.Types = []belay.EventType{belay.EventSynced, belay.EventDrift}
		}
		if rnd.IntN(3) == 0 {
			q.From = ledgertest.Begin.Add(time.Duration(rnd.IntN(300)) * time.Minute)
		}
		if rnd.IntN(3) == 0 {
			q.To = ledgertest.Begin.Add(time.Duration(rnd.IntN(300)) * time.Minute)
		}
		want := []string{}
		for i := range records {
			if fits(&q, &records[i], records) {
				want = append(want, records[i].ID())
			}
		}
		if got := all(t, x, q); !slices.Equal(got, want) {
			t.Fatalf("%+v:\ngot  %v\nwant %v", q, got, want)
		}
		chosen += len(want)
	}
	if chosen < 1000 {
		t.Errorf("the queries chose %d records: they try little", chosen)
	}
}

// fits is the meaning of a query, told without an index.
func fits(q *belay.RecordQuery, r *belay.Record, records []belay.Record) bool {
	ev := &r.Event
	in := func(list []string, s string) bool { return len(list) == 0 || slices.Contains(list, s) }
	ok := in(q.Applications, ev.Application) && in(q.Projects, ev.Project) && in(q.Clusters, ev.Cluster) &&
		(len(q.Types) == 0 || slices.Contains(q.Types, ev.Type)) && concerns(ev, q.Person) &&
		(q.Writer == "" || q.Writer == r.Writer) && (q.From.IsZero() || !ev.Time.Before(q.From)) && (q.To.IsZero() || ev.Time.Before(q.To))
	if q.Change != "" {
		hashes := []string{ev.Change, ev.Revision}
		if ev.Detail != nil {
			for _, c := range ev.Detail.Commits {
				hashes = append(hashes, c.ID)
			}
			for _, s := range ev.Detail.Sources {
				hashes = append(hashes, s.Revision)
			}
		}
		ok = ok && slices.ContainsFunc(hashes, func(h string) bool { return strings.HasPrefix(h, q.Change) })
	}
	if q.Object == "" {
		return ok
	}
	name := q.Object[strings.LastIndex(q.Object, "/")+1:]
	touches := func(ev *belay.Event) bool {
		return strings.HasSuffix(ev.Object, "/"+name) || ev.Detail != nil && slices.ContainsFunc(ev.Detail.Objects, func(o belay.ObjectResult) bool { return o.ID.Name == name })
	}
	return ok && (touches(ev) || ev.Type == belay.EventSyncStarted && slices.ContainsFunc(records, func(o belay.Record) bool { return o.Event.Deployment == r.ID() && touches(&o.Event) }))
}

// concerns says whether somebody caused an event, or had a part in its commits.
func concerns(ev *belay.Event, person string) bool {
	people := []string{ev.Actor}
	if ev.Detail != nil {
		for _, c := range ev.Detail.Commits {
			people = append(people, slices.Concat([]string{c.Author}, c.Reviewers, c.Approvers)...)
		}
	}
	return slices.ContainsFunc(people, func(who string) bool { return strings.Contains(strings.ToLower(who), strings.ToLower(person)) })
}

func TestAQuestionSeesEveryRecordThatWasThereBefore(t *testing.T) {
	l := ledgertest.New(t)
	path := filepath.Join(t.TempDir(), "index.sqlite")
	x := open(t, Options{Ledger: l.Dir, Path: path})
	if got := all(t, x, belay.RecordQuery{}); len(got) != 0 {
		t.Fatalf("an empty ledger has %v", got)
	}
	var want []string
	for i := range 20 {
		ids := l.Append(belay.Event{Time: ledgertest.Begin.Add(time.Duration(i) * time.Second), Type: belay.EventError, Message: fmt.Sprint(i)})
		want = append(ids, want...)
		if i%7 == 3 {
			l.Git("pack-refs", "--all")
		}
		if i == 10 {
			l.Git("repack", "-adq")
		}
		if got := all(t, x, belay.RecordQuery{}); !slices.Equal(got, want) {
			t.Fatalf("after %v: %v", ids, got)
		}
		// Another process has another index in the same file.
		if got := all(t, open(t, Options{Ledger: l.Dir, Path: path}), belay.RecordQuery{}); !slices.Equal(got, want) {
			t.Fatalf("after %v another one says %v", ids, got)
		}
	}
}

// Whatever the cache is, the ledger counts.
func TestAnIndexOfNoUseIsMadeAnew(t *testing.T) {
	spoil := map[string]func(t *testing.T, l *ledgertest.Ledger, path string){
		"missing": func(t *testing.T, _ *ledgertest.Ledger, path string) { must(t, remove(path)) },
		"empty":   func(t *testing.T, _ *ledgertest.Ledger, path string) { write(t, path, nil) },
		"garbage": func(t *testing.T, _ *ledgertest.Ledger, path string) {
			write(t, path, []byte(strings.Repeat("no database ", 5000)))
		},
		"truncated": func(t *testing.T, _ *ledgertest.Ledger, path string) { must(t, os.Truncate(path, 8192+100)) },
		"middle": func(t *testing.T, _ *ledgertest.Ledger, path string) {
			b, err := os.ReadFile(path)
			must(t, err)
			for i := 4096; i < len(b); i++ {
				b[i] ^= 0x5a
			}
			write(t, path, b)
		},
		"a body": func(t *testing.T, _ *ledgertest.Ledger, path string) {
			db, err := connect(path)
			must(t, err)
			_, err = db.ExecContext(t.Context(), `UPDATE bodies SET body = replace(body, 'somebody', 'nobody!!')`)
			must(t, err)
			must(t, db.Close())
		},
		"version": func(t *testing.T, _ *ledgertest.Ledger, path string) {
			db, err := connect(path)
			must(t, err)
			_, err = db.ExecContext(t.Context(), `DELETE FROM records; PRAGMA user_version = 99`)
			must(t, err)
			must(t, db.Close())
		},
		"rewritten": func(_ *testing.T, l *ledgertest.Ledger, _ string) {
			tip := l.Git("commit-tree", "-p", "ledger/main~3", "-m", "no record", "ledger/main^{tree}")
			l.Git("update-ref", record.Branch("main"), tip)
		},
		"back": func(_ *testing.T, l *ledgertest.Ledger, _ string) {
			l.Git("update-ref", record.Branch("main"), "ledger/main~5")
		},
		"branch gone": func(_ *testing.T, l *ledgertest.Ledger, _ string) { l.Git("update-ref", "-d", record.Branch("edge")) },
	}
	for name, spoil := range spoil {
		t.Run(name, func(t *testing.T) {
			l := ledgertest.New(t)
			l.Stream("main", ledgertest.Many("main", 60))
			l.Stream("edge", ledgertest.Many("edge", 30))
			path := filepath.Join(t.TempDir(), "dir with spaces", "index?.sqlite")
			x := open(t, Options{Ledger: l.Dir, Path: path})
			before := all(t, x, belay.RecordQuery{})
			if len(before) != 90 {
				t.Fatalf("%d records", len(before))
			}
			must(t, x.Close())
			spoil(t, l, path)
			fresh := open(t, Options{Ledger: l.Dir})
			again := open(t, Options{Ledger: l.Dir, Path: path})
			got, want := records(t, again), records(t, fresh)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("it has %d records, one made now has %d", len(got), len(want))
			}
			if again.NoRecords() != fresh.NoRecords() || (name == "rewritten") != (fresh.NoRecords() == 1) {
				t.Errorf("%d and %d commits are no records", again.NoRecords(), fresh.NoRecords())
			}
			if files := len(got) == len(before); files == (name == "rewritten" || name == "back" || name == "branch gone") {
				t.Errorf("%d records before, %d after", len(before), len(got))
			}
		})
	}
}

func records(t *testing.T, x *Index) []belay.Record {
	t.Helper()
	r, _, err := x.Records(t.Context(), belay.RecordQuery{Limit: belay.MaxPage})
	must(t, err)
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	must(t, os.WriteFile(path, b, 0o600))
}

func TestAnIndexThatIsDamagedUnderUsIsMadeAnew(t *testing.T) {
	l := ledgertest.New(t)
	l.Stream("main", ledgertest.Many("main", 60))
	path := filepath.Join(t.TempDir(), "index.sqlite")
	x := open(t, Options{Ledger: l.Dir, Path: path})
	want := records(t, x)
	db, err := x.current(t.Context())
	must(t, err)
	_, err = db.ExecContext(t.Context(), `UPDATE bodies SET body = zeroblob(40) WHERE id = 30`)
	must(t, err)
	if got := records(t, x); !reflect.DeepEqual(got, want) {
		t.Errorf("%d records, before %d", len(got), len(want))
	}
}

func TestAPlainCloneIsRead(t *testing.T) {
	l := ledgertest.New(t)
	l.Stream("main", ledgertest.Many("main", 20))
	l.Stream("edge", ledgertest.Many("edge", 10))
	clone := filepath.Join(t.TempDir(), "clone")
	l.Git("clone", "-q", l.Dir, clone)
	x := open(t, Options{Ledger: clone})
	if got := len(all(t, x, belay.RecordQuery{})); got != 30 {
		t.Errorf("%d records in a clone", got)
	}
	// Its own branch stays behind when it fetches.
	l.Append(belay.Event{Time: ledgertest.Begin, Type: belay.EventError, Message: "one more"})
	l.Git("-C", clone, "fetch", "-q")
	if got := len(all(t, x, belay.RecordQuery{})); got != 31 {
		t.Errorf("%d records after a fetch", got)
	}
	l.Git("clone", "-q", "--bare", l.Dir, clone+".git")
	if got := len(all(t, open(t, Options{Ledger: clone + ".git"}), belay.RecordQuery{})); got != 31 {
		t.Errorf("%d records in a bare clone", got)
	}
	if _, err := Open(Options{Ledger: t.TempDir()}); err == nil {
		t.Error("an empty directory is taken for a ledger")
	}
}

func TestRecordsAreFoundByWhatPeopleHave(t *testing.T) {
	l := ledgertest.New(t)
	l.Stream("main", ledgertest.Many("main", 30))
	x := open(t, Options{Ledger: l.Dir})
	want, err := x.Record(t.Context(), "main/12")
	must(t, err)
	if want.Commit != l.Git("rev-parse", "ledger/main~18") || want.ID() != "main/12" {
		t.Errorf("main/12 is %s %s", want.ID(), want.Commit)
	}
	for _, id := range []string{"12", "-/12", want.Commit, want.Commit[:9], "-/" + want.Commit[:12], strings.ToUpper(want.Commit)} {
		if got, err := x.Record(t.Context(), id); err != nil || got.ID() != want.ID() {
			t.Errorf("%s is %s, %v", id, got.ID(), err)
		}
	}
	for _, id := range []string{"", "31", "main/31", "edge/1", "0", "fffffffff", "main/", "x'; DROP TABLE records"} {
		if got, err := x.Record(t.Context(), id); err == nil {
			t.Errorf("%q is %s", id, got.ID())
		}
	}
	l.AppendTo("edge", belay.Event{Time: ledgertest.Begin, Type: belay.EventError, Message: "one"})
	if _, err := x.Record(t.Context(), "12"); err == nil || !strings.Contains(err.Error(), "2 writers") {
		t.Errorf("12 of two writers: %v", err)
	}
}

func TestPagesAreBounded(t *testing.T) {
	l := ledgertest.New(t)
	big := strings.Repeat("x", 3<<20)
	for i := range 6 {
		l.Append(belay.Event{Time: ledgertest.Begin.Add(time.Duration(i) * time.Second), Type: belay.EventError, Message: "large",
			Detail: &belay.Detail{Drift: nil, Commits: []belay.Commit{{ID: ledgertest.Hash(i), Subject: big}}}})
	}
	x := open(t, Options{Ledger: l.Dir})
	page, next, err := x.Records(t.Context(), belay.RecordQuery{})
	if err != nil || len(page) == 0 || len(page) > 4 || next == "" {
		t.Errorf("a page of %d, next %q, %v", len(page), next, err)
	}
	if got := all(t, x, belay.RecordQuery{}); len(got) != 6 {
		t.Errorf("%d in all pages", len(got))
	}
	page, next, err = x.Records(t.Context(), belay.RecordQuery{Brief: true})
	if err != nil || len(page) != 6 || next != "" || page[0].Event.Detail != nil {
		t.Errorf("in brief a page of %d, next %q, %v", len(page), next, err)
	}
}

func TestAQuestionEndsWithItsContext(t *testing.T) {
	l := ledgertest.New(t)
	l.Stream("main", ledgertest.Many("main", 30))
	x := open(t, Options{Ledger: l.Dir})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := x.Records(ctx, belay.RecordQuery{}); err == nil {
		t.Error("an answer after the end")
	}
	if got := all(t, x, belay.RecordQuery{}); len(got) != 30 {
		t.Errorf("then %d records", len(got))
	}
}

func TestItFollowsWhenItIsWoken(t *testing.T) {
	l := ledgertest.New(t)
	path := filepath.Join(t.TempDir(), "index.sqlite")
	x := open(t, Options{Ledger: l.Dir, Path: path})
	l.Stream("main", ledgertest.Many("main", 30))
	x.Wake()
	x.Wake()
	for { // ends with the test's time
		x.mu.Lock()
		done := x.seen != "" && x.wake == nil
		x.mu.Unlock()
		if done {
			break
		}
		runtime.Gosched()
	}
	must(t, x.Close())
	x.Wake() // of no use, and no harm
	if err := x.Refresh(t.Context()); err == nil {
		t.Error("a closed index follows")
	}
	db, err := connect(path)
	must(t, err)
	var n int
	must(t, db.QueryRowContext(t.Context(), `SELECT count(*) FROM records`).Scan(&n))
	must(t, db.Close())
	if n != 30 {
		t.Errorf("%d records before anybody asked", n)
	}
}

// What is no record is left out and counted, whatever it says.
func TestCommitsThatAreNoRecordsAreLeftOut(t *testing.T) {
	l := ledgertest.New(t)
	l.Stream("main", ledgertest.Many("main", 10))
	for _, message := range []string{
		"no trailers", "folded\n\nBelay-Event: synced\nApplication: a\n b\n c\nCluster: x\nCluster: y\n", "elsewhere\n\nBelay-Event: synced\nApplication: ../../x\nCluster: .\n",
		"deployment without one\n\nBelay-Event: syncStarted\n", "an old record again\n\nBelay-Event: drift\nApplication: app-21\nCluster: cluster-0\n",
	} {
		l.Git("update-ref", record.Branch("main"), l.Git("commit-tree", "-p", "ledger/main", "-m", message, "ledger/main^{tree}"))
	}
	x := open(t, Options{Ledger: l.Dir})
	if got := all(t, x, belay.RecordQuery{}); len(got) != 10 || x.NoRecords() != 5 {
		t.Errorf("%d records, and %d commits that are none", len(got), x.NoRecords())
	}
	// What a writer of another name wrote is not taken for this one's.
	l.Git("update-ref", record.Branch("other"), "ledger/main~5")
	if got := all(t, x, belay.RecordQuery{}); len(got) != 10 || x.NoRecords() != 15 {
		t.Errorf("%d records, and %d commits that are none, with a copied branch", len(got), x.NoRecords())
	}
}

// Where there is no room for the index a question says so; with room it is answered.
func TestAFullDiskIsToldAndGotOver(t *testing.T) {
	l := ledgertest.New(t)
	l.Stream("main", ledgertest.Many("main", 50))
	x := open(t, Options{Ledger: l.Dir, Path: filepath.Join(t.TempDir(), "index.sqlite")})
	db, err := x.current(t.Context())
	must(t, err)
	db.SetMaxOpenConns(1) // the bound is one of the connection
	_, err = db.ExecContext(t.Context(), `PRAGMA max_page_count = 10`)
	must(t, err)
	l.Stream("main", ledgertest.Many("main", 3000))
	for range 3 {
		_, _, err = x.Records(t.Context(), belay.RecordQuery{})
		if e, ok := errors.AsType[*belay.Error](err); !ok || e.Code != belay.CodeUnavailable || !strings.Contains(e.Message, "no room") {
			t.Fatalf("on a full disk: %v", err)
		}
	}
	_, err = db.ExecContext(t.Context(), `PRAGMA max_page_count = 1000000`)
	must(t, err)
	if got := all(t, x, belay.RecordQuery{}); len(got) != 3050 {
		t.Errorf("with room it has %d records", len(got))
	}
}
