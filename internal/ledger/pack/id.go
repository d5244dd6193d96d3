package pack

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/pjbgf/sha1cd"
)

// ID is the name of an object. The zero ID names none.
type ID [20]byte

// ParseID reads what String writes.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) == hex.EncodedLen(len(id)) {
		if _, err := hex.Decode(id[:], []byte(s)); err == nil {
			return id, nil
		}
	}
	return ID{}, fmt.Errorf("%.60q is no name of an object", s)
}

// String is the ID as Git prints it: forty hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Kind is what an object is.
type Kind byte

// The kinds of objects, with the numbers that they have in a pack.
const (
	Commit Kind = 1
	Tree   Kind = 2
	Blob   Kind = 3
)

func (k Kind) String() string {
	switch k {
	case Commit:
		return "commit"
	case Tree:
		return "tree"
	case Blob:
		return "blob"
	}
	return "object of kind " + strconv.Itoa(int(k))
}

// ErrCollision is the error of content that was made to have the name of another.
// No Git takes a repository that holds such a thing.
var ErrCollision = errors.New("its content is part of an attack on SHA-1")

// Sum is the ID of an object, as gitformat-loose(5) defines it: the SHA-1 of a header
// and the content. It fails with ErrCollision where Git would.
func Sum(kind Kind, data []byte) (ID, error) {
	h := sha1cd.New().(sha1cd.CollisionResistantHash) //nolint:forcetypeassert // as its documentation says
	var head [32]byte
	b := append(append(head[:0], kind.String()...), ' ')
	b = append(strconv.AppendInt(b, int64(len(data)), 10), 0)
	h.Write(b)
	h.Write(data)
	sum, collides := h.CollisionResistantSum(nil)
	if collides {
		return ID{}, fmt.Errorf("a %s of %d bytes: %w", kind, len(data), ErrCollision)
	}
	return ID(sum), nil
}
