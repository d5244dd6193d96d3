// Package runlog remembers in the data directory for which state of an application
// hooks have run: one file of lines, the last one of an application counts.
//
// It must not know what a hook is, or when one is due. Losing the file loses what
// no object of a cluster tells: at worst hooks run once more, or, where a process
// ended between the last write of a sync and its PostSync hooks, not for that sync.
package runlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/belaydev/belay"
)

// Log is safe for concurrent use by one process.
type Log struct {
	path string

	mu      sync.Mutex
	file    *os.File
	lines   int
	torn    bool // the last line has no end
	records map[key]belay.HookRecord
}

type key struct{ cluster, application string }

// line is what stands on one.
type line struct {
	belay.HookRecord
	Forgotten bool `json:"forgotten,omitempty"`
}

// slack is how many lines there may be beyond twice the records.
const slack = 4096

// Open reads the file at path, or begins one. A line that was cut short by a crash
// counts for nothing.
func Open(path string) (*Log, error) {
	l := &Log{path: path, records: map[key]belay.HookRecord{}}
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open the log of runs: %w", err)
	}
	for text := range bytes.Lines(content) {
		l.lines++
		var r line
		l.torn = text[len(text)-1] != '\n'
		if json.Unmarshal(text, &r) != nil {
			continue
		}
		k := key{r.Cluster, r.Application}
		if r.Forgotten {
			delete(l.records, k)
		} else {
			l.records[k] = r.HookRecord
		}
	}
	if l.file, err = os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
		return nil, fmt.Errorf("open the log of runs: %w", err)
	}
	return l, nil
}

// Close closes the file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}

// Known is what is remembered of an application in a cluster.
func (l *Log) Known(cluster, application string) (belay.HookRecord, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok := l.records[key{cluster, application}]
	return r, ok
}

// All are the records, in no order.
func (l *Log) All() []belay.HookRecord {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]belay.HookRecord, 0, len(l.records))
	for _, r := range l.records {
		out = append(out, r)
	}
	return out
}

// Remember replaces the record of an application. It is on disk when it returns;
// with an error it is remembered until the process ends.
func (l *Log) Remember(r belay.HookRecord) error { return l.put(line{HookRecord: r}, true) }

// Note is Remember for what a crash of the machine may take: it does not wait for
// the disk.
func (l *Log) Note(r belay.HookRecord) error { return l.put(line{HookRecord: r}, false) }

// Forget drops the record of an application. That there is none is no error.
func (l *Log) Forget(cluster, application string) error {
	if _, ok := l.Known(cluster, application); !ok {
		return nil
	}
	return l.put(line{HookRecord: belay.HookRecord{Cluster: cluster, Application: application}, Forgotten: true}, false)
}

func (l *Log) put(r line, durable bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := key{r.Cluster, r.Application}
	if r.Forgotten {
		delete(l.records, k)
	} else {
		l.records[k] = r.HookRecord
	}
	text, err := json.Marshal(r)
	if err == nil && (l.lines <= 2*len(l.records)+slack || l.compact() != nil) {
		err = l.append(text)
	} // else the line is among what compact wrote
	if err == nil && durable {
		err = l.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("remember a run of %s: %w", r.Application, err)
	}
	return nil
}

// append writes one line. What an earlier one left without an end is ended first.
func (l *Log) append(text []byte) error {
	text = append(text, '\n')
	if l.torn {
		text = append([]byte("\n"), text...)
	}
	l.torn = true
	if _, err := l.file.Write(text); err != nil {
		return err
	}
	l.torn = false
	l.lines++
	return nil
}

// compact writes the file anew, in a way that a crash leaves the old or the new one.
func (l *Log) compact() error {
	var all bytes.Buffer
	for _, r := range l.records {
		text, err := json.Marshal(line{HookRecord: r})
		if err != nil {
			return err
		}
		all.Write(append(text, '\n'))
	}
	tmp, err := os.OpenFile(l.path+".new", os.O_APPEND|os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = tmp.Write(all.Bytes())
	if err == nil {
		err = tmp.Sync()
	}
	if err == nil {
		err = os.Rename(tmp.Name(), l.path)
	}
	if err != nil {
		return errors.Join(err, tmp.Close())
	}
	_ = l.file.Close() // it has been replaced
	l.file, l.lines, l.torn = tmp, len(l.records), false
	return syncDir(filepath.Dir(l.path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
