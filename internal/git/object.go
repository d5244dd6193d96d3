package git

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// EntryType is what a tree says an entry is.
type EntryType byte

// The types of entries.
const (
	TypeFile      EntryType = 'f'
	TypeExec      EntryType = 'x'
	TypeDir       EntryType = 'd'
	TypeLink      EntryType = 'l'
	TypeSubmodule EntryType = 's'
)

// Entry is one line of a tree.
type Entry struct {
	Name string
	Type EntryType
	ID   string
}

// Tree is a directory at some commit. It must not be changed: it is shared.
type Tree struct {
	// Entries in the order of their names.
	Entries []Entry

	once   sync.Once
	digest string
}

// Lookup finds an entry by name.
func (t *Tree) Lookup(name string) (Entry, bool) {
	i, ok := slices.BinarySearchFunc(t.Entries, name, func(e Entry, n string) int { return strings.Compare(e.Name, n) })
	if !ok {
		return Entry{}, false
	}
	return t.Entries[i], true
}

// ListDigest covers the names and types of the entries and nothing else: an
// edited file leaves it as it is. Whether a file is executable does not count.
func (t *Tree) ListDigest() string {
	t.once.Do(func() { t.digest = ListDigest(t.Entries) })
	return t.digest
}

// ListDigest is the digest of the names and types of entries in the order of
// their names.
func ListDigest(entries []Entry) string {
	h := sha256.New()
	for _, e := range entries {
		kind := e.Type
		if kind == TypeExec {
			kind = TypeFile
		}
		h.Write([]byte{byte(kind)})
		h.Write([]byte(e.Name))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:20])
}

// Tree reads a tree that a commit or another tree names.
func (m *Mirror) Tree(ctx context.Context, id string) (*Tree, error) {
	if v, ok := m.o.Cache.get(id); ok {
		if t, ok := v.(*Tree); ok {
			return t, nil
		}
	}
	o, err := m.must(ctx, id, "tree", 64<<20)
	if err != nil {
		return nil, err
	}
	t, size, err := parseTree(o.data, len(id)/2)
	if err != nil {
		m.damaged(id, err)
		return nil, fmt.Errorf("read tree %s: %w: %w", id, ErrBroken, err)
	}
	m.o.Cache.put(id, t, size)
	return t, nil
}

// Blob reads a file that a tree names. The bytes must not be changed: they are
// shared. A file over Options.MaxBlob is [ErrTooBig].
func (m *Mirror) Blob(ctx context.Context, id string) ([]byte, error) {
	if v, ok := m.o.Cache.get(id); ok {
		if b, ok := v.([]byte); ok {
			return b, nil
		}
	}
	o, err := m.must(ctx, id, "blob", m.o.MaxBlob)
	if err != nil {
		return nil, err
	}
	if o.size <= maxCachedBlob {
		m.o.Cache.put(id, o.data, o.size)
	}
	return o.data, nil
}

// BlobSize is the size in bytes of a file that a tree names.
func (m *Mirror) BlobSize(ctx context.Context, id string) (int64, error) {
	if v, ok := m.o.Cache.get(id); ok {
		if b, ok := v.([]byte); ok {
			return int64(len(b)), nil
		}
	}
	o, err := m.read(ctx, id, 0, (*reader).info)
	if errors.Is(err, ErrMissing) {
		m.damaged(id, err)
		err = fmt.Errorf("%w: %w", ErrBroken, err)
	}
	if err != nil {
		return 0, fmt.Errorf("read blob %s: %w", id, err)
	}
	return o.size, nil
}

// must reads an object that has to be there because another one names it.
func (m *Mirror) must(ctx context.Context, id, kind string, limit int64) (object, error) {
	o, err := m.read(ctx, id, limit, (*reader).contents)
	switch {
	case errors.Is(err, ErrMissing):
		m.damaged(id, err)
		return o, fmt.Errorf("read %s %s: %w: %w", kind, id, ErrBroken, err)
	case errors.Is(err, ErrTooBig):
		return o, fmt.Errorf("read %s %s: %w: %d bytes are more than %d", kind, id, ErrTooBig, o.size, limit)
	case err != nil:
		return o, fmt.Errorf("read %s %s: %w", kind, id, err)
	case o.kind != kind:
		return o, fmt.Errorf("read %s %s: it is a %s", kind, id, o.kind)
	}
	return o, nil
}

