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

// bundleType begins the media type of bundles, which ends in a version.
const bundleType = "application/vnd.dev.sigstore.bundle."

// maxBundle bounds a bundle, which may hold certificates and timestamps.
const maxBundle = 1 << 20

// Bundles gets what newer cosigns keep beside an artifact: manifests that refer to
// it, each with a bundle.
func (o *OCI) Bundles(ctx context.Context, digest string) ([][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	r, given, err := o.repository(ctx)
	if err != nil {
		return nil, err
	}
	var found []string
	// Not every registry tells the type of what refers right, so each is looked at.
	err = r.Referrers(ctx, descriptor(digest, 0), "", func(page []ocispec.Descriptor) error {
		for _, d := range page {
			if IsDigest(d.Digest.String()) && len(found) < maxSignatures {
				found = append(found, d.Digest.String())
			}
		}
		return nil
	})
	if err != nil {
		return nil, o.explain("list of what refers to it", given, err)
	}
	var out [][]byte
	for _, at := range found {
		b, err := o.Manifest(ctx, at)
		if err != nil {
			return nil, err
		}
		var m ocispec.Manifest
		if json.Unmarshal(b, &m) != nil || len(m.Layers) != 1 || !strings.HasPrefix(m.Layers[0].MediaType, bundleType) || m.Layers[0].Size > maxBundle || !IsDigest(m.Layers[0].Digest.String()) {
			continue // of something else
		}
		bundle, err := o.Layer(ctx, Layer{Digest: m.Layers[0].Digest.String(), Size: m.Layers[0].Size})
		if err != nil {
			return nil, err
		}
		out = append(out, bundle)
	}
	return out, nil
}
