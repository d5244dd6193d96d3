package belay_test

import (
	"path"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/belaydev/belay"
)

// fitsSlowly is what a pattern means, said plainly.
func fitsSlowly(pat, s []string) bool {
	if len(pat) == 0 {
		return len(s) == 0
	}
	if pat[0] == "**" {
		return fitsSlowly(pat[1:], s) || len(s) > 0 && fitsSlowly(pat, s[1:])
	}
	if len(s) == 0 {
		return false
	}
	ok, err := path.Match(pat[0], s[0])
	return err == nil && ok && fitsSlowly(pat[1:], s[1:])
}

func TestMatchGlobMeansWhatItSays(t *testing.T) {
	matched := 0
	rapid.Check(t, func(t *rapid.T) {
		glob := rapid.SliceOfN(rapid.SampledFrom([]string{"**", "*", "a", "b", "a*", "?", "["}), 1, 6).Draw(t, "glob")
		p := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "ab"}), 1, 6).Draw(t, "path")
		want := fitsSlowly(glob, p)
		if got := belay.MatchGlob(strings.Join(glob, "/"), strings.Join(p, "/")); got != want {
			t.Fatalf("%q matches %q: %t, want %t", glob, p, got, want)
		}
		if want {
			matched++
		}
	})
	if matched == 0 {
		t.Error("nothing matched")
	}
}

func TestMatchGlobEndsSoon(t *testing.T) {
	if belay.MatchGlob(strings.Repeat("**/a/", 30)+"b", strings.Repeat("a/", 200)+"c") {
		t.Error("it matches")
	}
}

func TestMatchGlob(t *testing.T) {
	for _, tc := range []struct {
		pattern, s string
		want       bool
	}{
		{"guestbook-*", "guestbook-staging", true},
		{"guestbook-*", "guestbook", false},
		{"*", "a", true},
		{"*", "a/b", false},
		{"**", "a/b/c", true},
		{"apps/**", "apps/a/b", true},
		{"apps/**", "apps", true},
		{"apps/**/prod", "apps/prod", true},
		{"apps/**/prod", "apps/x/y/prod", true},
		{"apps/*/prod", "apps/x/y/prod", false},
		{"[ab]", "b", true},
		{"[", "[", false},
		{"", "", true},
	} {
		if got := belay.MatchGlob(tc.pattern, tc.s); got != tc.want {
			t.Errorf("MatchGlob(%q, %q) = %v", tc.pattern, tc.s, got)
		}
	}
}

func TestPermit(t *testing.T) {
	project := belay.Project{Name: "team", Spec: belay.ProjectSpec{
		Destinations: []belay.DestinationRule{{Cluster: "prod-*", Namespaces: []string{"team-*"}}, {Cluster: "test"}},
		Kinds:        []string{"*"}, ClusterKinds: []string{"Namespace", "rbac.authorization.k8s.io/ClusterRole"},
		DeniedKinds: []string{"Secret", "policy/*"},
	}}
	app := belay.Application{Name: "a"}
	for _, tc := range []struct {
		name, cluster string
		id            belay.ObjectID
		namespaced    bool
		refused       string
	}{
		{"its namespace", "prod-eu", belay.ObjectID{Kind: "ConfigMap", Namespace: "team-a", Name: "x"}, true, ""},
		{"another namespace", "prod-eu", belay.ObjectID{Kind: "ConfigMap", Namespace: "kube-system", Name: "x"}, true, `the namespace "kube-system" of cluster "prod-eu"`},
		{"any namespace of another cluster", "test", belay.ObjectID{Kind: "ConfigMap", Namespace: "kube-system", Name: "x"}, true, ""},
		{"a cluster of nobody", "dev", belay.ObjectID{Kind: "ConfigMap", Namespace: "team-a", Name: "x"}, true, `of cluster "dev"`},
		{"a denied kind", "test", belay.ObjectID{Kind: "Secret", Namespace: "x", Name: "x"}, true, "the kind Secret (spec.deniedKinds)"},
		{"a denied group", "test", belay.ObjectID{Group: "policy", Kind: "PodDisruptionBudget", Namespace: "x", Name: "x"}, true, "deniedKinds"},
		{"a kind of the core group is not one of another", "test", belay.ObjectID{Group: "example.org", Kind: "Secret", Namespace: "x", Name: "x"}, true, ""},
		{"a cluster-scoped kind allowed", "test", belay.ObjectID{Group: "rbac.authorization.k8s.io", Kind: "ClusterRole", Name: "x"}, false, ""},
		{"a cluster-scoped kind not allowed", "test", belay.ObjectID{Group: "rbac.authorization.k8s.io", Kind: "ClusterRoleBinding", Name: "x"}, false, "spec.clusterKinds"},
		{"a namespace of its own", "prod-eu", belay.ObjectID{Kind: "Namespace", Name: "team-b"}, false, ""},
		{"a namespace of another", "prod-eu", belay.ObjectID{Kind: "Namespace", Name: "kube-system"}, false, `the namespace "kube-system"`},
		{"a cluster-scoped kind in a cluster of nobody", "dev", belay.ObjectID{Group: "rbac.authorization.k8s.io", Kind: "ClusterRole", Name: "x"}, false, `the cluster "dev"`},
	} {
		permit, err := project.Permit(&app, tc.cluster, tc.id, tc.namespaced)
		if tc.refused == "" {
			if err != nil || permit.ID() != tc.id || permit.Cluster() != tc.cluster || permit.Application() != "a" {
				t.Errorf("%s: %+v, %v", tc.name, permit, err)
			}
			continue
		}
		if belay.CodeOf(err) != belay.CodeDenied || !strings.Contains(err.Error(), tc.refused) || permit != (belay.Permit{}) {
			t.Errorf("%s: %+v, %v; want %q", tc.name, permit, err, tc.refused)
		}
	}
}

func TestAnEmptyProjectPermitsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-zA-Z*/-]{0,8}`)
		id := belay.ObjectID{Group: word.Draw(t, "group"), Kind: word.Draw(t, "kind"), Namespace: word.Draw(t, "ns"), Name: "x"}
		p := belay.Project{Name: "p", Spec: belay.DefaultProjectSpec()}
		if _, err := p.Permit(&belay.Application{}, word.Draw(t, "cluster"), id, rapid.Bool().Draw(t, "namespaced")); err == nil {
			t.Fatalf("%v is allowed", id)
		}
		if p.PermitSource([]string{"x"}, word.Draw(t, "path")) == nil {
			t.Fatal("a source is allowed")
		}
	})
}

func TestPermitSource(t *testing.T) {
	p := belay.Project{Name: "p", Spec: belay.ProjectSpec{Sources: []belay.SourceRule{
		{Repo: "https://git.example.com/team/*", Paths: []string{"apps/**"}}, {Repo: "fleet"},
	}}}
	for _, tc := range []struct {
		names []string
		path  string
		want  bool
	}{
		{[]string{"https://git.example.com/team/a"}, "apps/x", true},
		{[]string{"https://git.example.com/team/a"}, "/apps/x/", true},
		{[]string{"https://git.example.com/team/a"}, "apps/../secrets", false},
		{[]string{"https://git.example.com/other/a"}, "apps/x", false},
		{[]string{"fleet", "/srv/fleet"}, "anything", true},
	} {
		if err := p.PermitSource(tc.names, tc.path); (err == nil) != tc.want {
			t.Errorf("%v %q: %v", tc.names, tc.path, err)
		}
	}
}
