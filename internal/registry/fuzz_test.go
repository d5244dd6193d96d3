package registry

import (
	"slices"
	"testing"
)

// The index of a stranger is refused, or gives the charts that are wanted and no others.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(asHelmWritesIt))
	f.Add([]byte(`{"entries":{"alpha":[{"version":"1.0.0","urls":["a.tgz"],"digest":"x"}],"beta":null}}`))
	f.Add([]byte("entries: {alpha: &a [{version: 1, urls: [x]}], beta: *a}\n"))
	f.Add([]byte("entries:\n  alpha:\n  - *a\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := entries(b, func(name string) bool { return name == "alpha" })
		if err != nil {
			return
		}
		for name := range got {
			if name != "alpha" {
				t.Fatalf("chart %q was not wanted", name)
			}
		}
	})
}

// The manifest of a stranger is refused, or has layers with a digest and a place.
func FuzzManifest(f *testing.F) {
	digest := Digest([]byte("x"))
	f.Add([]byte(`{"config":{"mediaType":"` + mediaHelmConfig + `"},"layers":[{"mediaType":"` + mediaHelmChart + `","digest":"` + digest + `","size":1}]}`))
	f.Add([]byte(`{"layers":[{"mediaType":"text/plain","digest":"` + digest + `","size":-1,"annotations":{"org.opencontainers.image.title":"../a"}}]}`))
	f.Add([]byte(`{"manifests":[]}`))
	f.Add([]byte(`{"layers":[{"mediaType":"application/gzip","digest":"sha256:../../x"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest("oci://registry.example.com/a", b)
		if err != nil {
			return
		}
		if len(m.Layers) == 0 || slices.ContainsFunc(m.Layers, func(l Layer) bool { return !IsDigest(l.Digest) || !l.Archive() && l.Title == "" }) {
			t.Fatalf("layers are %+v", m.Layers)
		}
	})
}
