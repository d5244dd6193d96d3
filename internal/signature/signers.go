package signature

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// ParseAllowedSigners reads a file of allowed signers, see ssh-keygen(1). Lines
// that make a certificate authority of a key are an error: its certificates
// would not be understood.
func ParseAllowedSigners(b []byte) (*Keys, error) {
	k := &Keys{}
	number := 0
	for line := range bytes.Lines(b) {
		number++
		text := strings.TrimSpace(string(line))
		if text == "" || text[0] == '#' {
			continue
		}
		s, err := parseSignerLine(text)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		k.ssh = append(k.ssh, s)
	}
	return k, nil
}

func parseSignerLine(text string) (sshKey, error) {
	var s sshKey
	principals, rest, err := field(text)
	if err != nil {
		return s, err
	}
	s.name = principals
	s.principals = patterns(principals)
	options, key, err := field(rest)
	if err != nil {
		return s, err
	}
	if s.key, err = parseSSHKey(rest); err == nil { // no options
		return s, nil
	}
	if isKeyType(options) {
		return s, err
	}
	if err := s.options(options); err != nil {
		return s, err
	}
	if s.key, err = parseSSHKey(key); err != nil {
		return s, err
	}
	return s, nil
}

func isKeyType(s string) bool {
	return strings.HasPrefix(s, "ssh-") || strings.HasPrefix(s, "ecdsa-") || strings.HasPrefix(s, "sk-")
}

// field is the first word of a line; quotes hold blanks together.
func field(s string) (first, rest string, err error) {
	s = strings.TrimLeft(s, " \t")
	quoted := false
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
			// Quotes of an option belong to it; those around principals do not.
			if strings.ContainsRune(b.String(), '=') {
				b.WriteByte(c)
			}
		case (c == ' ' || c == '\t') && !quoted:
			return b.String(), strings.TrimLeft(s[i:], " \t"), nil
		default:
			b.WriteByte(c)
		}
	}
	if quoted {
		return "", "", errors.New("a quote is not closed")
	}
	if b.Len() == 0 {
		return "", "", errors.New(`want "PRINCIPALS [OPTIONS] KEYTYPE KEY"`)
	}
	return b.String(), "", nil
}

// options reads a list of options: NAME or NAME="VALUE", with commas between.
func (s *sshKey) options(list string) error {
	for list != "" {
		name, rest, _ := strings.Cut(list, ",")
		value := ""
		if i := strings.IndexByte(list, '='); i >= 0 && i < len(name) {
			name, value = list[:i], list[i+1:]
			inner, after, ok := strings.Cut(strings.TrimPrefix(value, `"`), `"`)
			if !strings.HasPrefix(value, `"`) || !ok || after != "" && after[0] != ',' {
				return fmt.Errorf("the value of the option %s is not in quotes", name)
			}
			value, rest = inner, strings.TrimPrefix(after, ",")
		}
		var err error
		switch strings.ToLower(name) {
		case "cert-authority":
			return errors.New("the option cert-authority is not supported: name the keys themselves")
		case "namespaces":
			if s.namespaces = patterns(value); len(s.namespaces) == 0 {
				return errors.New("the option namespaces names none")
			}
		case "valid-after":
			s.valid.after, err = parseTime(value)
		case "valid-before":
			s.valid.before, err = parseTime(value)
		default:
			return fmt.Errorf("there is no option %q", name)
		}
		if err != nil {
			return fmt.Errorf("option %s: %w", name, err)
		}
		list = rest
	}
	if !s.valid.after.IsZero() && !s.valid.before.IsZero() && !s.valid.after.Before(s.valid.before) {
		return errors.New("valid-after is not before valid-before")
	}
	return nil
}

// parseTime reads YYYYMMDD[Z] or YYYYMMDDHHMM[SS][Z]; without Z it is local time,
// as ssh-keygen has it.
func parseTime(s string) (time.Time, error) {
	digits, utc := strings.CutSuffix(s, "Z")
	zone := time.Local
	if utc {
		zone = time.UTC
	}
	layout := map[int]string{8: "20060102", 12: "200601021504", 14: "20060102150405"}[len(digits)]
	if layout == "" {
		return time.Time{}, fmt.Errorf("%q is no time: want YYYYMMDD or YYYYMMDDHHMMSS, with a Z at its end for UTC", s)
	}
	t, err := time.ParseInLocation(layout, digits, zone)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no time: %w", s, err)
	}
	return t, nil
}

func parseSSHKey(s string) (ssh.PublicKey, error) {
	s = strings.TrimSpace(s)
	if strings.ContainsAny(s, "\n\r") {
		return nil, errors.New("a public key is one line")
	}
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(s))
	if err != nil {
		return nil, fmt.Errorf("not a public key of SSH: %w", err)
	}
	if len(options) > 0 {
		return nil, errors.New("not a public key of SSH: something stands before the type of the key")
	}
	if _, ok := key.(*ssh.Certificate); ok {
		return nil, errors.New("a certificate, where a key is wanted")
	}
	return key, nil
}

func patterns(list string) []string {
	var out []string
	for p := range strings.SplitSeq(list, ",") {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}

// matchList tells whether a name fits a list of patterns as OpenSSH has them: one
// with a ! before it takes back what others give.
func matchList(list []string, name string) bool {
	found := false
	for _, p := range list {
		p, not := strings.CutPrefix(p, "!")
		if !match(p, name) {
			continue
		}
		if not {
			return false
		}
		found = true
	}
	return found
}

// match tells whether a name fits a pattern with * and ?. It looks at each pair
// of positions at most once, so no pattern is slow.
func match(pattern, s string) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
