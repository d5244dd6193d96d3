package main

import (
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// diskParts are the parts of the data directory, by the first element of a path
// in it; all else is "other".
var diskParts = map[string]string{
	ledgerDir: "ledger", "repos": "mirrors", "renders": "renders",
	indexFile: "index", indexFile + "-wal": "index", indexFile + "-shm": "index",
}

const partOther = "other"

// How often the data directory is looked at, which takes a look at every file,
// and how long a scrape waits for that.
const (
	diskInterval = time.Minute
	diskPatience = time.Second
)

var (
	descDataBytes = prometheus.NewDesc("belay_data_bytes", "Size of the files in the data directory, by part: ledger, index, mirrors, renders, other. At most a minute old.", []string{"part"}, nil)
	descDataFiles = prometheus.NewDesc("belay_data_files", "Number of files in the data directory, by part. At most a minute old.", []string{"part"}, nil)
)

// diskMetrics tell the size of the data directory. It is looked at when somebody
// scrapes, and never twice within a minute; a disk that is slow holds up no scrape.
type diskMetrics struct {
	dir string

	mu      sync.Mutex
	known   map[string]diskUse
	at      time.Time
	looking chan struct{} // closed when the look that is under way ends, else nil
}

type diskUse struct{ bytes, files int64 }

// Describe implements prometheus.Collector.
func (m *diskMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- descDataBytes
	ch <- descDataFiles
}

// Collect implements prometheus.Collector.
func (m *diskMetrics) Collect(ch chan<- prometheus.Metric) {
	for part, u := range m.sizes() {
		ch <- prometheus.MustNewConstMetric(descDataBytes, prometheus.GaugeValue, float64(u.bytes), part)
		ch <- prometheus.MustNewConstMetric(descDataFiles, prometheus.GaugeValue, float64(u.files), part)
	}
}

// sizes are the latest there are; nil before the first look has ended.
func (m *diskMetrics) sizes() map[string]diskUse {
	m.mu.Lock()
	if m.looking == nil && time.Since(m.at) >= diskInterval {
		m.looking = make(chan struct{})
		go func() {
			now := diskUsage(m.dir)
			m.mu.Lock()
			defer m.mu.Unlock()
			m.known, m.at = now, time.Now()
			close(m.looking)
			m.looking = nil
		}()
	}
	looking := m.looking
	m.mu.Unlock()
	if looking != nil {
		select {
		case <-looking:
		case <-time.After(diskPatience):
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known
}

// diskUsage adds up the files of a data directory. Files come and go meanwhile:
// what cannot be looked at does not count.
func diskUsage(dir string) map[string]diskUse {
	out := map[string]diskUse{partOther: {}}
	for _, part := range diskParts {
		out[part] = diskUse{}
	}
	// The function returns no error.
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // it is gone, or none
		}
		info, err := d.Info()
		if err != nil {
			return nil //nolint:nilerr // it is gone
		}
		rel, _ := filepath.Rel(dir, p) // it is below it
		first, _, _ := strings.Cut(filepath.ToSlash(rel), "/")
		part, ok := diskParts[first]
		if !ok {
			part = partOther
		}
		u := out[part]
		out[part] = diskUse{u.bytes + info.Size(), u.files + 1}
		return nil
	})
	return out
}
