package index

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/belaydev/belay"
)

// maxBytes bounds a page: records of large deployments are large.
const maxBytes = 8 << 20

// Records are the records that a query chooses, newest first, and the After of
// the next page; "" if there is none.
func (x *Index) Records(ctx context.Context, q belay.RecordQuery) (records []belay.Record, next string, err error) {
	err = x.ask(ctx, func(db *sql.DB) error {
		records, next = []belay.Record{}, ""
		w, err := where(ctx, db, &q, false)
		if err != nil {
			return err
		}
		rows, err := db.QueryContext(ctx, `SELECT w.name, r.seq, r.hash, b.body FROM (SELECT id, writer, seq, hash, time FROM records WHERE `+w.text()+
			` ORDER BY time DESC, writer DESC, seq DESC LIMIT ?) r JOIN bodies b ON b.id = r.id JOIN writers w ON w.id = r.writer
			ORDER BY r.time DESC, r.writer DESC, r.seq DESC`, append(w.args, pageSize(&q)+1)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		size := 0
		for rows.Next() {
			var r belay.Record
			var seq int64
			var body []byte
			if err := rows.Scan(&r.Writer, &seq, &r.Commit, &body); err != nil {
				return err
			}
			if len(records) == pageSize(&q) || size > maxBytes {
				next = records[len(records)-1].ID()
				break
			}
			n, err := unpack(body, &r.Event)
			if err != nil {
				return err
			}
			r.Seq = uint64(seq)
			if q.Brief {
				r.Event.Detail, n = nil, small
			}
			size += n
			records = append(records, r)
		}
		return rows.Err()
	})
	return records, next, err
}

// candidates bounds how many deployments one page looks into.
const candidates = 2000

// Deployments are the deployments whose start a query chooses, newest first, and
// the After of the next page; "" if there is none.
func (x *Index) Deployments(ctx context.Context, q belay.RecordQuery) (deployments []belay.Deployment, next string, err error) {
	changed, done, err := x.changed(ctx, q.Changed)
	if err != nil {
		return nil, "", err
	}
	defer done()
	limit := pageSize(&q) + 1
	if q.Changed != "" {
		limit = candidates
	}
	err = x.ask(ctx, func(db *sql.DB) error {
		deployments, next = []belay.Deployment{}, ""
		w, err := where(ctx, db, &q, true)
		if err != nil {
			return err
		}
		rows, err := db.QueryContext(ctx, `SELECT d.began, d.ended, d.body FROM (SELECT id, writer, seq, time FROM records WHERE `+w.text()+
			` ORDER BY time DESC, writer DESC, seq DESC LIMIT ?) r JOIN deployments d ON d.id = r.id
			ORDER BY r.time DESC, r.writer DESC, r.seq DESC`, append(w.args, limit)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		size, seen, last := 0, 0, ""
		for rows.Next() {
			var d belay.Deployment
			var began, ended string
			var body []byte
			if err := rows.Scan(&began, &ended, &body); err != nil {
				return err
			}
			if len(deployments) == pageSize(&q) || size > maxBytes {
				next = last
				return rows.Err()
			}
			n, err := unpack(body, &d)
			if err != nil {
				return err
			}
			seen, last = seen+1, d.ID
			if ok, err := changed(&d, began, ended); err != nil || !ok {
				if err != nil {
					return err
				}
				continue
			}
			if q.Brief {
				d, n = brief(d), small
			}
			size += n
			deployments = append(deployments, d)
		}
		if q.Changed != "" && seen == limit {
			next = last // there may be more to look into
		}
		return rows.Err()
	})
	return deployments, next, err
}

func brief(d belay.Deployment) belay.Deployment {
	d.Objects, d.Sources, d.Manifests = nil, nil, nil
	d.MoreCommits += max(len(d.Commits)-1, 0)
	d.Commits = d.Commits[:min(len(d.Commits), 1)]
	return d
}

func pageSize(q *belay.RecordQuery) int {
	if q.Limit <= 0 {
		return belay.DefaultPage
	}
	return min(q.Limit, belay.MaxPage)
}

// Record is one record, by its ID or by the beginning of its commit in the ledger.
func (x *Index) Record(ctx context.Context, id string) (r belay.Record, err error) {
	err = x.ask(ctx, func(db *sql.DB) error {
		row, err := find(ctx, db, id)
		if err != nil {
			return err
		}
		var seq int64
		var body []byte
		err = db.QueryRowContext(ctx, `SELECT w.name, r.seq, r.hash, b.body FROM records r JOIN bodies b ON b.id = r.id JOIN writers w ON w.id = r.writer WHERE r.id = ?`, row).
			Scan(&r.Writer, &seq, &r.Commit, &body)
		if err != nil {
			return err
		}
		r.Seq, r.Event = uint64(seq), belay.Event{}
		_, err = unpack(body, &r.Event)
		return err
	})
	return r, err
}

// Deployment is one deployment, by its ID or by that of any record of it.
func (x *Index) Deployment(ctx context.Context, id string) (d belay.Deployment, err error) {
	d, _, _, err = x.deployment(ctx, id)
	return d, err
}

// deployment is a deployment with the commits of its beginning and of its end,
// which is empty while it has none.
func (x *Index) deployment(ctx context.Context, id string) (d belay.Deployment, began, ended string, err error) {
	err = x.ask(ctx, func(db *sql.DB) error {
		row, err := find(ctx, db, id)
		if err != nil {
			return err
		}
		var body []byte
		d = belay.Deployment{}
		err = db.QueryRowContext(ctx, `SELECT d.began, d.ended, d.body FROM records r JOIN deployments d ON d.id = r.deployment WHERE r.id = ?`, row).Scan(&began, &ended, &body)
		if errors.Is(err, sql.ErrNoRows) {
			return &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("record %s belongs to no deployment", id),
				Hint: "\"belay history APP\" lists deployments"}
		}
		if err == nil {
			_, err = unpack(body, &d)
		}
		return err
	})
	return d, began, ended, err
}

// find is the row of a record: WRITER/SEQ, SEQ where there is one writer, or the
// beginning of a commit of the ledger.
func find(ctx context.Context, db *sql.DB, id string) (int64, error) {
	id = strings.TrimPrefix(id, "-/")
	writer, seq, ok := belay.ParseRecordID(id)
	if ok {
		row, err := findID(ctx, db, writer, seq)
		if !errors.Is(err, sql.ErrNoRows) {
			return row, err
		}
	}
	if from, to, hex := hexRange(id); hex && len(id) >= 7 {
		return findHash(ctx, db, id, from, to)
	}
	e := &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("there is no record %q", id), Hint: "\"belay audit list\" shows the latest records and their IDs"}
	if !ok {
		e.Hint = "the ID of a record is WRITER/NUMBER, such as main/42; \"belay audit list\" shows them"
	}
	return 0, e
}

