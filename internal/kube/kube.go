// Package kube delivers to a Kubernetes cluster and watches what becomes of it:
// discovery, observation of the objects that Belay applied, server-side apply,
// and deletion. A [Cluster] answers questions from memory, and at rest sends no
// request beside its open watches.
//
// It must not know what is declared in Git, which application an object ought
// to belong to, or when anything is due: it is told one action at a time, with a
// permit. No type of a Kubernetes library leaves it, except the rest.Config that
// it is made from.
package kube

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	metainternalversionscheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/version"
)

// Config says how an API server is reached.
type Config = rest.Config

// Options are what a [Cluster] is made from.
type Options struct {
	// Name of the cluster as applications name it.
	Name string
	// Config says how the API server is reached. It is copied. Its UserAgent
	// defaults to "belay/VERSION"; its limits of requests and time are not used.
	Config *Config
	// Renew reads the configuration again from where it is kept. It is asked when
	// the API server refuses the credentials or does not answer; nil means that
	// they stay what they are.
	Renew func(context.Context) (*Config, error)
	// Lease, if there is one, must be held for every write.
	Lease *Lease
	// Namespaces limit what is observed and written to some namespaces; none means
	// the whole cluster.
	Namespaces []string
	// Instance separates several Belays in one cluster; empty for the unnamed one.
	Instance string
	// Logger defaults to none.
	Logger *slog.Logger
	// Interactive are field managers of tools that people use by hand: their
	// entries count into a fingerprint. A manager matches by its whole name or by
	// the part before a slash.
	Interactive []string
	// Notify is called, by one goroutine, with the applications whose live state
	// changed since the last call; all is true when facts, the connection or the
	// observation changed. Changes that come while it runs are put together.
	Notify func(applications []string, all bool)
	// SweepInterval is the time between looks at kinds that are not watched.
	// Default 1h.
	SweepInterval time.Duration
}

// Cluster is the connection to one cluster. Its methods may be called at any
// time by any goroutine; until [Cluster.Run] runs they know nothing.
type Cluster struct {
	name     string
	instance string
	host     string
	selector string
	log      *slog.Logger
	lease    *Lease
	// namespaces are the only ones that are looked at; none for the whole cluster.
	namespaces []string
	sweeping   time.Duration
	patience   time.Duration // with a list that does not come
	guess      time.Duration // between looks for a kind that nobody tells of

	http      *http.Client
	rest      *rest.RESTClient
	partial   *rest.RESTClient // for answers that are metadata
	metadata  metadata.Interface
	dynamic   dynamic.Interface
	discovery *discovery.DiscoveryClient

	interactive managers
	writes      *limiter
	notes       *notifier
	objects     *store
	events      *eventLog

	// moved is closed when the credentials name another server, or another cluster
	// answers.
	moved     chan struct{}
	movedOnce sync.Once
	identity  identity

	// rediscover asks for a look at what the cluster serves.
	rediscover chan struct{}
	looking    atomic.Bool // since it was asked for, until it shows what is there
	// resweep asks for a look at kinds that are new.
	resweep chan struct{}

	mu       sync.Mutex
	id       string          // of the cluster; "" as long as it is not known
	running  context.Context // nil before Run and after it
	watchers sync.WaitGroup
	known    *catalogue // nil until discovered
	control  map[string]*watch
	watches  map[place]*watch
	wanted   map[belay.VersionKind]bool
	checks   belay.HealthChecks // nil until told
	swept    bool
	blind    bool           // the last sweep saw nothing
	seen     bool           // some sweep saw something
	looked   map[place]bool // what a sweep has seen
	// complete is set once everything has been delivered for the first time.
	complete bool
	// awaited is set when Observe said no.
	awaited bool
	// offline says why the API server cannot be reached; empty while it can.
	offline string
	// made are the namespaces that Belay made.
	made map[string]madeFor
	// unlisted is what the last sweep could not look at, and why.
	unlisted map[place]unlisted
}

