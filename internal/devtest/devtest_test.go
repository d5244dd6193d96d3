package devtest

import (
	"regexp"
	"strings"
	"testing"
)

func TestNamespaceName(t *testing.T) {
	valid := regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	for test, prefix := range map[string]string{
		"TestApply":                        "apply-",
		"TestApply/a_b=C#01":               "apply-a-b-c-01-",
		"TestÄ/-":                          "",
		"Test" + strings.Repeat("xyz", 40): "xyzxyz",
	} {
		name := namespaceName(test)
		if !strings.HasPrefix(name, prefix) || len(name) > 63 || !valid.MatchString(name) {
			t.Errorf("namespaceName(%q) = %q", test, name)
		}
		if name == namespaceName(test) {
			t.Errorf("namespaceName(%q) gives %q twice", test, name)
		}
	}
}
