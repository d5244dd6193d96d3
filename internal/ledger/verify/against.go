package verify

import (
	"fmt"
	"slices"
	"strings"

	"github.com/belaydev/belay"
)

// against compares the branches with those of another copy.
func (v *verifier) against(branches []branch) error {
	r, err := open(v.ctx, v.o.Against, v.o.Env)
	if err != nil {
		return fmt.Errorf("read the other copy: %w", err)
	}
	defer r.close()
	// What is wrong with refs there is not wrong here.
	others, err := r.branches(v.ctx, &Report{})
	if err != nil {
		return fmt.Errorf("read the other copy: %w", err)
	}
	for _, b := range branches {
		i := slices.IndexFunc(others, func(o branch) bool { return o.writer == b.writer })
		if i < 0 {
			v.remote(b.writer, "missing there")
			v.report.add(Finding{Check: CheckRemote, Writer: b.writer, Message: "the other copy does not have the branch", Want: b.head})
			continue
		}
		if err := v.compare(r, b, others[i].head); err != nil {
			return err
		}
	}
	for _, o := range others {
		if !slices.ContainsFunc(branches, func(b branch) bool { return b.writer == o.writer }) {
			v.report.add(Finding{Check: CheckRemote, Writer: o.writer, Message: "the branch is in the other copy only: here it is missing", Want: o.head})
		}
	}
	return nil
}

// compare finds the first record that differs between two histories of a branch.
func (v *verifier) compare(other *repo, b branch, head string) error {
	theirs, err := chainOf(v, other, head)
	if err != nil {
		return err
	}
	ours, err := chainOf(v, v.repo, b.head)
	if err != nil {
		// What is wrong here was told already; the other copy knows what should be.
		ours = nil
	}
	same := 0
	for same < len(ours) && same < len(theirs) && ours[same] == theirs[same] {
		same++
	}
	switch {
	case ours == nil:
		v.remote(b.writer, "not compared")
	case same == len(ours) && same == len(theirs):
		v.remote(b.writer, "the same")
	case same == len(ours):
		v.remote(b.writer, fmt.Sprintf("%d records more there", len(theirs)-same))
	case same == len(theirs):
		v.remote(b.writer, fmt.Sprintf("%d records more here", len(ours)-same))
	default:
		v.remote(b.writer, "different")
		f := Finding{Check: CheckRemote, Writer: b.writer, Record: belay.RecordID(b.writer, uint64(same+1)), Commit: ours[same],
			Message: fmt.Sprintf("the histories part here: one of them was rewritten (%d records here, %d there, %d in common)", len(ours), len(theirs), same), Want: theirs[same], Got: ours[same]}
		v.report.add(f)
	}
	return nil
}

func chainOf(v *verifier, r *repo, head string) ([]string, error) {
	out, err := r.command("rev-list", "--first-parent", "--reverse", head).Output(v.ctx, outputLimit)
	return strings.Fields(string(out)), err
}

func (v *verifier) remote(writer, how string) {
	for i := range v.report.Branches {
		if v.report.Branches[i].Writer == writer {
			v.report.Branches[i].Remote = how
		}
	}
}
