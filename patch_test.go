package belay

import "testing"

func TestAPatchMustFitSomeSource(t *testing.T) {
	def := &Application{Name: "a", Spec: ApplicationSpec{Patches: make([]Patch, 3)}}
	for _, tc := range []struct {
		unfit [][]int
		want  bool
	}{
		{nil, false}, {[][]int{nil}, false}, {[][]int{{1}}, true}, {[][]int{{0, 1}, {2}}, false}, {[][]int{{0, 1}, {1, 2}}, true}, {[][]int{{0, 1}, nil}, false},
	} {
		if err := UnfitPatch(def, tc.unfit...); (err != nil) != tc.want {
			t.Errorf("%v: %v", tc.unfit, err)
		}
	}
}
