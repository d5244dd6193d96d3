package evidence

import "strings"

// person is who a "Name <email>" is, for comparing.
type person struct{ name, mail string }

// parsePerson reads "Name <email>", "email" or "Name".
func parsePerson(s string) person {
	name, rest, ok := strings.Cut(s, "<")
	if !ok {
		s = fold(s)
		if strings.Contains(s, "@") && !strings.Contains(s, " ") {
			return person{mail: s}
		}
		return person{name: s}
	}
	mail, _, _ := strings.Cut(rest, ">")
	return person{name: fold(name), mail: fold(mail)}
}

// fold leaves case and spacing out.
func fold(s string) string { return strings.ToLower(strings.Join(strings.Fields(s), " ")) }

// same tells whether two may be one person: the same address, or the same name.
// People have several addresses, and a report that takes one for two calls what
// they approved themselves reviewed; so either is enough.
func (p person) same(o person) bool {
	return p.mail != "" && p.mail == o.mail || p.name != "" && p.name == o.name
}

// known tells whether it names anybody.
func (p person) known() bool { return p.name != "" || p.mail != "" }

// key counts people: by address where there is one.
func (p person) key() string {
	if p.mail != "" {
		return p.mail
	}
	return p.name
}

// Others are those of names who are not the author, each once.
func Others(author string, names []string) []string {
	a := parsePerson(author)
	var out []string
	for _, n := range names {
		if p := parsePerson(n); p.known() && (!a.known() || !p.same(a)) {
			out = addPerson(out, n)
		}
	}
	return out
}

// addPerson appends a name unless that person is there already.
func addPerson(list []string, name string) []string {
	p := parsePerson(name)
	for _, have := range list {
		if parsePerson(have).same(p) {
			return list
		}
	}
	return append(list, name)
}
