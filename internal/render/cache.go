package render

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/belaydev/belay"
)

// cacheFormat changes when what an entry means does.
const cacheFormat = "2"

// variants is how many results of one application are kept: a branch and its
// pull requests alternate.
const variants = 4

// Cache keeps results on disk, so that a restarted server renders nothing that
// has not changed. An entry holds as long as each of its reads has the same
// digest. The values of Secrets are not stored. It is safe for concurrent use
// by one process.
type Cache struct {
	dir     string
	max     int64
	key     []byte
	version string
	enc     *zstd.Encoder
	dec     *zstd.Decoder

	mu    sync.Mutex
	size  int64
	files map[string]map[string]*cached // by directory below dir and path below dir
}

type cached struct {
	size int64
	used time.Time
}

// entry is what a file holds, compressed.
type entry struct {
	// Capabilities identifies the cluster's, when the result depends on them.
	Capabilities string         `json:"capabilities,omitempty"`
	Kind         string         `json:"kind"`
	Objects      []belay.Object `json:"objects"`
	Reads        []belay.Read   `json:"reads"`
	Warnings     []string       `json:"warnings,omitempty"`
	Partial      bool           `json:"partial,omitempty"`
	Unfit        []int          `json:"unfit,omitempty"`
}

// OpenCache opens or makes a cache in dir that keeps about maxBytes. key must be
// that of the Pool: with another one, the digests of Secrets would not fit, and
// nothing is found. Leftovers of an earlier life are removed.
func OpenCache(dir string, maxBytes int64, key []byte) (*Cache, error) {
	if len(key) < 16 {
		return nil, errors.New("render: the key of a cache needs at least 16 bytes")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the render cache: %w", err)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return nil, fmt.Errorf("open the render cache: %w", err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(1<<30))
	if err != nil {
		return nil, fmt.Errorf("open the render cache: %w", err)
	}
	c := &Cache{dir: dir, max: maxBytes, key: key, version: rendererVersion(), enc: enc, dec: dec, files: map[string]map[string]*cached{}}
	if err := c.scan(); err != nil {
		return nil, fmt.Errorf("open the render cache: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.evict()
	return c, nil
}

// rendererVersion identifies the code that renders: another one may give
// another result for the same input.
func rendererVersion() string {
	v := []string{cacheFormat}
	if info, ok := debug.ReadBuildInfo(); ok {
		v = append(v, info.GoVersion, info.Main.Version)
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" || s.Key == "vcs.modified" {
				v = append(v, s.Value)
			}
		}
		for _, m := range info.Deps {
			if m.Path == "helm.sh/helm/v4" || strings.HasPrefix(m.Path, "sigs.k8s.io/") {
				v = append(v, m.Path+"@"+m.Version)
			}
		}
	}
	return strings.Join(v, " ")
}

// scan learns what is there and removes what cannot be used.
func (c *Cache) scan() error {
	var dirs []string
	err := filepath.WalkDir(c.dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			dirs = append(dirs, p)
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if filepath.Ext(p) != ".zst" {
			return os.Remove(p) // a write that was cut short
		}
		rel, err := filepath.Rel(c.dir, p)
		if err != nil {
			return err
		}
		c.add(rel, info.Size(), info.ModTime())
		return nil
	})
	for _, d := range slices.Backward(dirs) {
		if d != c.dir {
			_ = os.Remove(d) // only the empty ones go
		}
	}
	return err
}

// add notes an entry. The caller holds mu, or is alone.
func (c *Cache) add(name string, size int64, used time.Time) {
	home := filepath.Dir(name)
	if c.files[home] == nil {
		c.files[home] = map[string]*cached{}
	}
	if old := c.files[home][name]; old != nil {
		c.size -= old.size
	}
	c.files[home][name] = &cached{size: size, used: used}
	c.size += size
}

// home is the directory of a request's entries, below dir.
func (c *Cache) home(req Request) (string, error) {
	id, err := json.Marshal(struct {
		Application string
		Source      belay.Source
		Namespace   string
		Version     string
		Patches     []belay.Patch
		Variables   *belay.Variables
		Decryption  *belay.Decryption
		Key         string
	}{req.Application, req.Source, req.Namespace, c.version, req.Patches, req.Variables, req.Decryption, belay.KeyedDigest(c.key, []byte("render cache"))})
	if err != nil {
		return "", fmt.Errorf("name the cache entry of %s: %w", req.Application, err)
	}
	h := belay.Digest(id)
	return filepath.Join(h[:2], h[2:]), nil
}

func capabilities(req Request) string {
	return belay.Digest([]byte(req.KubeVersion + "\n" + strings.Join(req.APIVersions, "\n")))
}

