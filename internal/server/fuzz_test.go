package server

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"testing"
)

// A push hook of any body is refused or names repositories, and no signature but
// the right one is taken.
func FuzzPushHook(f *testing.F) {
	f.Add("application/json", []byte(`{"repository":{"clone_url":"https://git.example.com/a.git","ssh_url":1}}`), "sha256=00", "")
	f.Add("application/json; charset=utf-8", []byte(`{"project":{"git_http_url":"https://git.example.com/a"}}`), "", "wrong")
	f.Add("application/x-www-form-urlencoded", []byte("payload={}"), "sha256=", "\x00")
	f.Add("", []byte(" "), "sha1=00", "")
	f.Add("application/json", []byte(`{"repo":"x","repository":[]}`), "", "")
	f.Add("application/json", []byte(`{"repo":"","x":{"repo":"y"}}`), "", "")
	secret := []byte("the secret of the fuzz test")
	f.Fuzz(func(t *testing.T, contentType string, body []byte, signature, token string) {
		mac := hmac.New(sha256.New, secret)
		mac.Write(body)
		right := hex.EncodeToString(mac.Sum(nil))
		h := http.Header{"X-Hub-Signature-256": {signature}, "X-Gitlab-Token": {token}}
		if signed(h, body, secret) && token != string(secret) && !hmac.Equal([]byte(signature), []byte("sha256="+right)) {
			t.Fatalf("%q, %q was taken for a signature", signature, token)
		}
		if !signed(http.Header{"X-Hub-Signature-256": {"sha256=" + right}}, body, secret) {
			t.Fatal("the right signature was refused")
		}
		if signed(h, body, nil) {
			t.Fatal("no secret is no lock")
		}
		repos, err := pushed(contentType, body)
		if err != nil {
			return
		}
		if len(repos) == 1 && repos[0] == "" {
			return // all
		}
		said := texts(body)
		for _, r := range repos {
			if r == "" || !slices.Contains(said, r) {
				t.Fatalf("%q names %q", body, repos)
			}
		}
	})
}

// texts are all the strings of a JSON document, in whatever place.
func texts(doc []byte) []string {
	var out []string
	for dec := json.NewDecoder(bytes.NewReader(doc)); ; {
		switch tok, err := dec.Token(); tok := tok.(type) {
		case string:
			out = append(out, tok)
		default:
			if err != nil {
				return out
			}
		}
	}
}
