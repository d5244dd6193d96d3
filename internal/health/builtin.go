package health

import (
	"embed"
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/belaydev/belay"
)

// The rules that Belay brings, one file a project, in the form in which users
// write their own.
//
//go:embed builtin/*.yaml
var files embed.FS

// BuiltIn are the rules that Belay brings, sorted by name. A rule in Git for the
// same kind counts before them.
func BuiltIn() ([]belay.HealthRule, error) {
	texts, err := BuiltInFiles()
	if err != nil {
		return nil, err
	}
	var out []belay.HealthRule
	for name, text := range texts {
		rules, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for i := range rules {
			rules[i].Origin.File = name + ".yaml"
		}
		out = append(out, rules...)
	}
	slices.SortFunc(out, func(a, b belay.HealthRule) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// BuiltInFiles are the texts of the rules that Belay brings, by project.
func BuiltInFiles() (map[string]string, error) {
	entries, err := files.ReadDir("builtin")
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, e := range entries {
		data, err := files.ReadFile("builtin/" + e.Name())
		if err != nil {
			return nil, err
		}
		out[strings.TrimSuffix(e.Name(), ".yaml")] = string(data)
	}
	return out, nil
}

func parse(data string) ([]belay.HealthRule, error) {
	var out []belay.HealthRule
	for doc := range strings.SplitSeq("\n"+data, "\n---\n") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		def := struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Metadata   struct {
				Name string `json:"name"`
			} `json:"metadata"`
			Spec belay.HealthRuleSpec `json:"spec"`
		}{Spec: belay.DefaultHealthRuleSpec()}
		if err := yaml.UnmarshalStrict([]byte(doc), &def); err != nil {
			return nil, err
		}
		out = append(out, belay.HealthRule{Name: def.Metadata.Name, Spec: def.Spec})
	}
	return out, nil
}
