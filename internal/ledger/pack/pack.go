// Package pack makes Git objects and puts them on the disk as packs, each with its
// index, as gitformat-pack(5) describes them. `git fast-import` does the same, and
// took most of the time of a busy ledger: it maps every pack into memory anew.
//
// It must not know what the objects are for. It reads no repository: what it has to
// know of one it is told.
package pack

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // the checksum that the format has; names of objects are made with more care
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/klauspost/compress/zlib"
)

// maxDepth is how many deltas may stand on one another: what Git's own packs have.
const maxDepth = 50

// ofsDelta is the kind of what is told as a change of an object before it in the pack.
const ofsDelta Kind = 6

// Pack gathers objects in memory. The zero Pack is empty. One goroutine uses it.
type Pack struct {
	buf     bytes.Buffer
	objects []packed
	at      map[ID]int // of an object in objects
	deflate *zlib.Writer
}

type packed struct {
	id     ID
	offset int
	crc    uint32
	depth  int // of deltas below it
}

// Put adds an object, whose ID is that of [Sum]. What is there already is not added again.
func (p *Pack) Put(id ID, kind Kind, data []byte) {
	p.put(id, kind, nil, data, len(data), 0)
}

// PutChanged adds an object as its difference from one that the pack may hold, given
// what that is, and whole if that does not pay or is not known.
func (p *Pack) PutChanged(id ID, kind Kind, data []byte, base ID, before []byte) {
	n, ok := p.at[base]
	if !ok || before == nil || base == id || p.objects[n].depth >= maxDepth {
		p.Put(id, kind, data)
		return
	}
	delta := difference(before, data)
	if len(delta) > len(data)/2 {
		p.Put(id, kind, data)
		return
	}
	back := distance(len(p.head()) + p.buf.Len() - p.objects[n].offset)
	p.put(id, ofsDelta, back, delta, len(delta), p.objects[n].depth+1)
}

// head stands before the objects; their number is filled in at the end.
func (p *Pack) head() []byte { return []byte("PACK\x00\x00\x00\x02\x00\x00\x00\x00") }

func (p *Pack) put(id ID, kind Kind, extra, data []byte, size, depth int) {
	if _, ok := p.at[id]; ok {
		return
	}
	if p.at == nil {
		p.at = map[ID]int{}
	}
	start := p.buf.Len()
	// Four bits of the size stand beside the kind, then seven in each byte.
	c := byte(kind)<<4 | byte(size&15)
	for size >>= 4; size > 0; size >>= 7 {
		p.buf.WriteByte(c | 0x80)
		c = byte(size & 127)
	}
	p.buf.WriteByte(c)
	p.buf.Write(extra)
	if p.deflate == nil {
		p.deflate, _ = zlib.NewWriterLevel(&p.buf, zlib.BestSpeed) // the level is one that there is
	} else {
		p.deflate.Reset(&p.buf)
	}
	_, err := p.deflate.Write(data)
	if err = errors.Join(err, p.deflate.Close()); err != nil {
		panic(err) // memory takes everything
	}
	p.at[id] = len(p.objects)
	p.objects = append(p.objects, packed{id: id, offset: len(p.head()) + start, crc: crc32.ChecksumIEEE(p.buf.Bytes()[start:]), depth: depth})
}

// distance is how far back the base of a delta begins. Each byte but the last adds
// one, so that no distance can be written in two ways.
func distance(n int) []byte {
	b := []byte{byte(n & 127)}
	for n >>= 7; n > 0; n >>= 7 {
		n--
		b = append(b, 0x80|byte(n&127))
	}
	slices.Reverse(b)
	return b
}

// Store writes the pack and its index to a directory, that of packs in a repository.
// Once it returns both outlast a power cut; if they cannot be written, nothing of
// them is left. Git finds objects in a pack of which it has the index, so that comes last.
func (p *Pack) Store(dir string) error {
	if p.buf.Len() > math.MaxInt32-1024 {
		return fmt.Errorf("%d bytes of objects are too many for one pack", p.buf.Len())
	}
	body := p.head()
	binary.BigEndian.PutUint32(body[8:], uint32(len(p.objects)))
	h := sha1.New() //nolint:gosec // see above
	h.Write(body)
	h.Write(p.buf.Bytes())
	sum := h.Sum(nil)
	name := filepath.Join(dir, fmt.Sprintf("pack-%x", sum))
	if err := write(name+".pack", body, p.buf.Bytes(), sum); err != nil {
		return err
	}
	if err := write(name+".idx", p.index(sum)); err != nil {
		return errors.Join(err, os.Remove(name+".pack"))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// write makes a file whole, or not at all.
func write(path string, parts ...[]byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "tmp_"+filepath.Ext(path)[1:]+"_*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // the first error is the one to tell
		}
	}()
	for _, b := range parts {
		if _, err := f.Write(b); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	if err := errors.Join(f.Chmod(0o444), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// index says where in the pack each object begins: version 2 of the format.
func (p *Pack) index(sum []byte) []byte {
	sorted := slices.Clone(p.objects)
	slices.SortFunc(sorted, func(a, b packed) int { return bytes.Compare(a.id[:], b.id[:]) })
	b := make([]byte, 0, 8+256*4+len(sorted)*28+40)
	b = append(b, "\xfftOc\x00\x00\x00\x02"...)
	n := 0
	for first := range 256 {
		for n < len(sorted) && int(sorted[n].id[0]) <= first {
			n++
		}
		b = binary.BigEndian.AppendUint32(b, uint32(n))
	}
	for i := range sorted {
		b = append(b, sorted[i].id[:]...)
	}
	for i := range sorted {
		b = binary.BigEndian.AppendUint32(b, sorted[i].crc)
	}
	for i := range sorted {
		b = binary.BigEndian.AppendUint32(b, uint32(sorted[i].offset))
	}
	b = append(b, sum...)
	own := sha1.Sum(b) //nolint:gosec // see above
	return append(b, own[:]...)
}
