package belay

import "testing"

func TestMountsAreFoundByTheirPath(t *testing.T) {
	for _, m := range []Mount{
		{Source: "values"},
		{Repo: "https://git.example.com/org/repo.git", Ref: "release/1.x"},
		{Repo: "git@git.example.com:org/repo", Ref: ">=1.2 <2"},
		{Repo: "https://charts.example.com", Chart: "nginx", Ref: "^15.1@%"},
	} {
		p := m.Path()
		if got, rest, ok := SplitMount(p + "/a/b.yaml"); !ok || got != m || rest != "a/b.yaml" {
			t.Errorf("%s is %+v, %q, %v", p, got, rest, ok)
		}
		if got, rest, ok := SplitMount(p); !ok || got != m || rest != "." {
			t.Errorf("%s is %+v, %q, %v", p, got, rest, ok)
		}
	}
	for _, p := range []string{".", "a", ".belay", ".belay/x/y", ".belay/sources", ".belay/remote/a", ".belay/remote/%zz@@", "a/.belay/sources/x"} {
		if _, rest, ok := SplitMount(p); ok || rest != p {
			t.Errorf("%q is a mount", p)
		}
	}
	if got := SourcePath("$values/a/b.yaml"); got != (Mount{Source: "values"}).Path()+"/a/b.yaml" {
		t.Errorf("SourcePath is %q", got)
	}
}

func TestChartURL(t *testing.T) {
	for _, tc := range [][3]string{
		{"https://charts.example.com/", "nginx", "https://charts.example.com#nginx"},
		{"oci://r.example.com/charts", "nginx", "oci://r.example.com/charts/nginx"},
		{"oci://r.example.com/charts/nginx", "", "oci://r.example.com/charts/nginx"},
	} {
		if got := ChartURL(tc[0], tc[1]); got != tc[2] {
			t.Errorf("%v: %q", tc, got)
		}
	}
}
