package index

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
)

// small is the size below which packing saves nothing worth its time.
const small = 1024

var packers = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, flate.BestSpeed)
	if err != nil {
		panic(err) // the level is a good one
	}
	return w
}}

var unpackers = sync.Pool{New: func() any { return flate.NewReader(bytes.NewReader(nil)) }}

// pack is JSON with a checksum: a cache must not tell an auditor what a bit that
// flipped says.
func pack(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode for the index: %w", err)
	}
	out := binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(raw))
	if len(raw) < small {
		return append(append(out, 0), raw...), nil
	}
	b := bytes.NewBuffer(append(out, 1))
	w := packers.Get().(*flate.Writer)
	defer packers.Put(w)
	w.Reset(b)
	if _, err := w.Write(raw); err != nil {
		return nil, fmt.Errorf("pack for the index: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack for the index: %w", err)
	}
	return b.Bytes(), nil
}

// unpack reads what pack wrote, and returns how large it was.
func unpack(b []byte, v any) (int, error) {
	if len(b) < 5 {
		return 0, errDamaged
	}
	raw := b[5:]
	if b[4] != 0 {
		r := unpackers.Get().(io.ReadCloser)
		defer unpackers.Put(r)
		err := r.(flate.Resetter).Reset(bytes.NewReader(raw), nil)
		if err == nil {
			raw, err = io.ReadAll(io.LimitReader(r, 4*maxObject))
		}
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errDamaged, err)
		}
	}
	if crc32.ChecksumIEEE(raw) != binary.BigEndian.Uint32(b) {
		return 0, errDamaged
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return 0, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return len(raw), nil
}
