package signature

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// Beginnings of armored signatures.
const (
	sshBegin  = "-----BEGIN SSH SIGNATURE-----"
	sshEnd    = "-----END SSH SIGNATURE-----"
	pgpBegin  = "-----BEGIN PGP SIGNATURE-----"
	pgpAlso   = "-----BEGIN PGP MESSAGE-----" // git looks for it too, and old gpg made it
	x509Begin = "-----BEGIN SIGNED MESSAGE-----"
)

// SplitCommit takes a raw commit apart into what is signed and the armored
// signature, which is nil if there is none. Git leaves every header that begins
// with "gpgsig" out of what is signed, so anybody could add to those: a commit
// with more than one signature is refused.
func SplitCommit(raw []byte) (payload, sig []byte, err error) {
	head, body := raw, []byte(nil)
	if i := bytes.Index(raw, []byte("\n\n")); i >= 0 {
		head, body = raw[:i+1], raw[i+1:]
	}
	inside := false // of a header that is no part of what is signed
	seen := 0
	for line := range bytes.Lines(head) {
		switch {
		case inside && line[0] == ' ':
			sig = append(sig, line[1:]...)
			continue
		case bytes.HasPrefix(line, []byte("gpgsig")):
			name, value, _ := bytes.Cut(line, []byte(" "))
			if s := string(name); s != "gpgsig" && s != "gpgsig-sha256" {
				return nil, nil, &Error{Reason: Unsupported, Detail: "it has a header " + strconv.Quote(strings.TrimSpace(s))}
			}
			seen++
			inside = true
			sig = append(append([]byte{}, sig...), value...)
			continue
		}
		inside = false
		payload = append(payload, line...)
	}
	if seen > 1 {
		return nil, nil, &Error{Reason: Unsupported, Detail: "it has more than one signature"}
	}
	return append(payload, body...), sig, nil
}

// SplitTag takes a raw tag apart likewise: its signature is the end of its message.
func SplitTag(raw []byte) (payload, sig []byte) {
	match := len(raw)
	for at := 0; at < len(raw); {
		rest := raw[at:]
		for _, begin := range []string{sshBegin, pgpBegin, pgpAlso, x509Begin} {
			if bytes.HasPrefix(rest, []byte(begin)) {
				match = at // the last one counts
			}
		}
		n := bytes.IndexByte(rest, '\n')
		if n < 0 {
			break
		}
		at += n + 1
	}
	return raw[:match:match], raw[match:]
}

// When is the time that a commit's committer or a tag's tagger gives; zero where
// there is none.
func When(payload []byte) time.Time {
	for _, name := range []string{"committer", "tagger"} {
		_, date := person(Header(payload, name))
		if seconds, _, ok := strings.Cut(date, " "); ok {
			if n, err := strconv.ParseInt(seconds, 10, 64); err == nil {
				return time.Unix(n, 0).UTC()
			}
		}
	}
	return time.Time{}
}

// Header is the first header of that name of a raw commit or tag.
func Header(raw []byte, name string) string {
	for line := range bytes.Lines(raw) {
		if line[0] == '\n' {
			return ""
		}
		if value, ok := bytes.CutPrefix(line, []byte(name+" ")); ok {
			return strings.TrimSuffix(string(value), "\n")
		}
	}
	return ""
}

// Person is "Name <email>" of a header author, committer or tagger.
func Person(raw []byte, name string) string {
	who, _ := person(Header(raw, name))
	return who
}

func person(value string) (who, date string) {
	i := strings.LastIndexByte(value, '>')
	if i < 0 {
		return value, ""
	}
	return value[:i+1], strings.TrimSpace(value[i+1:])
}
