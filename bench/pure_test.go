package main

import (
	"encoding/json"
	"testing"
)

// The libraries give the four objects of each application, whatever the kind and
// the layout, with both values in the ConfigMap, also when many render at once.
func TestPureRender(t *testing.T) {
	for _, kind := range kinds {
		for _, urls := range [][]string{nil, {"file:///a", "file:///b", "file:///c"}} {
			f := newFleet(7, kind, "p")
			f.urls = urls
			f.values[4], f.shared = "one", "all"
			p, err := newPureRender(f)
			if err != nil {
				t.Fatal(err)
			}
			for range 5 {
				if err := p.run(t.Context(), f.apps); err != nil {
					t.Fatalf("%s, %d repositories: %v", kind, len(urls), err)
				}
			}
			objects, err := p.one(t.Context(), 4)
			if err != nil {
				t.Fatal(err)
			}
			found := 0
			for _, o := range objects {
				var config struct {
					Kind string
					Data struct{ Value, Shared string }
				}
				if err := json.Unmarshal(o, &config); err != nil {
					t.Fatal(err)
				}
				if config.Kind == "ConfigMap" && config.Data.Value == "one" && config.Data.Shared == "all" {
					found++
				}
			}
			if found != 1 {
				t.Errorf("%s, %d repositories: %d ConfigMaps with the values of Git in\n%s", kind, len(urls), found, objects)
			}
		}
	}
}
