package belay

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// RedactedPrefix begins what stands in place of a secret value.
const RedactedPrefix = "redacted:"

// SealedPrefix begins the mark that stands for an encrypted value while its file is
// rendered; 32 hexadecimal digits follow. A mark is no base64, and needs no quotes.
const SealedPrefix = "belay-sops-"

// EncryptedValue stands in place of an encrypted value where there are no keys.
const EncryptedValue = "<encrypted>"

// RedactSecret returns a Secret's manifest with each value of data and
// stringData replaced by a keyed digest, so that a change shows and the value
// does not. stringData is folded into data, as the API server does. It also
// replaces kubectl's last-applied annotation, which repeats the values, and what
// stands in a field that a Secret does not have: a misspelt one holds values too.
func RedactSecret(manifest, key []byte) (json.RawMessage, error) {
	var m map[string]any
	if err := json.Unmarshal(manifest, &m); err != nil {
		return nil, fmt.Errorf("redact the Secret: not a JSON object")
	}
	out := map[string]any{}
	if d, ok := m["data"].(map[string]any); ok {
		for k, v := range d {
			s, _ := v.(string)
			plain, err := base64.StdEncoding.DecodeString(s)
			if err != nil {
				plain = []byte(s)
			}
			out[k] = keyedDigest(key, plain)
		}
	}
	if d, ok := m["stringData"].(map[string]any); ok {
		for k, v := range d {
			s, ok := v.(string)
			if !ok {
				s = fmt.Sprint(v)
			}
			out[k] = keyedDigest(key, []byte(s))
		}
	}
	delete(m, "stringData")
	for field, v := range m {
		if secretField(field, v) {
			continue
		}
		b, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("redact the Secret: %w", err)
		}
		m[field] = keyedDigest(key, b)
	}
	if len(out) > 0 || m["data"] != nil {
		m["data"] = out
	}
	if meta, ok := m["metadata"].(map[string]any); ok {
		if ann, ok := meta["annotations"].(map[string]any); ok {
			delete(ann, "kubectl.kubernetes.io/last-applied-configuration")
		}
	}
	return json.Marshal(m)
}

// secretField says whether a field is one that a Secret has beside its values.
func secretField(name string, v any) bool {
	switch name {
	case "apiVersion", "kind", "metadata", "data":
		return true
	case "type":
		_, ok := v.(string)
		return ok
	case "immutable":
		_, ok := v.(bool)
		return ok
	}
	return false
}

func keyedDigest(key, value []byte) string {
	if bytes.Contains(value, []byte(EncryptedValue)) {
		return EncryptedValue // nobody here knows more of it
	}
	return RedactedPrefix + KeyedDigest(key, value)[:12]
}

// KeyedDigest is an HMAC-SHA-256 of data, 16 bytes in hex: a digest that tells
// nobody without the key whether a guess at data is right.
func KeyedDigest(key, data []byte) string {
	h := hmac.New(sha256.New, key)
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// SecretValues lists the values of a Secret's manifest in every form in which a
// message might repeat them: as written and decoded. Values shorter than 4
// bytes are left out: hiding them would garble every message.
func SecretValues(manifest []byte) []string {
	var m map[string]any
	dec := json.NewDecoder(bytes.NewReader(manifest))
	dec.UseNumber() // a number is quoted in messages as it was written
	if dec.Decode(&m) != nil {
		return nil
	}
	var out []string
	add := func(s string) {
		if len(s) >= 4 {
			out = append(out, s)
		}
	}
	each := func(v any, add func(string)) {
		values, ok := v.(map[string]any)
		if !ok {
			values = map[string]any{"": v}
		}
		for _, v := range values {
			add(fmt.Sprint(v))
		}
	}
	each(m["data"], func(s string) {
		add(s)
		if plain, err := base64.StdEncoding.DecodeString(s); err == nil {
			add(string(plain))
		}
	})
	for field, v := range m {
		if field == "data" || secretField(field, v) {
			continue
		}
		each(v, func(s string) {
			add(s)
			add(base64.StdEncoding.EncodeToString([]byte(s)))
		})
	}
	slices.SortFunc(out, func(a, b string) int { return len(b) - len(a) })
	return out
}

// Scrub replaces each of the values in a message.
func Scrub(message string, values []string) string {
	for _, v := range values {
		message = strings.ReplaceAll(message, v, "[redacted]")
	}
	return message
}
