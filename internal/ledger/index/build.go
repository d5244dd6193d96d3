package index

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger/record"
	"github.com/belaydev/belay/internal/xec"
)

// batch is how many records are written at once: a kill loses that much work.
const batch = 2000

// writerTip is how far a writer's branch is indexed.
type writerTip struct {
	id  int64
	tip string
	bad int
}

// errMoved says that the branch, or the index under us, is not what it was.
var errMoved = errors.New("a branch of the ledger was rewritten")

// catchUp brings the index to where the branches are. The caller holds the token.
func (x *Index) catchUp(ctx context.Context, db *sql.DB) error {
	for tries := 0; ; tries++ {
		err := x.advance(ctx, db)
		if !errors.Is(err, errMoved) || tries == 2 {
			return err
		}
		if tries > 0 { // the first time another process may just have been faster
			x.log.Warn("index of the ledger is made anew", "reason", err)
			if err := resetAll(ctx, db); err != nil {
				return err
			}
		}
	}
}

func resetAll(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after Commit there is nothing to roll back
	if err := reset(ctx, tx); err != nil {
		return err
	}
	return tx.Commit()
}

// advance indexes what the branches have beyond what is indexed.
func (x *Index) advance(ctx context.Context, db *sql.DB) error {
	tips, err := x.tips(ctx)
	if err != nil {
		return err
	}
	known, err := knownWriters(ctx, db)
	if err != nil {
		return err
	}
	for name, w := range known {
		if tips[name] == "" && w.tip != "" {
			return fmt.Errorf("%w: ledger/%s is gone", errMoved, name)
		}
	}
	bad := 0
	for _, name := range slices.Sorted(maps.Keys(tips)) {
		w := known[name]
		if w.tip != tips[name] {
			b := builder{x: x, db: db, writer: name, at: w, ids: map[string]int64{}}
			if err := b.run(ctx, tips[name]); err != nil {
				return err
			}
			w = b.at
		}
		bad += w.bad
	}
	x.mu.Lock()
	x.bad = bad
	x.mu.Unlock()
	return nil
}

