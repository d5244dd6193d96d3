package git

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belaydev/belay"
)

// This file reads what commits say of who wrote, merged, reviewed and approved
// them. It is functions over text: git gives it, and nobody checks that it is true.

// logged is a commit with what tells who reviewed it.
type logged struct {
	belay.Commit
	parents []string
	// committer is who committed it, also where that is the author.
	committer string
}

// loggedFormat is what parseLogged reads: five lines, then the message.
const loggedFormat = "--format=%H%n%P%n%an <%ae>%n%cn <%ce>%n%at%n%B"

// parseLogged takes the output of "git log -z" in loggedFormat apart.
func parseLogged(out []byte) ([]logged, error) {
	var list []logged
	for entry := range strings.SplitSeq(strings.ToValidUTF8(string(out), "\uFFFD"), "\x00") {
		if strings.TrimSpace(entry) == "" {
			continue
		}
		f := strings.SplitN(entry, "\n", 6)
		if len(f) < 5 || !validID(f[0]) {
			return nil, errors.New("git log printed something else than commits")
		}
		sec, err := strconv.ParseInt(f[4], 10, 64)
		if err != nil {
			return nil, errors.New("git log printed a commit without a date")
		}
		message := ""
		if len(f) == 6 {
			message = f[5]
		}
		list = append(list, newLogged(f[0], strings.Fields(f[1]), f[2], f[3], time.Unix(sec, 0).UTC(), message))
	}
	return list, nil
}

// parseCommitLog reads the object of a commit.
func parseCommitLog(id string, data []byte) logged {
	head, message, _ := strings.Cut(strings.ToValidUTF8(string(data), "\uFFFD"), "\n\n")
	var parents []string
	author, committer, at := "", "", time.Time{}
	person := func(s string) (string, time.Time) {
		name, mail, when := parsePerson(s)
		return name + " <" + mail + ">", when
	}
	for line := range strings.SplitSeq(head, "\n") {
		key, value, _ := strings.Cut(line, " ")
		switch key {
		case "parent":
			parents = append(parents, value)
		case "author":
			author, at = person(value)
		case "committer":
			committer, _ = person(value)
		}
	}
	return newLogged(id, parents, author, committer, at, message)
}

func newLogged(id string, parents []string, author, committer string, at time.Time, message string) logged {
	subject, _, _ := strings.Cut(strings.TrimLeft(message, "\n"), "\n")
	c := logged{parents: parents, committer: committer, Commit: belay.Commit{
		ID: id, Author: author, Time: at, Subject: strings.TrimSpace(subject), Merge: len(parents) > 1,
	}}
	if !samePerson(author, committer) {
		c.Committer = committer
	}
	c.Reviewers, c.Approvers = endorsements(message, author)
	return c
}

// endorsements are whom a message names in the trailers Reviewed-by, Acked-by and
// Approved-by. Nobody endorses what they wrote themselves.
func endorsements(message, author string) (reviewers, approvers []string) {
	for _, line := range lastParagraph(message) {
		key, who, ok := strings.Cut(line, ":")
		who = strings.TrimSpace(who)
		if !ok || who == "" || samePerson(who, author) {
			continue
		}
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "approved-by":
			approvers = addPerson(approvers, who)
			reviewers = addPerson(reviewers, who)
		case "reviewed-by", "acked-by":
			reviewers = addPerson(reviewers, who)
		}
	}
	return reviewers, approvers
}

// lastParagraph is where the trailers of a message stand. The subject is none.
func lastParagraph(message string) []string {
	lines := strings.Split(strings.ReplaceAll(strings.TrimSpace(message), "\r\n", "\n"), "\n")
	start := 0
	for i, line := range lines {
		if strings.TrimSpace(line) == "" {
			start = i + 1
		}
	}
	if start == 0 {
		return nil
	}
	return lines[start:]
}

// credit names those who merged a commit among its reviewers, where they did not
// write it, and those whom the message of the merge names. Only merges into the
// line of the newest commit count: who merges that line into their own branch, to
// keep up with it, reviews nothing.
func credit(list []logged) {
	at := make(map[string]int, len(list))
	for i := range list {
		at[list[i].ID] = i
	}
	for i, ok := 0, len(list) > 0; ok; {
		m := &list[i]
		if m.Merge {
			before := reach(list, at, m.parents[:1])
			for j := range reach(list, at, m.parents[1:]) {
				if !before[j] {
					endorse(&list[j], m)
				}
			}
		}
		if len(m.parents) == 0 {
			return
		}
		i, ok = at[m.parents[0]]
	}
}

// endorse adds to a commit what the merge that brought it tells.
func endorse(c, merge *logged) {
	add := func(list []string, who string) []string {
		if who == "" || samePerson(who, c.Author) {
			return list
		}
		return addPerson(list, who)
	}
	c.Reviewers = add(c.Reviewers, mergerOf(merge))
	for _, who := range merge.Reviewers {
		c.Reviewers = add(c.Reviewers, who)
	}
	for _, who := range merge.Approvers {
		c.Approvers = add(c.Approvers, who)
	}
}

// reach are the listed commits at or before some.
func reach(list []logged, at map[string]int, from []string) map[int]bool {
	seen := map[int]bool{}
	todo := slices.Clone(from)
	for len(todo) > 0 {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		i, listed := at[id]
		if !listed || seen[i] {
			continue
		}
		seen[i] = true
		todo = append(todo, list[i].parents...)
	}
	return seen
}

// mergerOf is who merged: forges commit in their own name, and write as who
// pressed the button. Empty where only a machine is known.
func mergerOf(m *logged) string {
	for _, who := range []string{m.Author, m.committer} {
		if !isMachine(who) {
			return who
		}
	}
	return ""
}

// isMachine recognizes the addresses in whose name forges and their robots commit.
func isMachine(who string) bool {
	local, _, _ := strings.Cut(mailOf(who), "@")
	switch local {
	case "", "noreply", "no-reply", "donotreply", "do-not-reply":
		return true
	}
	return strings.Contains(local, "[bot]")
}

// mailOf is the address of "Name <address>" in lower case.
func mailOf(who string) string {
	_, mail, ok := strings.Cut(who, "<")
	if !ok {
		return ""
	}
	mail, _, _ = strings.Cut(mail, ">")
	return strings.ToLower(strings.TrimSpace(mail))
}

// samePerson compares addresses, and names where one of them has none.
func samePerson(a, b string) bool {
	if x, y := mailOf(a), mailOf(b); x != "" && y != "" {
		return x == y
	}
	name := func(who string) string {
		n, _, _ := strings.Cut(who, "<")
		return strings.ToLower(strings.TrimSpace(n))
	}
	return name(a) == name(b)
}

func addPerson(list []string, who string) []string {
	if slices.ContainsFunc(list, func(other string) bool { return samePerson(other, who) }) {
		return list
	}
	return append(slices.Clip(list), who)
}
