package index

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Version of the schema and of what is put into it: one more with every change of
// either. An index of another version is made anew.
const Version = 2

// schema keeps bodies apart from what is searched, so that a search reads little.
var schema = []string{
	`CREATE TABLE writers (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, tip TEXT NOT NULL, bad INTEGER NOT NULL)`,
	`CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)`,
	`CREATE TABLE actors (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, lower TEXT NOT NULL)`,
	`CREATE TABLE objects (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, grp TEXT NOT NULL, ns TEXT NOT NULL, name TEXT NOT NULL)`,
	`CREATE UNIQUE INDEX object ON objects (name, kind, grp, ns)`,
	`CREATE TABLE records (id INTEGER PRIMARY KEY, writer INTEGER NOT NULL, seq INTEGER NOT NULL, hash TEXT NOT NULL, time INTEGER NOT NULL,
		type INTEGER, app INTEGER, cluster INTEGER, project INTEGER, actor INTEGER, deployment INTEGER, starts INTEGER NOT NULL)`,
	`CREATE UNIQUE INDEX record ON records (writer, seq)`,
	`CREATE INDEX record_hash ON records (hash)`,
	`CREATE INDEX record_time ON records (time, writer, seq)`,
	`CREATE INDEX record_app ON records (app, time, writer, seq)`,
	`CREATE INDEX record_type ON records (type, time, writer, seq)`,
	`CREATE INDEX record_actor ON records (actor, time, writer, seq)`,
	`CREATE INDEX record_deployment ON records (deployment) WHERE deployment IS NOT NULL`,
	`CREATE INDEX start_time ON records (time, writer, seq) WHERE starts = 1`,
	`CREATE INDEX start_app ON records (app, time, writer, seq) WHERE starts = 1`,
	`CREATE TABLE bodies (id INTEGER PRIMARY KEY, body BLOB NOT NULL)`,
	`CREATE TABLE deployments (id INTEGER PRIMARY KEY, began TEXT NOT NULL, ended TEXT NOT NULL, body BLOB NOT NULL)`,
	`CREATE TABLE commits (hash TEXT NOT NULL, record INTEGER NOT NULL, PRIMARY KEY (hash, record)) WITHOUT ROWID`,
	`CREATE TABLE touched (object INTEGER NOT NULL, record INTEGER NOT NULL, PRIMARY KEY (object, record)) WITHOUT ROWID`,
	// Who wrote, reviewed or approved a commit that a record brings.
	`CREATE TABLE involved (actor INTEGER NOT NULL, record INTEGER NOT NULL, PRIMARY KEY (actor, record)) WITHOUT ROWID`,
}

// open opens the file and makes the tables, if they are not those of this version.
func (x *Index) open(ctx context.Context) (*sql.DB, error) {
	if x.path == "" {
		dir, err := os.MkdirTemp("", "belay-index-")
		if err != nil {
			return nil, fmt.Errorf("make a place for the index: %w", err)
		}
		x.temp, x.path = dir, filepath.Join(dir, "index.sqlite")
	}
	if err := os.MkdirAll(filepath.Dir(x.path), 0o700); err != nil {
		return nil, fmt.Errorf("make a place for the index: %w", err)
	}
	db, err := connect(x.path)
	if err != nil {
		return nil, err
	}
	if err := prepare(ctx, db); err != nil {
		_ = db.Close() // the first error says more
		if damaged(err) {
			x.log.Warn("index of the ledger is damaged, made anew", "path", x.path, "error", err)
			if err := remove(x.path); err != nil {
				return nil, err
			}
			if db, err = connect(x.path); err != nil {
				return nil, err
			}
			if err = prepare(ctx, db); err == nil {
				return db, nil
			}
			_ = db.Close()
		}
		return nil, fmt.Errorf("open %s: %w", x.path, err)
	}
	return db, nil
}

// connIdle is how long a connection that nobody uses stays open.
const connIdle = 15 * time.Second

func connect(path string) (*sql.DB, error) {
	q := url.Values{"_txlock": {"immediate"}}
	for _, p := range []string{"busy_timeout(30000)", "journal_mode(WAL)", "synchronous(NORMAL)", "cache_size(-8000)", "temp_store(MEMORY)", "journal_size_limit(16777216)"} {
		q.Add("_pragma", p)
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.SetMaxOpenConns(4)
	db.SetConnMaxIdleTime(connIdle) // each has a cache of its own
	return db, nil
}

// prepare makes the tables anew unless they are of this version.
func prepare(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after Commit there is nothing to roll back
	var have, tables int
	if err := tx.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&have); err != nil {
		return err
	}
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE sql IS NOT NULL`).Scan(&tables); err != nil {
		return err
	}
	if have == Version && tables == len(schema) {
		return nil
	}
	if err := reset(ctx, tx); err != nil {
		return err
	}
	return tx.Commit()
}

// reset drops whatever there is and makes empty tables.
func reset(ctx context.Context, tx *sql.Tx) error {
	rows, err := tx.QueryContext(ctx, `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var drop []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return err
		}
		drop = append(drop, `DROP TABLE "`+name+`"`)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for _, s := range append(append(drop, schema...), fmt.Sprintf(`PRAGMA user_version = %d`, Version)) {
		if _, err := tx.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// errDamaged is what a body says that is not what was written.
var errDamaged = errors.New("the index is damaged")

// damaged says whether an error means that the file is not what was written.
func damaged(err error) bool {
	if errors.Is(err, errDamaged) {
		return true
	}
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return false
	}
	kind := e.Code() & 0xff
	return kind == sqlite3.SQLITE_CORRUPT || kind == sqlite3.SQLITE_NOTADB || e.Code() == sqlite3.SQLITE_IOERR_SHORT_READ
}

// full says whether an error means that the disk is.
func full(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code()&0xff == sqlite3.SQLITE_FULL
}

// discard throws the file away. The caller holds the token.
func (x *Index) discard() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.db != nil {
		_ = x.db.Close() // it is thrown away
	}
	x.db, x.seen = nil, ""
	return remove(x.path)
}

func remove(path string) error {
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("throw the index away: %w", err)
		}
	}
	return nil
}
