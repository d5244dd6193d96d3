package catalog

// CheckDocument says whether one document is wrong, and whether it is so in a
// way that a schema finds.
func CheckDocument(text []byte) (structural, wrong bool) {
	c := parse("a.yaml", "belay", text)
	for _, p := range c.problems {
		structural = structural || p.structural
	}
	return structural, len(c.problems) > 0
}

// RuleFields are the keys of the tables that speak of fields.
func RuleFields() (ruled, chosen []string) {
	for k := range rules {
		ruled = append(ruled, k)
	}
	for t, c := range choices {
		for _, f := range c.fields {
			chosen = append(chosen, t+"."+f)
		}
	}
	return ruled, chosen
}

// Execute compiles and executes one text.
func Execute(text string, params map[string]any) (string, error) {
	e, err := compile(text)
	if err != nil {
		return "", err
	}
	return e.execute(params)
}

// SetMaxGenerated changes a limit until undo is called.
func SetMaxGenerated(n int) (undo func()) {
	before := maxGenerated
	maxGenerated = n
	return func() { maxGenerated = before }
}

// Functions are the names of the functions of expressions.
func Functions() []string { return functionNames() }
