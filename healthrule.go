package belay

// HealthRule declares how the health of objects of some kinds is told from their
// status. It stands in the config repository alone: what it says holds for every
// application.
type HealthRule struct {
	Name   string         `json:"name"`
	Spec   HealthRuleSpec `json:"spec"`
	Origin Origin         `json:"origin"`
}

// HealthRuleSpec is the spec of a HealthRule.
type HealthRuleSpec struct {
	// Kinds are "group/Kind"; either part may be a glob. A rule for a kind by its
	// name counts before one by a glob, one in Git before one that is built in.
	Kinds []string `json:"kinds" doc:"Kinds that it is for, as group/Kind. A rule for a kind by name counts before one by a glob."`
	// Rules in order: the first whose condition holds decides.
	Rules []HealthCase `json:"rules,omitempty" doc:"In order: the first whose condition holds decides."`
	// Otherwise is the health where no rule applies. Default Progressing.
	Otherwise Health `json:"otherwise,omitempty" doc:"Health of an object to which no rule applies."`
	// IgnoreGeneration takes a status for one of the object as it is now although
	// its observedGeneration is older. Default false: such an object is Progressing.
	IgnoreGeneration bool `json:"ignoreGeneration,omitempty" doc:"Believe a status whose observedGeneration is older than the object; without it such an object is Progressing."`
}

// HealthCase is one rule of a HealthRule.
type HealthCase struct {
	// When is a CEL expression over object, spec, status, conditions and annotations.
	When string `json:"when" doc:"CEL expression over object, spec, status, conditions and annotations that is true or false."`
	// Health of an object for which it is true.
	Health Health `json:"health" doc:"Health of an object for which it is true."`
	// Message says why, as it stands.
	Message string `json:"message,omitempty" doc:"Why, in words; not shown of what is Healthy."`
	// MessageExpression says why, as a CEL expression.
	MessageExpression string `json:"messageExpression,omitempty" doc:"Why, as a CEL expression over the same variables that gives a text."`
}

// DefaultHealthRuleSpec is what a HealthRule means where it says nothing.
func DefaultHealthRuleSpec() HealthRuleSpec { return HealthRuleSpec{Otherwise: Progressing} }

// HealthCheck tells the health of objects of one kind.
type HealthCheck struct {
	// Digest identifies what it says: two with one digest say the same of every object.
	Digest string
	// Judge tells the health of an object, given as decoded JSON, and why. The
	// message is empty for Healthy.
	Judge func(object map[string]any) (Health, string)
}

// HealthChecks finds the check for a kind; ok is false where no rule is for it.
type HealthChecks func(Kind) (check HealthCheck, ok bool)