// New makes a Cluster. It sends no request.
func New(o Options) (*Cluster, error) {
	if o.Config == nil {
		return nil, fmt.Errorf("cluster %q: no configuration", o.Name)
	}
	selector, err := selectorFor(o.Instance)
	if err != nil {
		return nil, fmt.Errorf("instance %q: %w", o.Instance, err)
	}
	c := &Cluster{
		name: o.Name, instance: o.Instance, selector: selector, sweeping: o.SweepInterval, patience: listPatience, guess: time.Minute,
		log: o.Logger, interactive: o.Interactive, lease: o.Lease, namespaces: slices.Sorted(slices.Values(o.Namespaces)),
		writes: newLimiter(maxInFlight), objects: newStore(), events: newEventLog(),
		moved: make(chan struct{}), rediscover: make(chan struct{}, 1), resweep: make(chan struct{}, 1), looked: map[place]bool{}, unlisted: map[place]unlisted{},
		identity: identity{asking: make(chan struct{}, 1)},
		watches:  map[place]*watch{}, control: map[string]*watch{}, wanted: map[belay.VersionKind]bool{},
	}
	if c.sweeping <= 0 {
		c.sweeping = time.Hour
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.log = c.log.With("cluster", o.Name)
	c.notes = newNotifier(o.Notify)

	cfg := prepared(o.Config)
	if cfg.Insecure {
		c.log.Warn("the API server's certificate is not checked: whoever stands between can read the credentials")
	}
	c.host = hostOf(cfg.Host)
	if err := c.connectors(cfg, o.Renew); err != nil {
		return nil, &belay.Error{Code: belay.CodeInvalid, Err: err,
			Message: fmt.Sprintf("the credentials of cluster %q cannot be used: %s", o.Name, plainCause(err)),
			Hint:    "check the kubeconfig"}
	}
	return c, nil
}

// prepared is a copy of a configuration with what every connection of Belay has.
func prepared(from *rest.Config) *rest.Config {
	cfg := rest.CopyConfig(from)
	if cfg.UserAgent == "" {
		cfg.UserAgent = "belay/" + version.Get().Version
	}
	cfg.QPS, cfg.Burst, cfg.RateLimiter = -1, 0, nil // the API server's own fairness is the limit
	cfg.Timeout = 0                                  // a watch has none; everything else sets its own
	cfg.WarningHandler = rest.NoWarnings{}
	return cfg
}

// connectors makes the clients, all over one connection pool.
func (c *Cluster) connectors(cfg *rest.Config, renew func(context.Context) (*rest.Config, error)) error {
	transport, err := newRenewing(cfg, renew, func() { c.endAs("its credentials name another server now, connecting to it") }, c.log)
	if err != nil {
		return err
	}
	c.http = &http.Client{Transport: transport}
	if c.metadata, err = metadata.NewForConfigAndClient(cfg, c.http); err != nil {
		return err
	}
	if c.dynamic, err = dynamic.NewForConfigAndClient(cfg, c.http); err != nil {
		return err
	}
	if c.discovery, err = discovery.NewDiscoveryClientForConfigAndClient(cfg, c.http); err != nil {
		return err
	}
	if c.rest, err = rest.UnversionedRESTClientForConfigAndClient(dynamic.ConfigFor(cfg), c.http); err != nil {
		return err
	}
	partial := metadata.ConfigFor(cfg)
	partial.NegotiatedSerializer = metainternalversionscheme.Codecs.WithoutConversion()
	c.partial, err = rest.UnversionedRESTClientForConfigAndClient(partial, c.http)
	return err
}

// selectorFor is the label selector of everything one instance applies.
func selectorFor(instance string) (string, error) {
	managed, err := labels.NewRequirement(belay.LabelManaged, selection.Equals, []string{"true"})
	if err != nil {
		return "", err
	}
	op, values := selection.DoesNotExist, []string(nil)
	if instance != "" {
		op, values = selection.Equals, []string{instance}
	}
	ours, err := labels.NewRequirement(belay.LabelInstance, op, values)
	if err != nil {
		return "", err
	}
	return labels.NewSelector().Add(*managed, *ours).String(), nil
}

// hostOf is the address for messages, without credentials.
func hostOf(host string) string {
	u, err := url.Parse(host)
	if err != nil || u.Host == "" {
		return "the API server"
	}
	return u.Host
}

// Ready is nil once everything that Belay owns in the cluster is known and the
// API server answers; otherwise a [belay.Error] with [belay.CodeUnavailable]
// that says what is missing.
func (c *Cluster) Ready() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if why := c.missing(); why != "" {
		e := &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("cluster %q: %s", c.name, why)}
		switch {
		case strings.HasPrefix(why, c.host+" does not answer"):
			e.Hint = "check that it runs and can be reached from here; it is tried again by itself"
		case strings.HasPrefix(why, c.host+" refuses"):
			e.Hint = "check the credentials in its kubeconfig; it is tried again by itself"
		}
		return e
	}
	return nil
}

