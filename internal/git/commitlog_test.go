package git

import (
	"slices"
	"strings"
	"testing"
	"time"
)

const ada, bob, eve, forge = "Ada <ada@example.com>", "Bob <bob@example.com>", "Eve <eve@example.com>", "GitHub <noreply@github.com>"

func TestWhomAMessageNames(t *testing.T) {
	for name, c := range map[string]struct {
		message             string
		reviewers, approved []string
	}{
		"nobody":                  {"Subject\n\nBody.\n", nil, nil},
		"a subject is no trailer": {"Reviewed-by: Bob <bob@example.com>\n", nil, nil},
		"each kind":               {"S\n\nReviewed-by: " + bob + "\nAcked-by: Kim\nApproved-by: " + eve + "\n", []string{bob, "Kim", eve}, []string{eve}},
		"any case":                {"S\n\nreviewed-BY:" + bob, []string{bob}, nil},
		"one person once":         {"S\n\nReviewed-by: " + bob + "\nApproved-by: Robert <BOB@example.com>\n", []string{bob}, []string{"Robert <BOB@example.com>"}},
		"not oneself":             {"S\n\nReviewed-by: Ada L. <ada@example.com>\nApproved-by: ada\n", nil, nil},
		"the last paragraph":      {"S\n\nThis reverts what said\n\nReviewed-by: " + bob + "\n\nFixes: 7\nReviewed-by: " + eve + "\n", []string{eve}, nil},
		"other trailers":          {"S\n\nSigned-off-by: " + bob + "\nCo-authored-by: " + eve + "\nReviewed-by:\n", nil, nil},
		"lines of Windows":        {"S\r\n\r\nReviewed-by: " + bob + "\r\n", []string{bob}, nil},
		"spaces between":          {"S\n \nReviewed-by: " + bob + "\n", []string{bob}, nil},
	} {
		if r, a := endorsements(c.message, ada); !slices.Equal(r, c.reviewers) || !slices.Equal(a, c.approved) {
			t.Errorf("%s: reviewers %q, approvers %q", name, r, a)
		}
	}
}

func TestMachinesReviewNothing(t *testing.T) {
	for who, machine := range map[string]bool{
		forge: true, "dependabot[bot] <49699333+dependabot[bot]@users.noreply.github.com>": true, "x": true, "GitLab <no-reply@gitlab.example>": true,
		ada: false, "Ada <123+ada@users.noreply.github.com>": false,
	} {
		if isMachine(who) != machine {
			t.Errorf("%s: %v", who, !machine)
		}
	}
}

// history makes commits of lines "id parents author committer", newest first.
func history(lines ...string) []logged {
	var out []logged
	people := map[string]string{"ada": ada, "bob": bob, "eve": eve, "forge": forge}
	for _, line := range lines {
		f := strings.Split(line, "|")
		out = append(out, newLogged(f[0], strings.Fields(f[1]), people[f[2]], people[f[3]], time.Time{}, "S\n\n"+f[4]))
	}
	credit(out)
	return out
}

func TestWhoMergesReviews(t *testing.T) {
	for name, c := range map[string]struct {
		log  []logged
		want string // "id: reviewers (approvers)", of those that have any
	}{
		"in person":       {history("m|a f|bob|bob|", "f|e|ada|ada|", "a|e|eve|eve|"), "f: bob"},
		"on a forge":      {history("m|a f|bob|forge|", "f|e|ada|ada|", "a|e|eve|eve|"), "f: bob"},
		"by a machine":    {history("m|a f|forge|forge|", "f|e|ada|ada|"), ""},
		"one's own":       {history("m|a f|ada|forge|", "f|e|ada|ada|"), ""},
		"what it says":    {history("m|a f|ada|forge|Approved-by: "+eve, "f|e|ada|ada|", "g|f|bob|bob|"), "m: eve (eve) f: eve (eve)"},
		"several":         {history("m|a g|bob|forge|", "g|f|ada|ada|", "f|e|eve|eve|Reviewed-by: "+ada), "g: bob f: ada,bob"},
		"who catches up":  {history("m|a s|bob|bob|", "s|f a|ada|ada|", "f|e|ada|ada|", "a|e|eve|eve|"), "s: bob f: bob"},
		"no merge":        {history("b|a|ada|bob|", "a|e|ada|ada|"), ""},
		"merge at an end": {history("m|x y|bob|bob|"), ""},
	} {
		var got []string
		for _, l := range c.log {
			short := func(list []string) string {
				var out []string
				for _, who := range list {
					n, _, _ := strings.Cut(strings.ToLower(who), " ")
					out = append(out, n)
				}
				return strings.Join(out, ",")
			}
			s := l.ID + ": " + short(l.Reviewers)
			if len(l.Approvers) > 0 {
				s += " (" + short(l.Approvers) + ")"
			}
			if len(l.Reviewers)+len(l.Approvers) > 0 {
				got = append(got, s)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %q", name, strings.Join(got, " "), c.want)
		}
	}
}
