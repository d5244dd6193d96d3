package source

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/gittest"
	"github.com/belaydev/belay/internal/registrytest"
	"github.com/belaydev/belay/internal/signature"
)

func following(t *testing.T, url string, refs ...string) *Hub {
	t.Helper()
	h, err := New(Options{Dir: filepath.Join(t.TempDir(), "repos")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	h.SetFollowed(map[string][]string{url: refs})
	if err := h.CheckNow(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestVouchForCommitsAndTags(t *testing.T) {
	key, public := gittest.SSHKey(t)
	other, _ := gittest.SSHKey(t)
	keys, err := signature.Parse([]byte("ada@example.org " + public))
	if err != nil {
		t.Fatal(err)
	}
	repo := gittest.NewRepo(t)
	n := 0
	commit := func(branch, with string) string {
		t.Helper()
		n++
		id := repo.Commit(branch, "A change", map[string]string{"f": fmt.Sprint(n)})
		if with != "" {
			id = repo.Sign(branch, with)
		}
		return id
	}
	first := commit("main", key)
	second := commit("main", "")
	third := commit("main", key)
	fourth := commit("main", other)
	repo.Git("branch", "side", third)
	side := commit("side", "")
	repo.Merge("main", "Merge", side, nil)
	merged := repo.Sign("main", key)
	repo.Tag("light", third)
	repo.AnnotatedTag("annotated", second)
	repo.SignedTag("v1.0.0", second, key)
	repo.SignedTag("v2.0.0", second, other)
	repo.Git("update-ref", "refs/tags/v3.0.0", repo.Git("rev-parse", "v1.0.0"))
	h := following(t, repo.URL(), "main", "v1.0.0")

	for _, test := range []struct {
		name, ref, commit string
		t                 Trust
		refused           string // the beginning of the commit that is, "" if none
		says              string
	}{
		{"signed", "main", first, Trust{}, "", ""},
		{"not signed", "main", second, Trust{}, second, "no signature"},
		{"signed on top", "main", third, Trust{}, "", ""},
		{"by another key", "main", fourth, Trust{}, fourth, "none of the trusted keys"},
		{"all, and one between is not", "main", third, Trust{All: true, After: first}, second, "which " + third[:10] + " brings"},
		{"all since the one between", "main", third, Trust{All: true, Since: second}, "", ""},
		{"all, nothing new", "main", third, Trust{All: true, After: third}, "", ""},
		{"all, what a merge brings", "main", merged, Trust{All: true, After: fourth}, side, "no signature"},
		{"all, the first ever", "main", third, Trust{All: true}, "", ""},
		{"all, since elsewhere", "main", third, Trust{All: true, Since: strings.Repeat("a", 40)}, "", "is no commit of this repository"},
		{"all, the accepted one is gone", "main", third, Trust{All: true, After: strings.Repeat("a", 40)}, "", "is gone"},
		{"signed tag of an unsigned commit", "v1.0.0", second, Trust{}, "", ""},
		{"signed tag by another key", "v2.0.0", second, Trust{}, "", "none of the trusted keys"},
		{"signed tag under another name", "v3.0.0", second, Trust{}, "", `signed as "v1.0.0"`},
		{"tag without a signature", "annotated", second, Trust{}, second, "no signature"},
		{"plain tag of a signed commit", "light", third, Trust{}, "", ""},
		{"range of versions", ">=1.0.0 <2", second, Trust{}, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.t.Keys = keys
			err := h.Vouch(t.Context(), repo.URL(), test.ref, test.commit, test.t)
			if test.refused == "" && test.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if belay.CodeOf(err) != belay.CodeDenied || !strings.Contains(err.Error(), test.says) || test.refused != "" && !strings.Contains(err.Error(), "commit "+test.refused[:10]) {
				t.Fatalf("%v, want %q of %.10s", err, test.says, test.refused)
			}
			if be, ok := errors.AsType[*belay.Error](err); !ok || be.Hint == "" || !strings.Contains(be.Message, "Ada Tester") && test.refused != "" {
				t.Errorf("it does not say who, or what to do: %+v", be)
			}
		})
	}
	trust := Trust{Keys: keys}
	for _, test := range []struct{ from, notBefore, want string }{{fourth, "", third}, {second, "", first}, {fourth, third, third}, {fourth, fourth, ""}, {first, "", ""}} {
		rev, ok, err := h.Vouched(t.Context(), repo.URL(), "main", test.from, test.notBefore, trust)
		if err != nil || ok != (test.want != "") || rev.Commit != test.want || ok && rev.Author != gittest.Author {
			t.Errorf("before %.10s, not before %.10s: %+v, %v, %v", test.from, test.notBefore, rev, ok, err)
		}
	}
}

// Signatures as cosign makes them: a tag of the digest, a document, a signature beside it.
func TestVouchForArtifacts(t *testing.T) {
	reg := registrytest.ServeOCI(t, "", "")
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(payload string) string {
		sum := sha256.Sum256([]byte(payload))
		sig, err := ecdsa.SignASN1(rand.Reader, private, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(sig)
	}
	document := func(digest string) string {
		return `{"critical":{"identity":{"docker-reference":"x"},"image":{"docker-manifest-digest":"` + digest + `"},"type":"cosign container image signature"},"optional":null}`
	}
	good := reg.PushFlux("app", "1.0.0", map[string]string{"a.yaml": "a: 1\n"})
	unsigned := reg.PushFlux("app", "2.0.0", map[string]string{"a.yaml": "a: 2\n"})
	swapped := reg.PushFlux("app", "3.0.0", map[string]string{"a.yaml": "a: 3\n"})
	tampered := reg.PushFlux("app", "4.0.0", map[string]string{"a.yaml": "a: 4\n"})
	reg.Sign("app", good, document(good), sign(document(good)))
	reg.Sign("app", swapped, document(good), sign(document(good)))
	reg.Sign("app", tampered, document(tampered), sign(document(good)))
	statement := func(digest, predicate string) []byte {
		payload := `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` + strings.TrimPrefix(digest, "sha256:") + `"}}],"predicateType":"` + predicate + `","predicate":{}}`
		sig := sign(fmt.Sprintf("DSSEv1 28 application/vnd.in-toto+json %d %s", len(payload), payload))
		return fmt.Appendf(nil, `{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":"x"}},"dsseEnvelope":{"payload":%q,"payloadType":"application/vnd.in-toto+json","signatures":[{"sig":%q}]}}`,
			base64.StdEncoding.EncodeToString([]byte(payload)), sig)
	}
	const signed = "https://sigstore.dev/cosign/sign/v1"
	bundled := reg.PushFlux("app", "5.0.0", map[string]string{"a.yaml": "a: 5\n"})
	otherBundle := reg.PushFlux("app", "6.0.0", map[string]string{"a.yaml": "a: 6\n"})
	attested := reg.PushFlux("app", "7.0.0", map[string]string{"a.yaml": "a: 7\n"})
	garbled := reg.PushFlux("app", "8.0.0", map[string]string{"a.yaml": "a: 8\n"})
	reg.Bundle("app", bundled, statement(bundled, signed))
	reg.Bundle("app", otherBundle, statement(bundled, signed))
	reg.Bundle("app", attested, statement(attested, "https://slsa.dev/provenance/v1"))
	reg.Bundle("app", garbled, bytes.Replace(statement(garbled, signed), []byte("eyJf"), []byte("eyJg"), 1))
	url := reg.Repo("app")
	h, err := New(Options{Dir: filepath.Join(t.TempDir(), "repos")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	h.Configure([]RepoConfig{{URL: url, PlainHTTP: true}})
	h.SetFollowed(map[string][]string{url: {"1.0.0"}})
	if err := h.CheckNow(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	trust := Trust{Artifacts: []crypto.PublicKey{private.Public()}}
	for digest, want := range map[string]string{good: "", unsigned: "no signature", swapped: "of another artifact", tampered: "none of the trusted keys",
		bundled: "", otherBundle: "of another artifact", attested: "slsa.dev", garbled: "none of the trusted keys"} {
		err := h.Vouch(t.Context(), url, "1.0.0", digest, trust)
		if want == "" && err != nil || want != "" && (belay.CodeOf(err) != belay.CodeDenied || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", digest, err, want)
		}
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Vouch(t.Context(), url, "1.0.0", good, Trust{Artifacts: []crypto.PublicKey{stranger.Public()}}); belay.CodeOf(err) != belay.CodeDenied {
		t.Errorf("with another key: %v", err)
	}
	reg.SetDown(true)
	if err := h.Vouch(t.Context(), url, "1.0.0", good, trust); err == nil || belay.CodeOf(err) == belay.CodeDenied {
		t.Errorf("with the registry down: %v", err)
	}
}
