// Package wire is what the render parent and its workers say to each other:
// length-prefixed frames on a pair of pipes, the messages inside them, and the
// Tree through which a renderer sees the source.
//
// It must not know how anything is rendered, nor processes or sandboxes, and it trusts
// neither side: every length is checked before memory is spent on it.
//
// # Protocol
//
// A frame is a type (1 byte), the length of its head (4 bytes) and of its body
// (8 bytes), both big-endian, then the head and the body (raw bytes that the head
// describes). One conversation at a time runs on a pair of pipes:
//
//	parent                         worker
//	Setup (Limits)         ──►     locks itself down
//	                       ◄──     Hello (Greeting)
//	Job (Job, data)        ──►     with the answers to its first questions
//	                       ◄──     Ask (Question), any number of times
//	Answer (Answers, data) ──►
//	                       ◄──     Done (Output, manifests)
//	Job …
//
// The worker ends when its input does.
package wire

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Type of a frame.
type Type uint8

// The types of frames.
const (
	Setup Type = iota + 1
	Hello
	JobFrame
	Ask
	Answer
	Done
)

// String names the type for errors.
func (t Type) String() string {
	names := [...]string{Setup: "setup", Hello: "hello", JobFrame: "job", Ask: "ask", Answer: "answer", Done: "done"}
	if int(t) < len(names) && names[t] != "" {
		return names[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

const prefixSize = 1 + 4 + 8

// MaxHead bounds the head of any frame, in bytes.
const MaxHead = 64 << 20

// Frame is one message. Body may be nil.
type Frame struct {
	Type Type
	Head []byte
	Body []byte
}

// TooLargeError is the error of a frame that is longer than the reader allows.
type TooLargeError struct {
	Type  Type
	Size  uint64
	Limit int64
}

// Error says how large and what the limit is.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("%s frame of %d bytes, limit %d", e.Type, e.Size, e.Limit)
}

// ProtocolError is a frame that makes no sense. Whoever sent it is broken or hostile.
type ProtocolError struct{ Problem string }

// Error says what is wrong.
func (e *ProtocolError) Error() string { return "render protocol: " + e.Problem }

// Write sends one frame. Its head is encoded as JSON, its body is the
// concatenation of the parts.
func Write(w io.Writer, t Type, head any, body ...[]byte) error {
	h, err := json.Marshal(head)
	if err != nil {
		return fmt.Errorf("encode %s frame: %w", t, err)
	}
	return send(w, t, h, body...)
}

func send(w io.Writer, t Type, h []byte, body ...[]byte) error {
	if len(h) > MaxHead {
		return &TooLargeError{Type: t, Size: uint64(len(h)), Limit: MaxHead}
	}
	var size uint64
	for _, b := range body {
		size += uint64(len(b))
	}
	var prefix [prefixSize]byte
	prefix[0] = byte(t)
	binary.BigEndian.PutUint32(prefix[1:], uint32(len(h)))
	binary.BigEndian.PutUint64(prefix[5:], size)
	bw := writers.Get().(*bufio.Writer) // the pool holds nothing else
	bw.Reset(w)
	defer func() {
		bw.Reset(io.Discard) // keeps neither the pipe nor an error of it
		writers.Put(bw)
	}()
	// The writer keeps its first error for the end.
	_, _ = bw.Write(prefix[:])
	_, _ = bw.Write(h)
	for _, part := range body {
		_, _ = bw.Write(part)
	}
	if err := bw.Flush(); err != nil {
		return fmt.Errorf("write %s frame: %w", t, err)
	}
	return nil
}

// writers are shared: a render exchanges many small frames, and a fresh buffer
// for each was 7% of the time of a commit that touches every application.
var writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 64<<10) }}

// Read takes one frame of at most limit bytes, head and body together. At the
// end of the stream between two frames the error is io.EOF.
func Read(r io.Reader, limit int64) (Frame, error) {
	var prefix [prefixSize]byte
	if _, err := io.ReadFull(r, prefix[:1]); err != nil {
		return Frame{}, err
	}
	if _, err := io.ReadFull(r, prefix[1:]); err != nil {
		return Frame{}, fmt.Errorf("read frame: %w", unexpected(err))
	}
	f := Frame{Type: Type(prefix[0])}
	if f.Type < Setup || f.Type > Done {
		return Frame{}, &ProtocolError{Problem: "unknown frame " + f.Type.String()}
	}
	head := binary.BigEndian.Uint32(prefix[1:])
	body := binary.BigEndian.Uint64(prefix[5:])
	if head > MaxHead || uint64(head) > uint64(limit) || body > uint64(limit)-uint64(head) {
		size := max(uint64(head)+body, body) // the sum may overflow
		return Frame{}, &TooLargeError{Type: f.Type, Size: size, Limit: limit}
	}
	var err error
	if f.Head, err = take(r, int64(head)); err != nil {
		return Frame{}, fmt.Errorf("read %s frame: %w", f.Type, err)
	}
	if f.Body, err = take(r, int64(body)); err != nil {
		return Frame{}, fmt.Errorf("read %s frame: %w", f.Type, err)
	}
	return f, nil
}

// take reads n bytes. Memory grows with what arrives, not with what was announced.
func take(r io.Reader, n int64) ([]byte, error) {
	const trusted = 1 << 20
	if n == 0 {
		return nil, nil
	}
	if n <= trusted {
		b := make([]byte, n)
		_, err := io.ReadFull(r, b)
		return b, unexpected(err)
	}
	var buf bytes.Buffer
	buf.Grow(trusted)
	if _, err := io.CopyN(&buf, r, n); err != nil {
		return nil, unexpected(err)
	}
	return buf.Bytes(), nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (f Frame) due(t Type) error {
	if f.Type != t {
		return &ProtocolError{Problem: fmt.Sprintf("%s frame where %s was due", f.Type, t)}
	}
	return nil
}

// Decode reads the JSON head of a frame that must be of type t into v.
func (f Frame) Decode(t Type, v any) error {
	if err := f.due(t); err != nil {
		return err
	}
	if err := json.Unmarshal(f.Head, v); err != nil {
		return &ProtocolError{Problem: fmt.Sprintf("%s frame with a bad head", f.Type)}
	}
	return nil
}

// Cut splits a body into parts of the given sizes, which must use it up.
func Cut(body []byte, sizes func(yield func(int64) bool)) ([][]byte, error) {
	var parts [][]byte
	rest := body
	for n := range sizes {
		if n < 0 || n > int64(len(rest)) {
			return nil, &ProtocolError{Problem: "a part reaches beyond its frame"}
		}
		parts = append(parts, rest[:n:n])
		rest = rest[n:]
	}
	if len(rest) > 0 {
		return nil, &ProtocolError{Problem: fmt.Sprintf("%d bytes more than announced", len(rest))}
	}
	return parts, nil
}
