package plan

import (
	"slices"

	"github.com/belaydev/belay"
)

// released is the token without which deletions of the plan would be held; empty
// if they go on by themselves.
func released(in Input, decl declared, writes, deletes []belay.Action) string {
	own := in.Application.Spec.Sync.Confirm
	tokens := append(slices.Clone(in.Project.Spec.Confirm), own)
	tokens = slices.DeleteFunc(tokens, func(token string) bool { return token == "" })
	if len(tokens) == 0 || len(deletes) == 0 {
		return ""
	}
	app, project := *in.Application, *in.Project
	app.Spec.Sync.Confirm, project.Spec.Confirm = "", nil
	in.Application, in.Project = &app, &project
	if limit(&in, decl, writes, deletes) != nil {
		return own // a project's does not count here
	}
	_, held, _ := confirmations(&in, slices.Clone(deletes))
	for i := range held {
		name := belay.FormatID("", held[i].ID)
		if k := slices.IndexFunc(tokens, func(token string) bool { return Covers(token, []string{name}) }); k >= 0 {
			return tokens[k]
		}
	}
	return ""
}
