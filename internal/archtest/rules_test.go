package archtest

// rule says what a package may know, and why.
type rule struct {
	// pkg is the package's path within the module ("" is the root), or a subtree
	// when it ends in "/...". The most specific rule counts.
	pkg string
	// imports are the packages of this module that it may import, in the same
	// form. The root and the helpers are open to everybody but the root.
	imports []string
	// kubernetes allows the libraries that bring Kubernetes types.
	kubernetes bool
	// standard means the standard library and this module, nothing else.
	standard bool
	// pure means no I/O, no clock and no goroutine.
	pure bool
	// processes allows os/exec; git allows to run git.
	processes, git bool
	// tests marks packages that only tests may import.
	tests bool
	// why is printed when the rule is broken.
	why string
}

// helpers are open to every package but the root: each does one small thing and
// knows no adapter.
var helpers = []string{"internal/xec", "internal/events", "internal/version", "internal/footprint", "internal/term", "internal/manifestdiff", "internal/devtest", "internal/gittest", "internal/registrytest", "internal/signature"}

const (
	whyAdapter = "An adapter knows one outside world and the domain. If it knew another adapter, neither could be tested, replaced or " +
		"understood without the other; what they share belongs into the domain, and what connects them into internal/reconcile and cmd/belay."
	whyPure = "Plans, policies and health are functions over values: given the same input they say the same, which is what lets a reviewed plan " +
		"be the plan that runs, and lets tests try millions of cases. A clock, a file or a goroutine in them ends that."
	whyHelper = "A helper is imported from everywhere, so whatever it imports is imported everywhere."
)