func findID(ctx context.Context, db *sql.DB, writer string, seq uint64) (int64, error) {
	if writer == "" {
		var n int
		if err := db.QueryRowContext(ctx, `SELECT count(*), coalesce(max(name), '') FROM writers`).Scan(&n, &writer); err != nil {
			return 0, err
		}
		if n > 1 {
			return 0, &belay.Error{Code: belay.CodeInvalid, Message: fmt.Sprintf("%d may be a record of any of %d writers", seq, n),
				Hint: fmt.Sprintf("write it with the writer, such as %s/%d", writer, seq)}
		}
	}
	var row int64
	err := db.QueryRowContext(ctx, `SELECT id FROM records WHERE writer = (SELECT id FROM writers WHERE name = ?) AND seq = ?`, writer, int64(seq)).Scan(&row)
	return row, err
}

func findHash(ctx context.Context, db *sql.DB, id, from, to string) (int64, error) {
	rows, err := db.QueryContext(ctx, `SELECT id FROM records WHERE hash >= ? AND hash < ? LIMIT 2`, from, to)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var found []int64
	for rows.Next() {
		var row int64
		if err := rows.Scan(&row); err != nil {
			return 0, err
		}
		found = append(found, row)
	}
	switch {
	case rows.Err() != nil:
		return 0, rows.Err()
	case len(found) == 0:
		return 0, &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("no commit of the ledger begins with %q", id),
			Hint: "\"belay audit list --change COMMIT\" finds what a commit of a source led to"}
	case len(found) > 1:
		return 0, &belay.Error{Code: belay.CodeInvalid, Message: fmt.Sprintf("several commits of the ledger begin with %q", id), Hint: "write more of it"}
	}
	return found[0], nil
}

// hexRange are the bounds of the hashes that begin with a prefix.
func hexRange(prefix string) (from, to string, ok bool) {
	p := strings.ToLower(prefix)
	for i := range len(p) {
		if c := p[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", "", false
		}
	}
	return p, p + "g", p != ""
}

// clauses are conditions of a query with what they are about.
type clauses struct {
	list []string
	args []any
}

func (c *clauses) add(clause string, args ...any) {
	c.list = append(c.list, clause)
	c.args = append(c.args, args...)
}

// anyOf asks that a column has one of the numbers. One number is asked for by
// itself: SQLite then finds the order of time in its index.
func (c *clauses) anyOf(column string, ids []any) {
	switch len(ids) {
	case 0:
		c.add("0")
	case 1:
		c.add(column+" = ?", ids[0])
	default:
		c.add(column+" IN (?"+strings.Repeat(", ?", len(ids)-1)+")", ids...)
	}
}