// Get finds the result that an earlier Put left for the request, if the source
// still reads the same. The origins are those of the request. An entry that
// cannot be read is removed and not an error.
func (c *Cache) Get(ctx context.Context, files Files, req Request) (Result, bool, error) {
	home, err := c.home(req)
	if err != nil {
		return Result{}, false, err
	}
	for _, name := range c.candidates(home) {
		if err := context.Cause(ctx); err != nil {
			return Result{}, false, fmt.Errorf("look into the render cache: %w", err)
		}
		e, ok := c.load(name)
		if !ok || e.Capabilities != "" && e.Capabilities != capabilities(req) || !current(files, e.Reads) {
			continue
		}
		c.touch(name)
		res := Result{Objects: e.Objects, Reads: e.Reads, Kind: e.Kind, Warnings: e.Warnings,
			UsesCapabilities: e.Capabilities != "", Partial: e.Partial, Unfit: e.Unfit}
		for i := range res.Objects {
			res.Objects[i].Origin.Repo, res.Objects[i].Origin.Revision = req.Repo, req.Revision
		}
		return res, true, nil
	}
	return Result{}, false, nil
}

// candidates are the entries in a directory, the last used first.
func (c *Cache) candidates(home string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return byUse(c.files[home])
}

// byUse sorts names, the last used first.
func byUse(files map[string]*cached) []string {
	names := slices.Collect(maps.Keys(files))
	slices.SortFunc(names, func(a, b string) int { return files[b].used.Compare(files[a].used) })
	return names
}

func current(files Files, reads []belay.Read) bool {
	for _, r := range reads {
		if d, err := files.Digest(r.Kind, r.Path); err != nil || d != r.Digest {
			return false
		}
	}
	return true
}

func (c *Cache) load(name string) (entry, bool) {
	var e entry
	packed, err := os.ReadFile(filepath.Join(c.dir, name))
	if err == nil {
		var plain []byte
		if plain, err = c.dec.DecodeAll(packed, nil); err == nil {
			err = json.Unmarshal(plain, &e)
		}
	}
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.remove(name)
		return entry{}, false
	}
	return e, true
}

// touch notes that an entry is in use, on disk at most once an hour.
func (c *Cache) touch(name string) {
	now := time.Now()
	c.mu.Lock()
	f := c.files[filepath.Dir(name)][name]
	stale := f != nil && now.Sub(f.used) > time.Hour
	if f != nil {
		f.used = now
	}
	c.mu.Unlock()
	if stale {
		// Only the order of eviction after a restart hangs on it.
		_ = os.Chtimes(filepath.Join(c.dir, name), now, now)
	}
}

// Put keeps a result of [Pool.Render] for the request. Values of Secrets are
// left out. A result whose reads are not all known is not kept.
func (c *Cache) Put(req Request, res Result) error {
	if res.Partial || slices.ContainsFunc(res.Reads, func(r belay.Read) bool { return r.Digest == unknowable }) {
		return nil
	}
	e := entry{Kind: res.Kind, Objects: slices.Clone(res.Objects), Reads: res.Reads, Warnings: res.Warnings, Unfit: res.Unfit}
	if res.UsesCapabilities {
		e.Capabilities = capabilities(req)
	}
	for i := range e.Objects {
		o := &e.Objects[i]
		o.Origin.Repo, o.Origin.Revision = "", "" // they are the request's
		if o.Sensitive() {
			// Field names are enough to plan with and to find drift.
			raw, err := belay.RedactSecret(o.Raw, c.key)
			if err != nil {
				return fmt.Errorf("redact %s of %s: %w", o.ID, req.Application, err)
			}
			o.Raw, o.Redacted = raw, true
			e.Partial = true
		}
	}
	plain, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode the cache entry of %s: %w", req.Application, err)
	}
	home, err := c.home(req)
	if err != nil {
		return err
	}
	reads, err := json.Marshal(e.Reads)
	if err != nil {
		return fmt.Errorf("encode the cache entry of %s: %w", req.Application, err)
	}
	name := filepath.Join(home, belay.Digest(append(reads, e.Capabilities...))+".zst")
	packed := c.enc.EncodeAll(plain, nil)
	if err := c.write(name, packed); err != nil {
		return fmt.Errorf("write the cache entry of %s: %w", req.Application, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(name, int64(len(packed)), time.Now())
	if names := byUse(c.files[home]); len(names) > variants {
		for _, old := range names[variants:] {
			c.remove(old)
		}
	}
	c.evict()
	return nil
}

// write makes the file appear whole or not at all. It may be lost in a crash of
// the machine, or be cut, which its checksum tells.
func (c *Cache) write(name string, data []byte) error {
	p := filepath.Join(c.dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(p), "new-*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), p)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first error is the one to report
	}
	return err
}

// remove forgets an entry. The caller holds mu.
func (c *Cache) remove(name string) {
	home := filepath.Dir(name)
	if f := c.files[home][name]; f != nil {
		c.size -= f.size
		delete(c.files[home], name)
		if len(c.files[home]) == 0 {
			delete(c.files, home)
		}
	}
	_ = os.Remove(filepath.Join(c.dir, name)) // what stays is found again at the next start
}

// evict removes the entries used longest ago until there is some room. The
// caller holds mu.
func (c *Cache) evict() {
	if c.size <= c.max {
		return
	}
	all := map[string]*cached{}
	for _, files := range c.files {
		maps.Copy(all, files)
	}
	for _, name := range slices.Backward(byUse(all)) {
		if c.size <= c.max-c.max/10 {
			return
		}
		c.remove(name)
	}
}
