package wire

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
)

// The messages of a render are small and many, and JSON of them was a fifth of
// what a small render costs. So those that come with every render are encoded by
// hand: numbers as varints, texts as their length and bytes. Each encoding is
// read to its last byte or not at all.

// encoder appends to a head.
type encoder []byte

func (e *encoder) number(n uint64) { *e = binary.AppendUvarint(*e, n) }

func (e *encoder) text(s string) {
	e.number(uint64(len(s)))
	*e = append(*e, s...)
}

func (e *encoder) texts(list []string) {
	e.number(uint64(len(list)))
	for _, s := range list {
		e.text(s)
	}
}

// flags packs booleans, the first in the lowest bit.
func (e *encoder) flags(bits ...bool) {
	var n uint64
	for i, b := range bits {
		if b {
			n |= 1 << i
		}
	}
	e.number(n)
}

// decoder reads a head. After something wrong it gives zeros and stays broken.
type decoder struct {
	rest   string // texts share its memory
	broken bool
}

func (d *decoder) number() uint64 {
	var n uint64
	for shift := 0; shift < 64; shift += 7 {
		if len(d.rest) == 0 {
			break
		}
		b := d.rest[0]
		d.rest = d.rest[1:]
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
	}
	d.broken, d.rest = true, ""
	return 0
}

// size is a number of bytes or a line: never negative.
func (d *decoder) size() int64 {
	n := d.number()
	if n > math.MaxInt64 {
		d.broken, d.rest = true, ""
		return 0
	}
	return int64(n)
}

func (d *decoder) text() string {
	n := d.number()
	if n > uint64(len(d.rest)) {
		d.broken, d.rest = true, ""
		return ""
	}
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s
}

// count is the length of a list whose entries take so many bytes each at least, so
// that no memory is spent on what is only announced.
func (d *decoder) count(bytes int) int {
	n := d.number()
	if n > uint64(len(d.rest)/bytes) {
		d.broken, d.rest = true, ""
		return 0
	}
	return int(n)
}

func (d *decoder) texts() []string {
	n := d.count(1)
	if n == 0 {
		return nil
	}
	out := make([]string, n)
	for i := range out {
		out[i] = d.text()
	}
	return out
}

func (d *decoder) flags(bits ...*bool) {
	n := d.number()
	for i, b := range bits {
		*b = n&(1<<i) != 0
	}
	if n>>len(bits) != 0 {
		d.broken, d.rest = true, ""
	}
}

// done is an error unless everything was read and made sense.
func (d *decoder) done(t Type) error {
	if d.broken || len(d.rest) > 0 {
		return &ProtocolError{Problem: fmt.Sprintf("%s frame with a bad head", t)}
	}
	return nil
}

func (q Question) encode(e *encoder) {
	e.texts(q.Stat)
	e.texts(q.List)
	e.texts(q.Read)
}

func (q *Question) decode(d *decoder) {
	q.Stat, q.List, q.Read = d.texts(), d.texts(), d.texts()
	if q.Len() > maxPaths {
		d.broken = true
	}
}

func (a *Answers) encode(e *encoder) {
	e.number(uint64(len(a.Items)))
	for i := range a.Items {
		it := &a.Items[i]
		e.flags(it.Dir, it.Error != nil, it.Error != nil && it.Error.Missing)
		if it.Error != nil {
			e.text(it.Error.Path)
			e.text(it.Error.Reason)
		}
		e.number(uint64(it.Size))
		e.number(uint64(len(it.Entries)))
		for _, entry := range it.Entries {
			e.flags(entry.Dir, entry.Submodule)
			e.text(entry.Name)
		}
	}
}

func (a *Answers) decode(d *decoder) {
	a.Items = make([]Item, d.count(3))
	for i := range a.Items {
		it := &a.Items[i]
		var failed, missing bool
		if d.flags(&it.Dir, &failed, &missing); failed {
			it.Error = &PathError{Path: d.text(), Reason: d.text(), Missing: missing}
		}
		it.Size = d.size()
		if n := d.count(2); n > 0 {
			it.Entries = make([]Entry, n)
			for j := range it.Entries {
				d.flags(&it.Entries[j].Dir, &it.Entries[j].Submodule)
				it.Entries[j].Name = d.text()
			}
		}
	}
}

func (o *Output) encode(e *encoder) error {
	e.text(o.Kind)
	e.flags(o.UsesCapabilities, o.Retire)
	e.number(uint64(len(o.Docs)))
	for i := range o.Docs {
		d := &o.Docs[i]
		e.text(d.File)
		e.number(uint64(max(d.Line, 0)))
		e.number(uint64(d.Size))
	}
	e.texts(o.Warnings)
	e.number(uint64(len(o.Unfit)))
	for _, n := range o.Unfit {
		e.number(uint64(n))
	}
	problems := []byte(nil) // rare, and of many fields
	if len(o.Problems) > 0 {
		var err error
		if problems, err = json.Marshal(o.Problems); err != nil {
			return fmt.Errorf("encode problems: %w", err)
		}
	}
	e.text(string(problems))
	return nil
}

func (o *Output) decode(d *decoder) {
	o.Kind = d.text()
	d.flags(&o.UsesCapabilities, &o.Retire)
	if n := d.count(3); n > 0 {
		o.Docs = make([]Doc, n)
	}
	for i := range o.Docs {
		o.Docs[i] = Doc{File: d.text(), Line: int(d.size()), Size: d.size()}
	}
	o.Warnings = d.texts()
	for range d.count(1) {
		o.Unfit = append(o.Unfit, int(d.size()))
	}
	if p := d.text(); p != "" && json.Unmarshal([]byte(p), &o.Problems) != nil {
		d.broken = true
	}
}

func (j *Job) encode(e *encoder, ahead *Answers) error {
	text, err := json.Marshal(j)
	if err != nil {
		return fmt.Errorf("encode a job: %w", err)
	}
	e.text(string(text))
	ahead.encode(e)
	return nil
}

func (j *Job) decode(d *decoder, ahead *Answers) {
	if json.Unmarshal([]byte(d.text()), j) != nil {
		d.broken = true
	}
	ahead.decode(d)
}