// Tried is true once the cluster is ready, or is known not to answer.
func (c *Cluster) Tried() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offline != "" || c.missing() == ""
}

// missing says why the cluster is not ready. The caller holds c.mu.
func (c *Cluster) missing() string {
	switch {
	case c.offline != "":
		return c.offline
	case c.known == nil:
		return "connecting to " + c.host
	case !c.swept:
		for _, u := range c.unlisted {
			return "cannot look for objects applied earlier: " + u.why
		}
		return "looking for objects applied earlier"
	case !c.complete:
		var kinds []string
		for k, w := range c.watches {
			if !w.settled() {
				kinds = append(kinds, k.String())
			}
		}
		slices.Sort(kinds)
		return "waiting for " + listing(kinds)
	}
	return ""
}

// listing names a few things and counts the rest.
func listing(names []string) string {
	if len(names) > 5 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:5], ", "), len(names)-5)
	}
	return strings.Join(names, ", ")
}

// Status is the state of the connection, for people.
func (c *Cluster) Status() belay.ClusterStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := belay.ClusterStatus{Name: c.name, Message: c.missing()}
	if c.known != nil {
		s.Version = c.known.facts.Version
	}
	if s.Ready = s.Message == ""; s.Ready {
		s.Message = c.complaints()
	}
	return s
}

// complaints names what cannot be seen although the cluster is ready. The
// caller holds c.mu.
func (c *Cluster) complaints() string {
	var out []string
	for gv, why := range c.known.failed {
		out = append(out, fmt.Sprintf("API %s does not answer: %s", gv, why))
	}
	for p, u := range c.unlisted {
		// That most kinds are none of its business is how its user was meant to be.
		if !u.forbidden || !c.seen || c.wants(p.kind) {
			out = append(out, fmt.Sprintf("cannot look for %s: %s", p, u.why))
		}
	}
	for k, w := range c.watches {
		if w.err != "" {
			out = append(out, fmt.Sprintf("cannot watch %s: %s", k, w.err))
		}
	}
	slices.Sort(out)
	if len(out) > 3 {
		out = append(out[:3], fmt.Sprintf("%d more", len(out)-3))
	}
	return strings.Join(out, "; ")
}

// Facts is what the cluster serves. It is the zero value until the first
// connection. The maps and slices are shared and must not be changed.
func (c *Cluster) Facts() belay.ClusterFacts {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil {
		return belay.ClusterFacts{}
	}
	facts := c.known.facts
	facts.ID = c.id
	return facts
}

// Live returns what is known of an application's objects, sorted by ID.
func (c *Cluster) Live(application string) []belay.Live { return c.objects.application(application) }

// Lookup returns what is known of one object of any application. An object
// whose [belay.AnnotationID] somebody removed has no Application and is found
// here alone.
func (c *Cluster) Lookup(id belay.ObjectID) (belay.Live, bool) { return c.objects.lookup(id) }

// Applications lists the applications that own at least one object, sorted.
func (c *Cluster) Applications() []string { return c.objects.applications() }

// Verified says that the managers behind a fingerprint were found right. They
// are dropped, and not kept again while the fingerprint stays.
func (c *Cluster) Verified(id belay.ObjectID, fingerprint string) {
	c.objects.verified(id, fingerprint)
}

// Observe has kinds watched from now on. It is true when all of them have been
// listed; otherwise Notify is called for all applications once they are. Kinds
// that the cluster does not serve or does not let us watch are passed over; the
// former are watched as soon as they are served.
func (c *Cluster) Observe(kinds []belay.VersionKind) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	guessing := c.known != nil && c.guessing()
	for _, k := range kinds {
		c.wanted[k] = true
	}
	if c.known == nil {
		c.awaited = true
		return false
	}
	if !guessing && c.guessing() {
		c.askDiscovery()
	}
	all := true
	for _, k := range kinds {
		r, ok := c.known.served[k]
		if !ok {
			continue
		}
		for _, w := range c.ensureWatches(r.kind) {
			w.wanted = true
			all = all && w.settled()
		}
	}
	c.awaited = c.awaited || !all
	return all
}
