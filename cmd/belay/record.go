package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/evidence"
	"github.com/belaydev/belay/internal/git"
	"github.com/belaydev/belay/internal/ledger/index"
	"github.com/belaydev/belay/internal/server"
)

// recordReader answers questions of what happened: a server, or a ledger that is
// read here. Both say what a server says.
type recordReader = server.Record

// indexFile is the index of the ledger in the data directory. It is a cache.
const indexFile = "ledger.sqlite"

// openIndex opens the index of a server's own ledger.
func openIndex(data *dataDir, flush func(context.Context), log *slog.Logger) (*index.Index, error) {
	return index.Open(index.Options{Ledger: filepath.Join(data.path, ledgerDir), Path: filepath.Join(data.path, indexFile), Flush: flush, Log: log.With("component", "index")})
}

// addLedger adds --ledger to a command that asks the record.
func addLedger(cmd *cobra.Command) *string {
	where := new(string)
	cmd.Flags().StringVar(where, "ledger", "", "read this ledger instead of asking a server: a data directory, a repository, or the URL of one")
	return where
}

// withRecord calls ask with whoever answers: the server, or the ledger that
// --ledger names.
func (e *env) withRecord(ctx context.Context, where string, ask func(recordReader) error) error {
	if where == "" {
		c, err := e.client()
		if err != nil {
			return err
		}
		return ask(c)
	}
	dir, cloned, done, err := e.ledgerAt(ctx, where)
	if err != nil {
		return err
	}
	defer done()
	o := index.Options{Ledger: dir, Log: e.log}
	if !cloned {
		o.Path = e.indexPath(dir)
	}
	x, err := index.Open(o)
	if err != nil {
		return err
	}
	err = ask(x)
	if err == nil {
		if n := x.NoRecords(); n > 0 {
			// Standard error is the last resort: nobody can be told that it fails.
			_, _ = fmt.Fprintf(e.stderr, "note: %d commits of this ledger are no records and were left out; \"belay audit verify\" names the first thing wrong\n", n)
		}
	}
	return errors.Join(err, x.Close())
}

// ledgerIn is the ledger of a data directory, and what is named itself otherwise.
func ledgerIn(where string) string {
	dir := filepath.Join(where, ledgerDir)
	if st, err := os.Stat(dir); where != "" && err == nil && st.IsDir() {
		return dir
	}
	return where
}

// ledgerAt is the repository that --ledger means; one elsewhere is cloned until done.
func (e *env) ledgerAt(ctx context.Context, where string) (dir string, cloned bool, done func(), err error) {
	if st, err := os.Stat(where); err == nil && st.IsDir() {
		return ledgerIn(where), false, func() {}, nil
	}
	if !strings.Contains(where, ":") {
		return "", false, nil, &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("there is no directory %s", where),
			Hint: "--ledger takes the data directory of a server, a repository with a ledger, or the URL of one"}
	}
	tmp, err := os.MkdirTemp("", "belay-ledger-")
	if err != nil {
		return "", false, nil, fmt.Errorf("make a place for the ledger: %w", err)
	}
	done = func() { _ = os.RemoveAll(tmp) } // it is in a directory for what may be lost
	dir = filepath.Join(tmp, ledgerDir)
	m, err := git.Open(ctx, dir, where, git.Options{Logger: e.log})
	if err == nil {
		_, err = m.Fetch(ctx)
		m.Close()
	}
	if err != nil {
		done()
		return "", false, nil, err
	}
	return dir, true, done, nil
}

// indexPath is where the index of a ledger on disk is kept from one command to the
// next; "" if there is no place for it.
func (e *env) indexPath(dir string) string {
	cache := e.getenv("XDG_CACHE_HOME")
	if cache == "" {
		var err error
		if cache, err = os.UserCacheDir(); err != nil {
			return ""
		}
	}
	abs, err := filepath.Abs(dir)
	if err != nil || !filepath.IsAbs(cache) {
		return ""
	}
	cache = filepath.Join(cache, "belay", "ledgers")
	if os.MkdirAll(cache, 0o700) != nil {
		return ""
	}
	sum := sha256.Sum256([]byte(abs))
	return filepath.Join(cache, fmt.Sprintf("%s-%d.sqlite", hex.EncodeToString(sum[:8]), index.Version))
}

// pages reads pages until there are enough, all with 0; more says that there are others.
func pages[T any](ctx context.Context, q belay.RecordQuery, enough int, read func(context.Context, belay.RecordQuery) ([]T, string, error)) (all []T, more bool, err error) {
	all = []T{}
	for {
		q.Limit = belay.DefaultPage
		if enough > 0 {
			q.Limit = min(enough-len(all), belay.MaxPage)
		}
		page, next, err := read(ctx, q)
		if err != nil {
			return nil, false, err
		}
		all = append(all, page...)
		if next == "" || enough > 0 && len(all) >= enough {
			return all, next != "", nil
		}
		q.After = next
	}
}

// unheardOf are the names of a query that nothing on record bears: somebody may
// have mistyped them.
func unheardOf(ctx context.Context, r recordReader, q *belay.RecordQuery) ([]string, error) {
	var out []string
	for _, of := range []struct {
		what  string
		names []string
		ask   func(name string) belay.RecordQuery
	}{
		{"application", q.Applications, func(n string) belay.RecordQuery { return belay.RecordQuery{Applications: []string{n}} }},
		{"project", q.Projects, func(n string) belay.RecordQuery { return belay.RecordQuery{Projects: []string{n}} }},
		{"cluster", q.Clusters, func(n string) belay.RecordQuery { return belay.RecordQuery{Clusters: []string{n}} }},
	} {
		for _, name := range of.names {
			one := of.ask(name)
			one.Limit, one.Brief = 1, true
			found, _, err := r.Records(ctx, one)
			if err != nil && belay.CodeOf(err) != belay.CodeNotFound { // a server refuses it
				return nil, fmt.Errorf("read the record: %w", err)
			}
			if len(found) == 0 {
				out = append(out, fmt.Sprintf("%s %q", of.what, name))
			}
		}
	}
	return out, nil
}

// onRecord refuses a report of what nothing on record bears the name of: it would
// be as empty as one of a period without changes, and read as good.
func onRecord(ctx context.Context, r recordReader, s evidence.Scope) error {
	one := func(name string) []string {
		if name == "" {
			return nil
		}
		return []string{name}
	}
	names, err := unheardOf(ctx, r, &belay.RecordQuery{Applications: one(s.Application), Projects: one(s.Project), Clusters: one(s.Cluster)})
	if err != nil || len(names) == 0 {
		return err
	}
	return &belay.Error{Code: belay.CodeNotFound, Message: "nothing on record is of " + strings.Join(names, " or "),
		Hint: "\"belay history -o wide\" shows names of applications, projects and clusters"}
}
