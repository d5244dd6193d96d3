package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/belaydev/belay"
)

const (
	// eventPause is how long the same event is not told again.
	eventPause = 10 * time.Minute
	// eventBurst and eventRefill bound events of a cluster: so many at once, and
	// one more after each refill.
	eventBurst  = 25
	eventRefill = 2 * time.Second
	// longestNote is the API server's own bound, in bytes.
	longestNote = 1000
)

// Event writes a Kubernetes Event about an object, for something that a person
// who looks at it with kubectl would want to know. A warning is about a failure;
// reason is one word in CamelCase. It is best effort: repetitions and floods are
// dropped, and a failure is logged.
func (c *Cluster) Event(ctx context.Context, id belay.ObjectID, warning bool, reason, message string) {
	now := time.Now()
	if !c.events.admit(id, reason, message, now) {
		return
	}
	ns := id.Namespace
	if ns == "" {
		ns = metav1.NamespaceDefault
	}
	e := corev1.Event{
		TypeMeta:       metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta:     metav1.ObjectMeta{Namespace: ns, Name: fmt.Sprintf("belay.%x", now.UnixNano())},
		InvolvedObject: corev1.ObjectReference{Kind: id.Kind, Namespace: id.Namespace, Name: id.Name},
		Reason:         reason, Message: shorten(message, longestNote),
		Source:         corev1.EventSource{Component: belay.FieldManager},
		FirstTimestamp: metav1.NewTime(now), LastTimestamp: metav1.NewTime(now), Count: 1,
		Type: corev1.EventTypeNormal, ReportingController: "belay.dev/belay",
	}
	if warning {
		e.Type = corev1.EventTypeWarning
	}
	if live, ok := c.objects.lookup(id); ok {
		e.InvolvedObject.UID, e.InvolvedObject.APIVersion = types.UID(live.UID), live.APIVersion
	}
	body, err := json.Marshal(e)
	if err == nil {
		target := belay.ObjectID{Kind: "Event", Namespace: ns, Name: e.Name}
		_, err = c.metadataCall(ctx, call{verb: http.MethodPost, resource: coreResource("events", "Event", true), id: target, collection: true,
			content: contentJSON, body: body, query: map[string]string{"fieldManager": belay.FieldManager}})
	}
	if err != nil {
		c.log.Debug("write a Kubernetes Event", "object", id.String(), "error", plainCause(err))
	}
}

// eventLog remembers what was told, and holds floods back.
type eventLog struct {
	mu     sync.Mutex
	told   map[string]time.Time
	tokens float64
	at     time.Time
}

func newEventLog() *eventLog { return &eventLog{told: map[string]time.Time{}, tokens: eventBurst} }

func (l *eventLog) admit(id belay.ObjectID, reason, message string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := belay.Digest([]byte(belay.FormatID("", id) + "\n" + reason + "\n" + message))
	if t, ok := l.told[key]; ok && now.Sub(t) < eventPause {
		return false
	}
	if !l.at.IsZero() {
		l.tokens = min(eventBurst, l.tokens+float64(now.Sub(l.at))/float64(eventRefill))
	}
	l.at = now
	if l.tokens < 1 {
		return false
	}
	l.tokens--
	if len(l.told) > 1000 {
		for k, t := range l.told {
			if now.Sub(t) >= eventPause {
				delete(l.told, k)
			}
		}
	}
	l.told[key] = now
	return true
}
