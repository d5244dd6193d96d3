package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/belaydev/belay/internal/xec"
)

// living is a fleet that people work on: what its repository holds now, and what
// it held. Its values are the numbers of commits, so a later one is a larger one.
type living struct {
	mu    sync.Mutex
	fleet *fleet
	repo  *repository
	rng   *rand.Rand
	// state of each application; a tenth of them are spares that are not there at
	// first, so that some can come when others go.
	state []appState
	// pending counts the commits to an application whose effect was not seen yet.
	pending []int
	number  int // of the latest commit
	pushed  []pushed
}

type appState int

const (
	appGone appState = iota
	appThere
	appBrokenFiles      // what it is made of cannot be read
	appBrokenDefinition // its definition cannot
)

// change is a commit before it is made, and what it is to lead to.
type change struct {
	kind    changeKind
	app     int // of all but those to all
	number  int
	subject string
	files   map[string]string
	gone    []string
	// broken is how many applications a change to all may not reach.
	broken int
}

// pushed is a commit that is on main.
type pushed struct {
	id   string
	kind changeKind
	app  string // "" for one to all
}

// changeKind is a letter of the script that the commits follow.
type changeKind rune

const (
	changeOne    changeKind = '1'
	changeAll    changeKind = 'A'
	changeRemove changeKind = 'r'
	changeAdd    changeKind = 'a'
	changeBreak  changeKind = 'b'
	changeMend   changeKind = 'm'
)

func newLiving(apps int, kind, prefix string, repo *repository, seed uint64) *living {
	all := apps + max(1, apps/10)
	l := &living{fleet: newFleet(all, kind, prefix), repo: repo, rng: rand.New(rand.NewPCG(seed, 1)), state: make([]appState, all), pending: make([]int, all)}
	for i := range apps {
		l.state[i] = appThere
	}
	return l
}

// filesOf are all files of an application.
func (l *living) filesOf(i int) map[string]string {
	out := l.fleet.files()
	maps.DeleteFunc(out, func(p, _ string) bool { return !l.owns(i, p) })
	return out
}

func (l *living) owns(i int, path string) bool {
	name := l.fleet.name(i)
	return strings.HasPrefix(path, "apps/"+name+"/") || path == "belay/"+name+".yaml" || path == "values/"+name+".yaml"
}

// files are what the repository is to hold now. A broken application has other
// content than this, so nothing may be broken when that is compared.
func (l *living) files() map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.present(l.fleet.files())
}

// present leaves out the files of applications that are not there.
func (l *living) present(files map[string]string) map[string]string {
	for i, s := range l.state {
		if s == appGone {
			maps.DeleteFunc(files, func(p, _ string) bool { return l.owns(i, p) })
		}
	}
	return files
}

// next prepares a commit of a kind; of one that cannot be now, a commit to one
// application.
func (l *living) next(kind changeKind) change {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.prepare(kind)
}

// nextOf is next, unless it is only a matter of time until a commit of that kind can be.
func (l *living) nextOf(kind changeKind) (c change, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.blocked(kind) {
		return change{}, false
	}
	return l.prepare(kind), true
}

// prepare is next with l.mu.
func (l *living) prepare(kind changeKind) change {
	app, ok := l.choose(kind)
	if !ok {
		kind = changeOne
		app, _ = l.choose(kind) // of so many some are always there
	}
	l.number++
	c := change{kind: kind, app: app, number: l.number}
	name, value := l.fleet.name(app), strconv.Itoa(l.number)
	switch kind {
	case changeAll:
		l.fleet.shared = value
		c.subject, c.files = "Change all to "+value, l.present(l.fleet.common(0))
		for i := range l.state {
			if l.state[i] == appBrokenFiles || l.state[i] == appBrokenDefinition {
				c.broken++ // and it stays so until it is mended
				maps.DeleteFunc(c.files, func(p, _ string) bool { return l.owns(i, p) })
			}
		}
		return c
	case changeOne:
		l.fleet.values[app] = value
		c.subject, c.files = "Change "+name+" to "+value, l.fleet.own(app)
	case changeRemove:
		l.state[app] = appGone
		c.subject, c.gone = "Remove "+name, slices.Sorted(maps.Keys(l.filesOf(app)))
	case changeAdd:
		l.state[app], l.fleet.values[app] = appThere, value
		c.subject, c.files = "Add "+name, l.filesOf(app)
	case changeBreak:
		c.subject, c.files = "Break "+name, l.broken(app)
		return c // its effect is that nothing changes
	case changeMend:
		l.state[app], l.fleet.values[app] = appThere, value
		c.subject, c.files = "Mend "+name, l.filesOf(app)
	}
	l.pending[app]++
	return c
}