var rules = []rule{
	{pkg: "", standard: true, pure: true, why: "The root package is what all others speak in. It holds values and functions over them; " +
		"an import here is an import of every package, and of everyone who uses the domain as a library."},

	{pkg: "internal/plan", imports: []string{"internal/expr"}, standard: true, pure: true, why: whyPure},
	{pkg: "internal/policy/...", imports: []string{"internal/expr"}, pure: true, why: whyPure},
	{pkg: "internal/health", imports: []string{"internal/expr"}, pure: true, why: whyPure + " (Rules of health are YAML and expressions: internal/expr evaluates, and a YAML reader reads those that are built in.)"},
	{pkg: "internal/window", pure: true, why: whyPure},
	{pkg: "internal/evidence", standard: true, pure: true, why: "The report of a period follows from its records alone, whoever makes it and whenever: an auditor who makes it anew must come to the same."},
	{pkg: "internal/evidence/report", imports: []string{"internal/evidence"}, standard: true, pure: true, why: "How a report looks must not decide what it says. It writes to what it is given and reads nothing."},
	{pkg: "internal/expr", pure: true, why: "An expression sees the values it is given and nothing else; that is why plans, policies and health may evaluate them."},

	{pkg: "internal/catalog", imports: []string{"internal/expr", "internal/health", "internal/window"}, why: "What definitions mean depends on a commit and nothing else: lint, tests and the server must read them alike."},
	{pkg: "internal/catalog/gen", imports: []string{"internal/catalog", "internal/health"}, why: "The generator writes down what the catalog knows."},

	{pkg: "internal/git", git: true, why: whyAdapter},
	{pkg: "internal/runlog", standard: true, why: whyAdapter},
	{pkg: "internal/registry", why: whyAdapter},
	{pkg: "internal/source", imports: []string{"internal/git", "internal/registry"}, why: whyAdapter +
		" (internal/source may use internal/git and internal/registry: a source is made of what they bring.)"},
	{pkg: "internal/render/...", imports: []string{"internal/render/..."}, kubernetes: true, why: whyAdapter + " What renders sees the content of strangers: it must not even be able to reach a cluster or a repository."},
	{pkg: "internal/render/rendertest", imports: []string{"internal/render/..."}, kubernetes: true, tests: true, why: "Test helpers stay out of the binary."},
	{pkg: "internal/sops", why: whyAdapter + " What holds keys for a moment must not know what is rendered from the files it opens, nor where the keys came from."},
	{pkg: "internal/sops/sopstest", tests: true, why: "Test helpers stay out of the binary."},
	{pkg: "internal/kube/...", imports: []string{"internal/kube/..."}, kubernetes: true, why: whyAdapter},
	{pkg: "internal/terraform/...", imports: []string{"internal/terraform/..."}, why: whyAdapter},
	{pkg: "internal/ledger/...", imports: []string{"internal/ledger/..."}, git: true, why: whyAdapter +
		" (It runs git itself: a ledger is written and never fetched for its files, which is what internal/git is made for.)"},
	{pkg: "internal/ledger/index", imports: []string{"internal/ledger/record"}, git: true, why: "The index reads what the record format says is in a ledger, also in one that another Belay wrote: it must not know the writer."},
	{pkg: "internal/ledger/ledgertest", imports: []string{"internal/ledger/record"}, git: true, tests: true, why: "Test helpers stay out of the binary."},
	{pkg: "internal/ledger/pack", why: "It makes objects of what it is given: a Git repository of any kind could be written with it, and nothing in it may depend on what a ledger is."},
	{pkg: "internal/ledger/record", pure: true, why: "The format of the ledger is a function over values, so that writer and verifier can share it and nothing else."},
	{pkg: "internal/signature", why: "A signature is right or wrong whoever asks: what checks it must not know what it is for. " + whyHelper},
	{pkg: "internal/drill", imports: []string{"internal/catalog"}, why: "A drill runs the engine as cmd/belay wires it; it knows what is to be compared, and no adapter."},
	{pkg: "internal/ledger/verify", imports: []string{"internal/ledger/record"}, git: true, why: "The verifier proves what the writer wrote: were it the same code, both would be wrong together. They share the record format."},
	{pkg: "internal/forge/...", imports: []string{"internal/forge/..."}, why: whyAdapter},

	{pkg: "internal/reconcile", imports: []string{"internal/catalog", "internal/plan", "internal/policy/...", "internal/health", "internal/expr", "internal/window"},
		why: "The orchestrator declares the small interfaces that it needs. Knowing a concrete adapter, it could be tested only with the real one, and every adapter would end up in it."},

	{pkg: "internal/server/...", imports: []string{"internal/server/..."}, why: "The HTTP API serves the domain. It declares what it needs; knowing an adapter, it would answer with that adapter's types and break when they change."},
	{pkg: "internal/server/servertest", imports: []string{"internal/server/..."}, tests: true, why: "Test helpers stay out of the binary."},
	{pkg: "client", standard: true, why: "The client is imported by other people's programs: the domain and the standard library are all that it should cost them."},

	{pkg: "internal/footprint", why: "How memory is given back must not depend on what the process does: the server and the render workers both use it. " + whyHelper},
	{pkg: "internal/xec", processes: true, why: "Starting processes in one place is what makes it possible to say that none inherits the environment, outlives us or is given a secret. " + whyHelper},
	{pkg: "internal/events", why: whyHelper},
	{pkg: "internal/version", why: whyHelper},
	{pkg: "internal/term", why: whyHelper},
	{pkg: "internal/manifestdiff", why: whyHelper},
	{pkg: "internal/devtest", kubernetes: true, processes: true, tests: true, why: "Tests of any package start a control plane with it, so it knows none of them."},
	{pkg: "internal/gittest", git: true, tests: true, why: "Tests of any package make repositories with it, so it knows none of them."},
	{pkg: "internal/registrytest", tests: true, why: "Tests of any package serve charts and artifacts with it, so it knows none of them."},
	{pkg: "internal/archtest", processes: true, tests: true, why: "It asks the go command what imports what."},

	{pkg: "bench/...", imports: []string{"client", "bench/..."}, kubernetes: true, git: true,
		why: "A benchmark measures the binary from outside, as a user meets it: over Git, HTTP and the API server. What it could reach inside would be measured instead."},
	{pkg: "bench/rendering", imports: []string{"internal/render"}, kubernetes: true,
		why: "What a pool of workers costs beyond the libraries can only be told beside them, in one program that calls both. It is for that, and knows nothing else of Belay."},
	{pkg: "deploy/image", standard: true, why: "It runs on the machines of those who build releases, and what goes into an image should be easy to see: files in, archive out."},
	{pkg: "cmd/belay", imports: []string{"client", "internal/..."}, why: "Here, and only here, the parts are put together. It holds no logic that needs Kubernetes types."},
}