// often is the number of records from which it is quicker to go through time and
// look who had a part in each than to sort all that somebody had a part in.
var often = 5000 // fewer in tests

// person asks for what any of several people caused, or wrote, reviewed or
// approved a commit of.
func (c *clauses) person(ctx context.Context, db *sql.DB, ids []any) error {
	if len(ids) == 0 {
		c.add("0")
		return nil
	}
	in := "IN (?" + strings.Repeat(", ?", len(ids)-1) + ")"
	all := "SELECT id FROM records WHERE actor " + in + " UNION ALL SELECT record FROM involved WHERE actor " + in
	args := slices.Concat(ids, ids)
	var n int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM ("+all+" LIMIT ?)", slices.Concat(args, []any{often})...).Scan(&n); err != nil {
		return err
	}
	if n < often {
		c.add("id IN ("+all+")", args...)
		return nil
	}
	// The plus keeps SQLite from its index.
	c.add("(+actor "+in+" OR EXISTS (SELECT 1 FROM involved WHERE record = records.id AND actor "+in+"))", args...)
	return nil
}

// numbers are what a query of one column answers.
func numbers(ctx context.Context, db *sql.DB, query string, args ...any) ([]any, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []any
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

func (c *clauses) text() string {
	if len(c.list) == 0 {
		return "1"
	}
	return strings.Join(c.list, " AND ")
}

// names adds what is asked of applications, projects, clusters, types and actors.
func (c *clauses) names(ctx context.Context, db *sql.DB, q *belay.RecordQuery, starts bool) error {
	types := make([]string, len(q.Types))
	for i, t := range q.Types {
		types[i] = string(t)
	}
	if starts {
		types = nil
	}
	for _, of := range []struct {
		column string
		names  []string
	}{{"app", q.Applications}, {"project", q.Projects}, {"cluster", q.Clusters}, {"type", types}} {
		if len(of.names) == 0 {
			continue
		}
		args := make([]any, len(of.names))
		for i, n := range of.names {
			args[i] = n
		}
		ids, err := numbers(ctx, db, "SELECT id FROM names WHERE name IN (?"+strings.Repeat(", ?", len(args)-1)+")", args...)
		if err != nil {
			return err
		}
		c.anyOf(of.column, ids)
	}
	if q.Person == "" {
		return nil
	}
	ids, err := numbers(ctx, db, "SELECT id FROM actors WHERE instr(lower, ?) > 0", strings.ToLower(q.Person))
	if err != nil {
		return err
	}
	return c.person(ctx, db, ids)
}

// where is what a query asks of a record; starts, of the start of a deployment.
func where(ctx context.Context, db *sql.DB, q *belay.RecordQuery, starts bool) (*clauses, error) {
	var c clauses
	if starts {
		c.add("starts = 1")
	}
	if err := c.names(ctx, db, q, starts); err != nil {
		return nil, err
	}
	if q.Writer != "" {
		c.add("writer = (SELECT id FROM writers WHERE name = ?)", q.Writer)
	}
	if q.Change != "" {
		// What names a chart or an artifact is a digest: it begins with its kind.
		p := strings.ToLower(q.Change)
		c.add("id IN (SELECT record FROM commits WHERE hash >= ? AND hash < ?)", p, p+"\x7f")
	}
	if o := parseObject(q.Object); o.name != "" {
		inner, args := []string{"name = ?"}, []any{o.name}
		for _, part := range [][2]string{{"kind", o.kind}, {"grp", o.group}, {"ns", o.namespace}} {
			if part[1] != "" {
				inner = append(inner, part[0]+" = ?")
				args = append(args, part[1])
			}
		}
		c.add("id IN (SELECT record FROM touched WHERE object IN (SELECT id FROM objects WHERE "+strings.Join(inner, " AND ")+"))", args...)
	}
	if !q.From.IsZero() {
		c.add("time >= ?", q.From.UnixMicro())
	}
	if !q.To.IsZero() {
		c.add("time < ?", q.To.UnixMicro())
	}
	if q.Deployment != "" {
		row, err := find(ctx, db, q.Deployment)
		if err != nil {
			return nil, err
		}
		c.add("deployment = (SELECT deployment FROM records WHERE id = ?)", row)
	}
	if q.After != "" {
		row, err := find(ctx, db, q.After)
		if err != nil {
			return nil, err
		}
		c.add("(time, writer, seq) < (SELECT time, writer, seq FROM records WHERE id = ?)", row)
	}
	return &c, nil
}
