package xec

import (
	"encoding/base64"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Redacted stands in place of a secret.
const Redacted = "[redacted]"

// shortest is the length below which a value is not replaced: hiding it would
// garble every message and hide nothing.
const shortest = 4

// Scrubber removes secrets from text. The nil Scrubber removes only the
// credentials in URLs.
type Scrubber struct{ values []string }

// NewScrubber removes each of the values, each line of those that have several
// (a key in PEM), and their URL-escaped and base64 forms. Values under 4 bytes
// are left alone.
func NewScrubber(values ...string) *Scrubber {
	s := &Scrubber{}
	add := func(v string) {
		if len(v) >= shortest && !strings.HasPrefix(v, "-----") {
			s.values = append(s.values, v)
		}
	}
	for _, v := range values {
		trimmed := strings.TrimSpace(v)
		add(v)
		add(trimmed)
		if strings.Contains(trimmed, "\n") {
			for line := range strings.Lines(trimmed) {
				add(strings.TrimSpace(line))
			}
			continue
		}
		if len(trimmed) >= shortest {
			add(url.QueryEscape(trimmed))
			add(url.PathEscape(trimmed))
			add(base64.StdEncoding.EncodeToString([]byte(trimmed)))
		}
	}
	// Longest first, or a part would be replaced and the rest would stay.
	slices.SortFunc(s.values, func(a, b string) int {
		if d := len(b) - len(a); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	s.values = slices.Compact(s.values)
	return s
}

var (
	// A token is often given as the user's name, so all of it goes. A password may
	// hold an @ that nobody escaped: what is left starts after the last.
	httpUserinfo  = regexp.MustCompile(`(?i)(https?://)[^\s/'"]+@`)
	otherUserinfo = regexp.MustCompile(`(?i)([a-z][a-z0-9+.-]*://[^\s/:'"]*):[^\s/'"]*@`)
	authorization = regexp.MustCompile(`(?i)(authorization:\s*\w+\s+)\S+`)
)

// String is text without secrets and without credentials in URLs.
func (s *Scrubber) String(text string) string {
	if s != nil {
		for _, v := range s.values {
			text = strings.ReplaceAll(text, v, Redacted)
		}
	}
	text = httpUserinfo.ReplaceAllString(text, "$1")
	text = otherUserinfo.ReplaceAllString(text, "$1@")
	return authorization.ReplaceAllString(text, "${1}"+Redacted)
}

// Error is err when its text holds no secret, else an error with the text
// scrubbed that matches nothing with errors.Is.
func (s *Scrubber) Error(err error) error {
	if err == nil {
		return nil
	}
	if text := s.String(err.Error()); text != err.Error() {
		return errors.New(text)
	}
	return err
}