func knownWriters(ctx context.Context, db *sql.DB) (map[string]writerTip, error) {
	rows, err := db.QueryContext(ctx, `SELECT id, name, tip, bad FROM writers`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	known := map[string]writerTip{}
	for rows.Next() {
		var name string
		var w writerTip
		if err := rows.Scan(&w.id, &name, &w.tip, &w.bad); err != nil {
			return nil, err
		}
		known[name] = w
	}
	return known, rows.Err()
}

// entry is a commit as the log shows it.
type entry struct {
	hash, parent         string
	typ                  belay.EventType
	application, cluster string
}

func (e *entry) dir() string {
	return record.Dir(&belay.Event{Application: e.application, Cluster: e.cluster})
}

// deploys says whether a deployment.json may have changed.
func (e *entry) deploys() bool { return e.typ == belay.EventSyncStarted || record.Ends(e.typ) }

// logFormat has a field a line but for the hash and the parents.
const logFormat = "%H %P%n%(trailers:key=Belay-Event,valueonly,unfold,separator=)%n%(trailers:key=Application,valueonly,unfold,separator=)%n%(trailers:key=Cluster,valueonly,unfold,separator=)"

// builder indexes one branch.
type builder struct {
	x      *Index
	db     *sql.DB
	writer string
	at     writerTip
	ids    map[string]int64 // of names, by kind and name

	tx    *sql.Tx
	stmts map[string]*sql.Stmt
	count int
}

// run indexes the commits after what is indexed, up to tip: two processes of git
// and this one work in a row, none of them holding more than a few hundred.
func (b *builder) run(ctx context.Context, tip string) (err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	span := tip
	if b.at.tip != "" {
		span = b.at.tip + ".." + tip
	}
	c := command(b.x.ledger, "log", "--reverse", "--first-parent", "--format=tformat:"+logFormat, span, "--")
	c.Pipes = true
	log, err := c.Start(ctx)
	if err != nil {
		return err
	}
	defer log.Stdout.Close()
	_ = log.Stdin.Close() // it reads nothing
	files, err := b.x.reader(ctx)
	if err != nil {
		log.Kill()
		_ = log.Wait() // it was killed
		return err
	}
	defer files.close()

	entries := make(chan entry, 256)
	read := make(chan error, 1)
	go func() {
		defer close(entries)
		read <- readLog(ctx, bufio.NewReaderSize(log.Stdout, 256<<10), files, entries)
	}()
	defer func() {
		if b.tx != nil {
			_ = b.tx.Rollback() // what is missing is read again
		}
	}()
	for e := range entries {
		if err = b.add(ctx, &e, files); err != nil {
			break
		}
	}
	if err != nil {
		stop()
	}
	for range entries {
		continue // its sender ends first
	}
	readErr, logErr := <-read, log.Wait()
	switch {
	case err != nil:
		return err
	case logErr != nil:
		if e, ok := errors.AsType[*xec.ExitError](logErr); ok && e.Code == 128 && b.at.tip != "" {
			return fmt.Errorf("%w: ledger/%s: %w", errMoved, b.writer, logErr) // the commit that was indexed last is gone
		}
		return logErr
	case readErr != nil:
		return readErr
	case b.at.tip != tip:
		return fmt.Errorf("%w: ledger/%s went back", errMoved, b.writer)
	}
	return b.commit(ctx)
}

// readLog asks for the files of each commit of the log and passes it on.
func readLog(ctx context.Context, log *bufio.Reader, files *reader, out chan<- entry) error {
	for {
		var lines [4]string
		for i := range lines {
			line, err := log.ReadString('\n')
			if errors.Is(err, io.EOF) && i == 0 {
				return nil
			}
			if err != nil {
				return fmt.Errorf("read from git log: %w", err)
			}
			lines[i] = strings.TrimSuffix(line, "\n")
		}
		hashes := strings.Fields(lines[0])
		if len(hashes) == 0 {
			return fmt.Errorf("git log says %q", lines[0])
		}
		e := entry{hash: hashes[0], typ: belay.EventType(lines[1]), application: lines[2], cluster: lines[3]}
		if len(hashes) > 1 {
			e.parent = hashes[1]
		}
		select {
		case out <- e:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := files.request(e.hash, e.dir()+record.EventFile); err != nil {
			return fmt.Errorf("write to git cat-file: %w", err)
		}
		if e.deploys() {
			if err := files.request(e.hash, e.dir()+record.DeploymentFile); err != nil {
				return fmt.Errorf("write to git cat-file: %w", err)
			}
		}
	}
}

// add indexes one commit.
func (b *builder) add(ctx context.Context, e *entry, files *reader) error {
	if e.parent != b.at.tip {
		return fmt.Errorf("%w: on ledger/%s %s does not follow %s", errMoved, b.writer, e.hash, b.at.tip)
	}
	event, err := files.answer()
	if err != nil {
		return err
	}
	var deployment []byte
	if e.deploys() {
		if deployment, err = files.answer(); err != nil {
			return err
		}
	}
	if b.tx == nil {
		if err := b.begin(ctx); err != nil {
			return err
		}
	}
	r, err := record.Decode(event)
	if err != nil || r.Writer != b.writer {
		b.at.bad++
	} else {
		r.Commit = e.hash
		if err := b.insert(ctx, &r, deployment); err != nil {
			return err
		}
	}
	b.at.tip = e.hash
	if b.count++; b.count%batch == 0 {
		return b.commit(ctx)
	}
	return nil
}

// begin begins to write, if nobody else wrote meanwhile.
func (b *builder) begin(ctx context.Context) error {
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	b.tx, b.stmts = tx, map[string]*sql.Stmt{}
	if b.at.id == 0 {
		if _, err := b.exec(ctx, `INSERT OR IGNORE INTO writers (name, tip, bad) VALUES (?, '', 0)`, b.writer); err != nil {
			return err
		}
	}
	var w writerTip
	if err := tx.QueryRowContext(ctx, `SELECT id, tip, bad FROM writers WHERE name = ?`, b.writer).Scan(&w.id, &w.tip, &w.bad); err != nil {
		return err
	}
	if w.tip != b.at.tip {
		return fmt.Errorf("%w: another process indexes it", errMoved)
	}
	b.at.id = w.id
	return nil
}

func (b *builder) commit(ctx context.Context) error {
	if b.tx == nil {
		return nil
	}
	if _, err := b.exec(ctx, `UPDATE writers SET tip = ?, bad = ? WHERE id = ?`, b.at.tip, b.at.bad, b.at.id); err != nil {
		return err
	}
	err := b.tx.Commit()
	if err == nil {
		b.tx = nil
	}
	return err
}

// exec runs a statement that was prepared once for the transaction.
func (b *builder) exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	s, err := b.prepared(ctx, query)
	if err != nil {
		return nil, err
	}
	return s.ExecContext(ctx, args...)
}

func (b *builder) prepared(ctx context.Context, query string) (*sql.Stmt, error) {
	if s := b.stmts[query]; s != nil {
		return s, nil
	}
	s, err := b.tx.PrepareContext(ctx, query)
	if err == nil {
		b.stmts[query] = s
	}
	return s, err
}

// insert writes a record. Its deployment.json is given where it may have changed.
func (b *builder) insert(ctx context.Context, r *belay.Record, deployment []byte) error {
	ev := &r.Event
	var ids [5]any
	for i, name := range []string{string(ev.Type), ev.Application, ev.Cluster, ev.Project} {
		id, err := b.name(ctx, name)
		if err != nil {
			return err
		}
		ids[i] = id
	}
	actor, err := b.actor(ctx, ev.Actor)
	if err != nil {
		return err
	}
	ids[4] = actor
	starts := ev.Type == belay.EventSyncStarted
	// A second record of one number is no record of a good ledger: the first stands.
	res, err := b.exec(ctx, `INSERT OR IGNORE INTO records (writer, seq, hash, time, type, app, cluster, project, actor, starts) VALUES (?,?,?,?,?,?,?,?,?,?)`,
		b.at.id, int64(r.Seq), r.Commit, ev.Time.UnixMicro(), ids[0], ids[1], ids[2], ids[3], ids[4], starts)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		b.at.bad++
		return err
	}
	id, err := res.LastInsertId()
	if err != nil {
		return err
	}
	body, err := pack(ev)
	if err != nil {
		return err
	}
	if _, err := b.exec(ctx, `INSERT INTO bodies (id, body) VALUES (?, ?)`, id, body); err != nil {
		return err
	}
	start := id
	if !starts {
		if start, err = b.startOf(ctx, ev.Deployment); err != nil {
			return err
		}
	}
	if start != 0 {
		if _, err := b.exec(ctx, `UPDATE records SET deployment = ? WHERE id = ?`, start, id); err != nil {
			return err
		}
		if err := b.deployment(ctx, start, r, deployment); err != nil {
			return err
		}
	}
	return b.mentions(ctx, id, start, ev)
}