// broken is content of an application that nothing can be made of: every second
// time the definition, else a file that it reads.
func (l *living) broken(app int) map[string]string {
	out := map[string]string{}
	const wrong = "kind: {a: [\n"
	if l.number%2 == 0 {
		l.state[app] = appBrokenDefinition
		out["belay/"+l.fleet.name(app)+".yaml"] = wrong
		return out
	}
	l.state[app] = appBrokenFiles
	for p := range l.fleet.own(app) {
		out[p] = wrong
	}
	return out
}

// blocked tells whether a commit of a kind can be made as soon as some effect was seen.
// Called with l.mu.
func (l *living) blocked(kind changeKind) bool {
	in := map[appState]int{}
	for i, s := range l.state {
		in[s]++
		if (kind == changeAdd && s == appGone || kind != changeAdd && s == appThere) && l.pending[i] == 0 {
			return false
		}
	}
	switch kind {
	case changeRemove:
		return in[appThere] > 0
	case changeAdd:
		return in[appGone] > 0
	case changeBreak:
		return in[appThere] > 0 && in[appBrokenFiles]+in[appBrokenDefinition] == 0
	}
	return false
}

// choose finds an application that a change of a kind is possible for. Only one
// is broken at a time, and one whose changes were not all seen stays.
func (l *living) choose(kind changeKind) (int, bool) {
	isBroken := func(i int) bool { return l.state[i] == appBrokenFiles || l.state[i] == appBrokenDefinition }
	fits := func(i int) bool { return l.state[i] == appThere }
	switch kind {
	case changeAll:
		return 0, true
	case changeRemove:
		fits = func(i int) bool { return l.state[i] == appThere && l.pending[i] == 0 }
	case changeAdd:
		fits = func(i int) bool { return l.state[i] == appGone && l.pending[i] == 0 }
	case changeBreak:
		for i := range l.state {
			if isBroken(i) {
				return 0, false
			}
		}
		fits = func(i int) bool { return l.state[i] == appThere && l.pending[i] == 0 }
	case changeMend:
		fits = isBroken
	}
	var all []int
	for i := range l.state {
		if fits(i) {
			all = append(all, i)
		}
	}
	if len(all) == 0 {
		return 0, false
	}
	return all[l.rng.IntN(len(all))], true
}

// settled notes that the effect of a change was seen, or given up.
func (l *living) settled(c change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.kind != changeAll && c.kind != changeBreak {
		l.pending[c.app]--
	}
}

// victim is an application that can be edited by hand, and its value. It stays
// until it is let go.
func (l *living) victim(rng *rand.Rand) (app, value int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for range 50 {
		i := rng.IntN(len(l.state))
		if l.state[i] == appThere && l.pending[i] == 0 {
			value, err := strconv.Atoi(l.fleet.values[i])
			l.pending[i]++
			return i, value, err == nil
		}
	}
	return 0, 0, false
}

// letGo ends what victim began.
func (l *living) letGo(app int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending[app]--
}

func (l *living) there() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.state {
		if s != appGone {
			n++
		}
	}
	return n
}

func (l *living) commits() []pushed {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.pushed)
}

// commit puts a change on main.
func (l *living) commit(ctx context.Context, c change) error {
	var b strings.Builder
	who := fmt.Sprintf("Soak <soak@example.org> %d +0000", time.Now().Unix())
	fmt.Fprintf(&b, "commit refs/heads/main\nmark :1\nauthor %s\ncommitter %s\ndata %d\n%s\nfrom refs/heads/main^0\n", who, who, len(c.subject), c.subject)
	for _, p := range c.gone {
		fmt.Fprintf(&b, "D %s\n", p)
	}
	for _, p := range slices.Sorted(maps.Keys(c.files)) {
		fmt.Fprintf(&b, "M 100644 inline %s\ndata %d\n%s\n", p, len(c.files[p]), c.files[p])
	}
	b.WriteString("get-mark :1\ndone\n")
	const most = 1 << 10
	out, err := l.repo.command(b.String(), "fast-import", "--quiet", "--done").Output(ctx, most)
	if err != nil {
		return fmt.Errorf("in the repository: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := pushed{id: strings.TrimSpace(string(out)), kind: c.kind}
	if c.kind != changeAll {
		p.app = l.fleet.name(c.app)
	}
	l.pushed = append(l.pushed, p)
	return nil
}

// tidy is what a forge does with its repositories from time to time.
func (l *living) tidy(ctx context.Context) error {
	return l.repo.git(ctx, "", "repack", "-q", "-d", "--geometric=2")
}

// command is one of git in the repository.
func (r *repository) command(input string, args ...string) xec.Command {
	return xec.Command{
		Path: "git", Args: args, Dir: r.dir, Inherit: []string{"PATH"}, Stdin: strings.NewReader(input),
		Env: []string{"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "LC_ALL=C"},
	}
}
