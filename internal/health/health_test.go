package health

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/belaydev/belay"
)

func object(name string, h belay.Health, message string) belay.ObjectStatus {
	return belay.ObjectStatus{ObjectID: belay.ObjectID{Group: "apps", Kind: "Deployment", Namespace: "shop", Name: name}, Health: h, Message: message}
}

func TestAggregate(t *testing.T) {
	tests := []struct {
		name    string
		objects []belay.ObjectStatus
		health  belay.Health
		message string
	}{
		{"nothing declared", nil, belay.Healthy, ""},
		{"all well", []belay.ObjectStatus{object("a", belay.Healthy, "runs"), object("b", belay.Healthy, "")}, belay.Healthy, ""},
		{"one suspended", []belay.ObjectStatus{object("a", belay.Healthy, ""), object("b", belay.Suspended, "spec.paused is true")},
			belay.Suspended, "Deployment.apps shop/b is suspended: spec.paused is true"},
		{"the first of the worst", []belay.ObjectStatus{object("a", belay.Progressing, "1 of 2"), object("b", belay.Degraded, "crash loop"), object("c", belay.Degraded, "other")},
			belay.Degraded, "Deployment.apps shop/b is degraded: crash loop (and 1 more)"},
		{"failed before missing", []belay.ObjectStatus{object("a", belay.Missing, ""), object("b", belay.Degraded, "")}, belay.Degraded, "Deployment.apps shop/b is degraded"},
		{"missing before progressing", []belay.ObjectStatus{object("a", belay.Progressing, ""), object("b", belay.Missing, "")}, belay.Missing, "Deployment.apps shop/b is missing"},
		{"progressing before unknown", []belay.ObjectStatus{object("a", belay.Unknown, ""), object("b", belay.Progressing, "")}, belay.Progressing, "Deployment.apps shop/b is progressing"},
		{"unknown before suspended", []belay.ObjectStatus{object("a", belay.Suspended, ""), object("b", belay.Unknown, "")}, belay.Unknown, "Deployment.apps shop/b is in unknown health"},
		{"a value nobody knows", []belay.ObjectStatus{object("a", "", ""), object("b", belay.Healthy, "")}, belay.Unknown, "Deployment.apps shop/a is in unknown health"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, message := Aggregate(tt.objects)
			if h != tt.health || message != tt.message {
				t.Errorf("got %s %q, want %s %q", h, message, tt.health, tt.message)
			}
		})
	}
}

// The order of the objects decides only which of equally bad ones is named, and
// another object makes nothing better.
func TestAggregateProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		healths := rapid.SliceOf(rapid.SampledFrom([]belay.Health{belay.Healthy, belay.Suspended, belay.Unknown, belay.Progressing, belay.Missing, belay.Degraded})).Draw(t, "healths")
		var objects []belay.ObjectStatus
		for _, h := range healths {
			objects = append(objects, object("x", h, ""))
		}
		all, message := Aggregate(objects)
		if (message == "") != (all == belay.Healthy) {
			t.Fatalf("%s has the message %q", all, message)
		}
		if all != belay.Healthy && !strings.Contains(message, "shop/x") {
			t.Fatalf("the message %q names no object", message)
		}
		if len(healths) > 0 && !slices.Contains(healths, all) {
			t.Fatalf("%s is none of %v", all, healths)
		}
		slices.Reverse(objects)
		if reversed, _ := Aggregate(objects); reversed != all {
			t.Fatalf("%s in one order, %s in the other", all, reversed)
		}
		if len(objects) > 0 {
			if fewer, _ := Aggregate(objects[1:]); severity[fewer] > severity[all] {
				t.Fatalf("%s with one more object, %s without", all, fewer)
			}
		}
	})
}
