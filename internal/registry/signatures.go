package registry

import (
	"context"
	"encoding/json"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/belaydev/belay"
)

// annotationSignature is where cosign puts a signature of the layer beside it.
const annotationSignature = "dev.cosignproject.cosign/signature"

// Bounds of what a signature may be: whoever may push could push anything.
const (
	maxSignatures = 64
	maxPayload    = 64 << 10
)

// Signed is one signature of an artifact: what was signed, and the signature in base64.
type Signed struct {
	Payload   []byte
	Signature string
}

// Signatures gets the signatures of an artifact where cosign keeps them: under a
// tag that is made of its digest. None is no error.
func (o *OCI) Signatures(ctx context.Context, digest string) ([]Signed, error) {
	at, err := o.Resolve(ctx, strings.Replace(digest, ":", "-", 1)+".sig")
	if belay.CodeOf(err) == belay.CodeNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b, err := o.Manifest(ctx, at)
	if err != nil {
		return nil, err
	}
	var m ocispec.Manifest
	if json.Unmarshal(b, &m) != nil {
		return nil, problem(o.URL, belay.CodeInvalid, "the manifest of its signatures cannot be read", "", nil)
	}
	var out []Signed
	for _, l := range m.Layers[:min(len(m.Layers), maxSignatures)] {
		sig := l.Annotations[annotationSignature]
		if sig == "" || l.Size > maxPayload || !IsDigest(l.Digest.String()) {
			continue
		}
		payload, err := o.Layer(ctx, Layer{Digest: l.Digest.String(), Size: l.Size})
		if err != nil {
			return nil, err
		}
		out = append(out, Signed{Payload: payload, Signature: sig})
	}
	return out, nil
}
