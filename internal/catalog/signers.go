package catalog

import (
	"time"

	"github.com/belaydev/belay/internal/signature"
)

// checkSignerKey reads a public key as those do who will check with it.
func checkSignerKey(s string) (message, hint string) {
	if err := (&signature.Keys{}).AddKey("x", s, time.Time{}, time.Time{}); err != nil {
		return "is no public key of SSH or OpenPGP", "copy it from a file such as id_ed25519.pub, or from \"gpg --armor --export\""
	}
	return "", ""
}

func checkArtifactKey(s string) (message, hint string) {
	if _, err := signature.ParsePublicKey([]byte(s)); err != nil {
		return "is no public key in PEM", "copy it from cosign.pub"
	}
	return "", ""
}

func checkTime(s string) (message, hint string) {
	if _, err := time.Parse(time.RFC3339, s); err != nil {
		return "is no time", "write it as 2026-12-31T23:59:59Z"
	}
	return "", ""
}
