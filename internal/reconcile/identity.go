package reconcile

import "github.com/belaydev/belay"

// By the name of a cluster another one may answer one day: a lost one was built
// anew. What was done in the old one was not done in it, whatever is remembered:
// objects that are missing are not "deleted by hand", and hooks that have run have
// to run again.

// standsIn forgets what was done in another cluster of the same name. Called with
// Engine.mu.
func (a *app) standsIn(id string) {
	if !differentCluster(a.clusterID, id) {
		if id != "" {
			a.clusterID = id
		}
		return
	}
	a.clusterID = id
	a.forgetDone()
	a.renew()
	for _, d := range a.running {
		d.doubtful = true // it may be more that is written in this one
	}
}

// differentCluster says whether two identities are known to be of two clusters.
func differentCluster(a, b string) bool { return a != "" && b != "" && a != b }

// knownRun is what is remembered of an application's hooks in the cluster that
// answers by a name now.
func (e *Engine) knownRun(cluster, id, application string) (belay.HookRecord, bool) {
	return knownRun(e.Runs, cluster, id, application)
}

func knownRun(runs Runs, cluster, id, application string) (belay.HookRecord, bool) {
	if runs == nil {
		return belay.HookRecord{}, false
	}
	r, ok := runs.Known(cluster, application)
	if !ok || differentCluster(r.ClusterID, id) {
		return belay.HookRecord{}, false
	}
	return r, true
}

// idOf is the identity of a cluster, "" if it is not known. Called with e.mu.
func (e *Engine) idOf(cluster string) string {
	if c := e.clusters[cluster]; c != nil && c.conn != nil {
		return c.conn.Facts().ID
	}
	return ""
}