// parseTree parses git's format: mode SP name NUL id, again and again.
func parseTree(data []byte, idLen int) (*Tree, int64, error) {
	type span struct {
		typ             EntryType
		nameAt, nameEnd int
	}
	// All names and ids go into one string that the entries share.
	text := make([]byte, 0, len(data)*2)
	spans := make([]span, 0, len(data)/(idLen+16)+1)
	for len(data) > 0 {
		sp := bytes.IndexByte(data, ' ')
		nul := bytes.IndexByte(data, 0)
		if sp < 1 || nul < sp+2 || len(data) < nul+1+idLen {
			return nil, 0, errors.New("malformed tree")
		}
		typ, err := entryType(string(data[:sp]))
		if err != nil {
			return nil, 0, err
		}
		name := data[sp+1 : nul]
		if bytes.IndexByte(name, '/') >= 0 || string(name) == "." || string(name) == ".." {
			return nil, 0, fmt.Errorf("malformed tree: an entry is named %q", name)
		}
		s := span{typ: typ, nameAt: len(text)}
		text = append(text, name...)
		s.nameEnd = len(text)
		text = hex.AppendEncode(text, data[nul+1:nul+1+idLen])
		spans = append(spans, s)
		data = data[nul+1+idLen:]
	}
	all := string(text)
	t := &Tree{Entries: make([]Entry, len(spans))}
	for i, s := range spans {
		t.Entries[i] = Entry{Name: all[s.nameAt:s.nameEnd], Type: s.typ, ID: all[s.nameEnd : s.nameEnd+2*idLen]}
	}
	byName := func(a, b Entry) int { return strings.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(t.Entries, byName) { // git sorts a directory as if its name ended in a slash
		slices.SortFunc(t.Entries, byName)
	}
	return t, int64(len(all)) + int64(len(spans))*40, nil
}

func entryType(mode string) (EntryType, error) {
	switch mode {
	case "40000", "040000":
		return TypeDir, nil
	case "100755", "100775", "100777":
		return TypeExec, nil
	case "120000":
		return TypeLink, nil
	case "160000":
		return TypeSubmodule, nil
	}
	if strings.HasPrefix(mode, "100") {
		return TypeFile, nil
	}
	return 0, fmt.Errorf("malformed tree: unknown mode %q", mode)
}

// CommitInfo is what a commit says about itself.
type CommitInfo struct {
	ID      string
	Tree    string
	Parents []string
	// Author and their address, and when they wrote it.
	AuthorName, AuthorEmail string
	Time                    time.Time
	// Subject is the first line of the message.
	Subject string
}

// Commit reads a commit. An id that is not there is [ErrMissing].
func (m *Mirror) Commit(ctx context.Context, id string) (CommitInfo, error) {
	o, err := m.read(ctx, id, 1<<20, (*reader).contents)
	if err != nil {
		return CommitInfo{}, fmt.Errorf("read commit %s: %w", id, err)
	}
	if o.kind != "commit" {
		return CommitInfo{}, fmt.Errorf("read commit %s: it is a %s", id, o.kind)
	}
	c, err := parseCommit(id, o.data)
	if err != nil {
		m.damaged(id, err)
		return CommitInfo{}, fmt.Errorf("read commit %s: %w: %w", id, ErrBroken, err)
	}
	return c, nil
}

// HasCommit says whether the mirror has a commit.
func (m *Mirror) HasCommit(ctx context.Context, id string) (bool, error) {
	o, err := m.read(ctx, id, 0, (*reader).info)
	if errors.Is(err, ErrMissing) {
		return false, nil
	}
	return err == nil && o.kind == "commit", err
}

func parseCommit(id string, data []byte) (CommitInfo, error) {
	c := CommitInfo{ID: id}
	head, message, _ := strings.Cut(strings.ToValidUTF8(string(data), "\uFFFD"), "\n\n")
	for line := range strings.SplitSeq(head, "\n") {
		key, value, _ := strings.Cut(line, " ")
		switch key {
		case "tree":
			c.Tree = value
		case "parent":
			c.Parents = append(c.Parents, value)
		case "author":
			c.AuthorName, c.AuthorEmail, c.Time = parsePerson(value)
		}
	}
	if !validID(c.Tree) {
		return c, errors.New("malformed commit")
	}
	subject, _, _ := strings.Cut(strings.TrimLeft(message, "\n"), "\n")
	c.Subject = strings.TrimSpace(subject)
	return c, nil
}

// parsePerson takes "Name <address> seconds zone" apart, as far as it goes.
func parsePerson(s string) (name, email string, at time.Time) {
	open, end := strings.IndexByte(s, '<'), strings.LastIndexByte(s, '>')
	if open < 0 || end < open {
		return strings.TrimSpace(s), "", time.Time{}
	}
	name, email = strings.TrimSpace(s[:open]), s[open+1:end]
	if f := strings.Fields(s[end+1:]); len(f) > 0 {
		if sec, err := strconv.ParseInt(f[0], 10, 64); err == nil {
			at = time.Unix(sec, 0).UTC()
		}
	}
	return name, email, at
}
