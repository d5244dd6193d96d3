package catalog

import (
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/Masterminds/semver/v3"

	"github.com/belaydev/belay/internal/window"
)

// A format is what a string must look like. Everything up to check can be said
// in a JSON Schema too, so that editors and the decoder refuse the same things.
type format struct {
	pattern *regexp.Regexp // must match
	not     *regexp.Regexp // must not match
	maxLen  int            // in characters, 0 means no limit
	empty   bool           // whether "" is allowed
	want    string         // ends the sentence "must be …"
	tell    bool           // the reference says what is wanted, too
	secret  bool           // the value may be a credential that landed in the wrong place: never repeat it
	// check says what no schema can. It returns a sentence without the value and a hint.
	check func(s string) (message, hint string)
}

const (
	dnsLabelPattern     = `[a-z0-9]([-a-z0-9]*[a-z0-9])?`
	dnsSubdomainPattern = dnsLabelPattern + `(\.` + dnsLabelPattern + `)*`
	minInterval         = time.Second
	maxInterval         = 24 * time.Hour
)

var (
	formatText = &format{empty: true, want: "text"}
	formatWord = &format{want: "text, not empty"}

	formatName = &format{
		pattern: regexp.MustCompile(`^` + dnsSubdomainPattern + `$`), maxLen: 253,
		tell: true, want: `a DNS name: lower-case letters, digits, "-" and ".", beginning and ending with a letter or digit`,
	}
	formatNamespace = &format{
		pattern: regexp.MustCompile(`^` + dnsLabelPattern + `$`), maxLen: 63,
		tell: true, want: `a namespace: lower-case letters, digits and "-", beginning and ending with a letter or digit, at most 63 characters`,
	}
	formatReleaseName = &format{
		pattern: regexp.MustCompile(`^` + dnsSubdomainPattern + `$`), maxLen: 53,
		tell: true, want: `a Helm release name: lower-case letters, digits, "-" and ".", at most 53 characters`,
	}
	formatLabelKey = &format{
		pattern: regexp.MustCompile(`^(` + dnsSubdomainPattern + `/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`), maxLen: 317,
		want: `a Kubernetes label or annotation key such as "team" or "example.com/team"`,
	}
	formatLabelValue = &format{
		pattern: regexp.MustCompile(`^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$`), empty: true,
		want: `a Kubernetes label value: at most 63 letters, digits, "-", "_" and "."`,
	}
	formatRepo = &format{want: "the name of a Repository or a URL", secret: true, check: checkRepo}
	formatURL  = &format{
		pattern: regexp.MustCompile(`^(https?://|ssh://|oci://|file:///|/|[A-Za-z0-9_][A-Za-z0-9_.-]*@[A-Za-z0-9\[])`),
		want:    "a URL: https://host/path, ssh://user@host/path, user@host:path, oci://registry/path, file:///path or an absolute path", secret: true, check: checkURL,
	}
	formatRef = &format{want: "a branch, tag, commit or semver range", check: checkRef}
	// formatPath is relative and stays below the place it starts from.
	formatPath = &format{
		not: regexp.MustCompile(`^/|\\|(^|/)\.\.(/|$)`), empty: true,
		want: `a path relative to the root of the repository, with "/" between names, without ".."`, check: checkPath,
	}
	formatGlob = &format{
		not:  regexp.MustCompile(`^/|(^|/)\.\.(/|$)`),
		want: `a glob relative to path, without ".."`, check: checkGlob,
	}
	formatPathGlob = &format{
		not:  regexp.MustCompile(`^/|(^|/)\.\.(/|$)`),
		want: `a glob over paths relative to the root of the repository, without ".."`, check: checkGlob,
	}
	formatRepoGlob = &format{want: "a glob over names and URLs of repositories", secret: true, check: checkRepoGlob}
	formatNameGlob = &format{
		pattern: regexp.MustCompile(`^[-a-z0-9.*?\[\]^]+$`),
		want:    `a glob over names, such as "team-*"`, check: checkGlob,
	}
	formatValuesFile = &format{
		not: regexp.MustCompile(`\\|/$`), want: `a file, relative to spec.source.path or, with a leading "/", to the root of the repository; $NAME/path in the source of that name`, check: checkNamed,
	}
	// formatSourceFile is a file of the source's repository, or of a named source.
	formatSourceFile = &format{
		not:  regexp.MustCompile(`^/|\\|/$|(^|/)\.\.(/|$)`),
		want: `a file relative to the root of the repository, or $NAME/path in the source of that name, without ".."`, check: checkNamed,
	}
	formatVariable = &format{
		pattern: regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`), want: "the name of a variable: letters, digits and underscores",
	}
	formatChart = &format{
		pattern: regexp.MustCompile(`^[A-Za-z0-9][-A-Za-z0-9_.]*$`), maxLen: 250, want: "the name of a chart",
	}
	formatPropagation = &format{
		pattern: regexp.MustCompile(`^(background|foreground|orphan)$`), want: "background, foreground or orphan", tell: true,
	}
	formatSignatureMode = &format{pattern: regexp.MustCompile(`^(off|warn|require)$`), want: "off, warn or require", tell: true}
	formatSignedCommits = &format{pattern: regexp.MustCompile(`^(head|all)$`), want: "head or all", tell: true}
	formatCommit        = &format{pattern: regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`), want: "the full id of a commit"}
	formatSignerKey     = &format{not: regexp.MustCompile(`PRIVATE KEY`), want: "a public key of SSH or OpenPGP", secret: true, check: checkSignerKey}
	formatArtifactKey   = &format{not: regexp.MustCompile(`PRIVATE KEY`), want: "a public key in PEM", secret: true, check: checkArtifactKey}
	formatTime          = &format{want: "a time such as 2026-12-31T23:59:59Z", check: checkTime}
	formatWindowKind    = &format{pattern: regexp.MustCompile(`^(allow|deny)$`), want: "allow or deny", tell: true}
	formatPush          = &format{pattern: regexp.MustCompile(`^(branch|pullRequest)$`), want: "branch or pullRequest", tell: true}
	// formatBranchPrefix begins the name of a branch, and may end anywhere in it.
	formatBranchPrefix = &format{
		pattern: regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]*$`), not: regexp.MustCompile(`\.\.|//|/\.|\./|\.lock/`),
		want: "what a branch begins with, such as belay/rollback-", tell: true,
	}
	formatDuration = &format{
		pattern: regexp.MustCompile(`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`), want: `a duration such as 30s, 10m or 1h30m`, check: checkDuration,
	}
	formatPointer = &format{
		pattern: regexp.MustCompile(`^(/([^~/]|~[01])*)+$`), want: `a JSON pointer such as /spec/replicas, with ~1 for "/" and ~0 for "~" in a name`,
	}
	formatReady    = &format{want: "an expression, not empty", check: checkReady}
	formatCron     = &format{want: `five cron fields, such as "0 22 * * 5"`, check: checkCron}
	formatTimeZone = &format{want: `an IANA time zone such as "Europe/Berlin"`, check: checkTimeZone}

	formatKinds = &format{
		pattern: regexp.MustCompile(`^(([a-z0-9][-a-z0-9.]*|\*)/)?[A-Z*?\[][-A-Za-z0-9*?\[\]^]*$`),
		want:    `a kind such as "apps/Deployment" (group/Kind), "Secret" (core group), "batch/*" or "*"`, check: checkGlob,
	}
	formatInterval = &format{
		pattern: regexp.MustCompile(`^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`),
		want:    `a duration such as 30s, 5m or 1h30m`, check: checkInterval,
	}
	formatFile = &format{
		pattern: regexp.MustCompile(`^/`), want: "an absolute path on the server's machine", secret: true, check: checkPath,
	}
	formatEnv = &format{
		pattern: regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`), want: "the name of an environment variable", secret: true,
	}
	formatSecretNamespace = &format{
		pattern: formatNamespace.pattern, maxLen: 63, want: "the namespace of a Secret", secret: true,
	}
	formatSecretName = &format{
		pattern: formatName.pattern, maxLen: 253, want: "the name of a Secret", secret: true,
	}
	formatSecretKey = &format{
		pattern: regexp.MustCompile(`^[-._a-zA-Z0-9]+$`), maxLen: 253, want: "a key of a Secret's data", secret: true,
	}
	formatUsername = &format{
		not: regexp.MustCompile(`[:\s]`), want: "a user name", secret: true,
	}
)

// structural says whether s keeps the part of the format that a schema knows.
func (f *format) structural(s string) bool {
	switch {
	case s == "" && !f.empty,
		f.maxLen > 0 && len([]rune(s)) > f.maxLen,
		f.pattern != nil && !f.pattern.MatchString(s),
		f.not != nil && f.not.MatchString(s):
		return false
	}
	return true
}

// isURL tells a URL (or path, or user@host:path) from the name of a Repository.
func isURL(s string) bool {
	return strings.ContainsAny(s, "/:@\\")
}

func checkRepo(s string) (string, string) {
	if !isURL(s) {
		if !formatName.structural(s) {
			return "must be the name of a Repository or a URL", formatName.want
		}
		return "", ""
	}
	if !formatURL.structural(s) {
		return "must be " + formatURL.want, "or the name of a Repository"
	}
	return checkURL(s)
}

const credentialsHint = "declare a Repository with this URL and point its spec.auth at a file, an environment variable or a Secret; if the credential was real, revoke it: it is in the history of the repository"

// checkURL never repeats the URL: what is wrong with it may be a credential.
func checkURL(s string) (string, string) {
	if strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return "must not contain spaces or control characters", ""
	}
	if strings.HasPrefix(s, "/") {
		return "", ""
	}
	if !strings.Contains(s, "://") { // user@host:path
		host, rest, ok := strings.Cut(s, ":")
		if !ok || rest == "" || strings.Contains(host, "/") {
			return "must be user@host:path", "or write ssh://user@host/path"
		}
		if strings.Contains(rest, "@") {
			return "must not contain a password or token", credentialsHint
		}
		return "", ""
	}
	u, err := url.Parse(s)
	if err != nil {
		return "is not a valid URL", "" // the error would repeat it
	}
	_, password := u.User.Password()
	switch {
	case password, u.User != nil && (u.Scheme == "http" || u.Scheme == "https" || u.Scheme == "oci"):
		return "must not contain a user name, password or token", credentialsHint
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "must not have a query or fragment", "leave out everything from the first \"?\" or \"#\""
	case u.Scheme == "file" && u.Host != "":
		return "must be file:///path, with three slashes", ""
	case u.Scheme != "file" && (u.Hostname() == "" || strings.HasPrefix(u.Hostname(), "-")):
		return "must name a host", ""
	case strings.Trim(u.Path, "/") == "" && u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "oci": // which a Helm repository or registry may do without
		return "must name a repository on the host", ""
	}
	return "", ""
}

// digestRef pins a chart or an artifact.
var digestRef = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// checkRef takes what git check-ref-format takes, and semver ranges.
func checkRef(s string) (string, string) {
	if validRefName(s) {
		return "", ""
	}
	if _, err := semver.NewConstraint(s); err == nil {
		return "", ""
	}
	if digestRef.MatchString(s) {
		return "", ""
	}
	return "must be a branch, tag, commit or semver range", `a range looks like ">=1.2 <2" or "~1.4"`
}

func validRefName(s string) bool {
	if strings.HasPrefix(s, "-") || strings.HasPrefix(s, "/") || strings.HasSuffix(s, "/") || strings.HasSuffix(s, ".") ||
		strings.HasSuffix(s, ".lock") || strings.Contains(s, "..") || strings.Contains(s, "//") || strings.Contains(s, "@{") ||
		strings.Contains(s, "/.") || strings.HasPrefix(s, ".") || s == "@" {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r == 0x7f || strings.ContainsRune(`~^:?*[\`, r)
	})
}

func checkPath(s string) (string, string) {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return "must not contain control characters", ""
	}
	return "", ""
}

// checkNamed is checkPath for one that may lie in another source.
func checkNamed(s string) (string, string) {
	if rest, ok := strings.CutPrefix(s, "$"); ok {
		name, file, _ := strings.Cut(rest, "/")
		if !formatNamespace.structural(name) || file == "" || slices.Contains(strings.Split(file, "/"), "..") {
			return "must be $NAME/path, without \"..\"", "NAME is the name of another source of this application"
		}
	}
	return checkPath(s)
}

func checkGlob(s string) (string, string) {
	for seg := range strings.SplitSeq(s, "/") {
		if _, err := path.Match(seg, ""); err != nil {
			return "is not a valid glob", `"[" opens a set of characters such as [a-z] and needs its "]"; write \[ for the character`
		}
		if seg != "**" && strings.Contains(seg, "**") {
			return `has ** beside other characters`, `** stands alone between slashes: "a/**/b.yaml"`
		}
	}
	return checkPath(s)
}

func checkRepoGlob(s string) (string, string) {
	if _, rest, ok := strings.Cut(s, "://"); ok {
		authority, _, _ := strings.Cut(rest, "/")
		if user, _, ok := strings.Cut(authority, "@"); ok && (strings.Contains(user, ":") || strings.HasPrefix(s, "http")) {
			return "must not contain a user name, password or token", credentialsHint
		}
	}
	return checkGlob(s)
}

func checkInterval(s string) (string, string) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return "is not a duration", "write it like 30s, 5m or 1h30m"
	}
	if d < minInterval || d > maxInterval {
		return "must be between 1s and 24h", ""
	}
	return "", ""
}

func checkDuration(s string) (string, string) {
	switch d, err := time.ParseDuration(s); {
	case err != nil:
		return "is no duration", "write it like 30s, 10m or 1h30m"
	case d <= 0:
		return "must be longer than nothing", ""
	}
	return "", ""
}

// checkCron takes what the schedules of Kubernetes CronJobs take, but for names
// such as "@daily", and for "TZ=", which has a field of its own.
func checkCron(s string) (string, string) {
	if strings.Contains(s, "TZ=") {
		return "must not have a time zone in it", "set timeZone beside it"
	}
	if _, err := window.ParseSchedule(s); err != nil {
		return "is no cron schedule: " + err.Error(), `write five fields, such as "0 22 * * 5" for Fridays at ten in the evening`
	}
	return "", ""
}

func checkTimeZone(s string) (string, string) {
	if _, err := time.LoadLocation(s); err != nil || s == "Local" {
		return "is no IANA time zone", `write it like "Europe/Berlin"`
	}
	return "", ""
}
