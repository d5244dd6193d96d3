package git

import (
	"container/list"
	"sync"
)

// Cache keeps objects by their id, the least recently used ones going first.
// What an id names never changes, so one cache serves all repositories.
type Cache struct {
	mu    sync.Mutex
	max   int64
	size  int64
	order *list.List // of *cached, most recently used first
	byID  map[string]*list.Element
	stats CacheStats
}

type cached struct {
	id    string
	value any // *Tree or []byte
	size  int64
}

// CacheStats count since the start.
type CacheStats struct {
	Hits, Misses uint64
	Bytes        int64
	Objects      int
}

// maxCachedBlob: larger files are read again; they would push out too much.
const maxCachedBlob = 256 << 10

// NewCache makes a cache that holds about max bytes.
func NewCache(max int64) *Cache {
	return &Cache{max: max, order: list.New(), byID: map[string]*list.Element{}}
}

// Stats of the cache.
func (c *Cache) Stats() CacheStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Bytes, s.Objects = c.size, c.order.Len()
	return s
}

func (c *Cache) get(id string) (any, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byID[id]
	if !ok {
		c.stats.Misses++
		return nil, false
	}
	c.stats.Hits++
	c.order.MoveToFront(e)
	return e.Value.(*cached).value, true
}

func (c *Cache) put(id string, value any, size int64) {
	size += int64(len(id)) + 200 // the bookkeeping
	if size > c.max/4 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.byID[id]; ok {
		return
	}
	c.byID[id] = c.order.PushFront(&cached{id, value, size})
	c.size += size
	c.shrink(c.max)
}

// Trim keeps what was used last, and no more than as many bytes of it.
func (c *Cache) Trim(bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shrink(bytes)
}

func (c *Cache) shrink(bytes int64) {
	for c.size > bytes {
		last := c.order.Back()
		old := c.order.Remove(last).(*cached)
		delete(c.byID, old.id)
		c.size -= old.size
	}
}
