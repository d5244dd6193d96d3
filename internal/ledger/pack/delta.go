package pack

import "encoding/binary"

// The longest that one instruction of a delta can copy, and insert.
const (
	mostCopied   = 1<<24 - 1
	mostInserted = 127
)

// difference tells how to make one text of another, as gitformat-pack(5) writes it:
// what both begin and end with is copied, what stands between is told. That is all
// there is to a directory in which an entry changed.
func difference(base, target []byte) []byte {
	start := 0
	for start < min(len(base), len(target)) && base[start] == target[start] {
		start++
	}
	end := 0
	for end < min(len(base), len(target))-start && base[len(base)-1-end] == target[len(target)-1-end] {
		end++
	}
	b := binary.AppendUvarint(nil, uint64(len(base)))
	b = binary.AppendUvarint(b, uint64(len(target)))
	b = appendCopy(b, 0, start)
	for told := target[start : len(target)-end]; len(told) > 0; {
		n := min(len(told), mostInserted)
		b = append(append(b, byte(n)), told[:n]...)
		told = told[n:]
	}
	return appendCopy(b, len(base)-end, end)
}

// appendCopy has n bytes of the base copied. Bytes of offset and size that are zero
// are left out, and the first byte says which are there.
func appendCopy(b []byte, offset, n int) []byte {
	for n > 0 {
		size := min(n, mostCopied)
		first := len(b)
		b = append(b, 0x80)
		for i := range 4 {
			if c := byte(offset >> (8 * i)); c != 0 {
				b[first] |= 1 << i
				b = append(b, c)
			}
		}
		for i := range 3 {
			if c := byte(size >> (8 * i)); c != 0 {
				b[first] |= 0x10 << i
				b = append(b, c)
			}
		}
		offset, n = offset+size, n-size
	}
	return b
}