// startOf is the row of the record that a deployment began with, 0 for none.
func (b *builder) startOf(ctx context.Context, deployment string) (int64, error) {
	writer, seq, ok := belay.ParseRecordID(deployment)
	if !ok || writer != b.writer {
		return 0, nil
	}
	s, err := b.prepared(ctx, `SELECT id FROM records WHERE writer = ? AND seq = ? AND starts = 1`)
	if err != nil {
		return 0, err
	}
	var id int64
	if err := s.QueryRowContext(ctx, b.at.id, int64(seq)).Scan(&id); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, err
	}
	return id, nil
}

// deployment writes what the ledger says of a deployment after a record.
func (b *builder) deployment(ctx context.Context, start int64, r *belay.Record, file []byte) error {
	ev := &r.Event
	if ev.Type != belay.EventSyncStarted && !record.Ends(ev.Type) {
		return nil
	}
	var d belay.Deployment
	wanted := r.ID()
	if ev.Type != belay.EventSyncStarted {
		wanted = ev.Deployment
	}
	if json.Unmarshal(file, &d) != nil || d.ID != wanted {
		if ev.Type != belay.EventSyncStarted {
			return nil // it tells of another one
		}
		d = record.Begin(r)
	}
	body, err := pack(d)
	if err != nil {
		return err
	}
	if ev.Type == belay.EventSyncStarted {
		_, err = b.exec(ctx, `INSERT INTO deployments (id, began, ended, body) VALUES (?, ?, '', ?)`, start, r.Commit, body)
	} else {
		_, err = b.exec(ctx, `UPDATE deployments SET ended = ?, body = ? WHERE id = ?`, r.Commit, body, start)
	}
	return err
}

// involved writes who had a part in the commits that a record brings.
func (b *builder) involved(ctx context.Context, id int64, commits []belay.Commit) error {
	for i := range commits {
		c := &commits[i]
		for _, who := range slices.Concat([]string{c.Author}, c.Reviewers, c.Approvers) {
			actor, err := b.actor(ctx, who)
			if err != nil {
				return err
			}
			if actor == nil {
				continue
			}
			if _, err := b.exec(ctx, `INSERT OR IGNORE INTO involved (actor, record) VALUES (?, ?)`, actor, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// mentions writes which people, commits and objects a record is about; what a
// deployment did to an object its start is about as well.
func (b *builder) mentions(ctx context.Context, id, start int64, ev *belay.Event) error {
	hashes := []string{ev.Change, ev.Revision}
	objects := []string{ev.Object}
	if d := ev.Detail; d != nil {
		if err := b.involved(ctx, id, d.Commits); err != nil {
			return err
		}
		for i := range d.Commits {
			hashes = append(hashes, d.Commits[i].ID)
		}
		for i := range d.Sources {
			hashes = append(hashes, d.Sources[i].Revision)
		}
		for i := range d.Objects {
			objects = append(objects, d.Objects[i].ID.String())
		}
	}
	for _, h := range hashes {
		if h == "" {
			continue
		}
		if _, err := b.exec(ctx, `INSERT OR IGNORE INTO commits (hash, record) VALUES (?, ?)`, strings.ToLower(h), id); err != nil {
			return err
		}
	}
	for _, o := range objects {
		object, err := b.object(ctx, o)
		if err != nil {
			return err
		}
		for _, r := range []int64{id, start} {
			if object == 0 || r == 0 {
				continue
			}
			if _, err := b.exec(ctx, `INSERT OR IGNORE INTO touched (object, record) VALUES (?, ?)`, object, r); err != nil {
				return err
			}
		}
	}
	return nil
}
