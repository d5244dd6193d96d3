package evidence

// Definition says in words what a figure or a section is.
type Definition struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// MetricDefinitions say what the figures are, in the order in which they are shown.
func MetricDefinitions() []Definition {
	return []Definition{
		{"Deployment frequency", "Changes per day that were deployed with success. A change is one commit however many applications it " +
			"touches; deployments, one for each application and cluster, are counted beside it. A change counts in the period in which its deployment ended."},
		{"Lead time for changes", "From the moment a commit was authored until it had succeeded in the last of the applications that it was deployed to in " +
			"the period. Each commit counts once, whatever it touches. Authored, not merged: a rebase or a merge must not make work look younger than it is. " +
			"A squash merge keeps nothing of the commits before it, so there it begins with the squash."},
		{"Change failure rate", "Changes that failed, of those that ended. A change failed if one of its deployments ended as failed and no retry of " +
			"the same deployment brought it home, if an application was degraded at the end of its deployment or became so within an hour of it " +
			"and had not been so before, or if somebody or Belay rolled it back."},
		{"Time to restore", "From the first sign that a change failed until all was well again: after a failed deployment or a rollback the next " +
			"deployment that succeeded, after a degradation the application's return to healthy. Failures not caused by a deployment are not counted. " +
			"What was not overcome by the end of the period is counted as open and is in no median."},
		{"Not counted", "Heals of what somebody changed in a cluster, deployments that had nothing to do, teardowns, returns to an earlier state under a " +
			"hold, deployments that a newer commit superseded, and those that still ran. For the lead time also merge commits beside the commits " +
			"they merge, and first deployments, which bring the whole history of an application. No 90th percentile is given of fewer than 10 values, " +
			"and no percentage or rate of fewer than 10 changes."},
	}
}

// Control is a control that a section of the report is evidence for.
type Control struct {
	Section, SOC2, ISO, Text string
}

// Controls map the sections of a report to the controls they are evidence for.
func Controls() []Control {
	const soc, iso = "CC8.1", "A.8.32"
	return []Control{
		{"Changes", soc, iso, "Every change that reached a cluster, with its authors, reviewers, approvers, and each deployment with its time and result: " +
			"that changes are authorised, documented, approved and implemented in a controlled way."},
		{"Hooks, policy and health", soc, iso, "What ran before and after a deployment and with which outcome, and how the application fared: that changes are tested and verified."},
		{"Nobody reviewed, self-approved", "CC8.1, CC5.1", "A.8.32, A.5.3", "Changes that one person alone brought to a cluster: segregation of duties."},
		{"Manual changes", "CC8.1, CC7.1", "A.8.32, A.8.9", "What was changed in a cluster past the process, with which tool, and when it was set back: unauthorised changes are found and undone."},
		{"Holds and window overrides", soc, iso, "Emergency changes: who, why, and for how long the usual way was left."},
		{"Refused, unverified, rewritten", "CC8.1, CC6.8", "A.8.32, A.8.4", "Revisions without a good signature, and branches whose history was replaced: integrity of what is deployed."},
		{"Denied access", "CC6.1", "A.8.3", "Attempts that the access rules refused."},
		{"Failed and superseded", "CC8.1, CC7.4", "A.8.32", "Deployments that did not succeed, and when that was overcome."},
		{"Figures of delivery", "", "", "No control asks for them; they show how the process works."},
	}
}

// Limits say what a report cannot know.
func Limits() []string {
	return []string{
		"Reviewers and approvers are known from commits: from Reviewed-by, Acked-by and Approved-by lines of their messages, and from who merged them. " +
			"An approval that was only given in the web page of a forge is not in the commit, and not here.",
		"A commit's author and the names in its message are what somebody wrote there. Only a verified signature proves them; where one was verified, its signer is shown.",
		"Two names are taken for one person if their address or their name is the same, in any case. One person with two names and two addresses looks like two.",
		"For a manual change Kubernetes records the tool (the field manager) and the time, not the person. The audit log of the cluster's API server has the person.",
		"What hooks tested is known by their outcome alone. Tests that ran elsewhere before the commit are not in the record.",
		"Health is what the status of objects says, as Belay saw it. Outages that no object shows are not here.",
		"Times of commits are those of their authors' clocks; all others are of the server that wrote the record.",
		"What was changed outside of what Belay delivers is not seen.",
	}
}

// KindDefinition says what an exception of a kind is.
func (k ExceptionKind) KindDefinition() Definition {
	switch k {
	case ExcUnreviewed:
		return Definition{"Nobody reviewed", "A change with a commit that names no reviewer and that nobody but its author merged. A direct push is one, unless its message names a reviewer."}
	case ExcSelfApproved:
		return Definition{"Self-approved", "A change with a commit whose only reviewer, approver or merger is its own author."}
	case ExcUnknown:
		return Definition{"Review not known", "A change whose commits the record does not hold, or not all of them, or whose author is not named: a chart or artifact from a registry, for example."}
	case ExcManual:
		return Definition{"Manual change", "Something changed an object in the cluster past Git. It is set back unless the application says otherwise."}
	case ExcHold:
		return Definition{"Emergency hold", "An application was held at an earlier revision in spite of what Git said."}
	case ExcOverride:
		return Definition{"Window override", "Somebody had a deployment run outside of its maintenance windows."}
	case ExcRewritten:
		return Definition{"Rewritten history", "A branch moved to a commit that does not follow the one before it."}
	case ExcRefused:
		return Definition{"Refused signature", "A revision was not deployed, because its signature was missing or wrong."}
	case ExcUnverified:
		return Definition{"Unverified", "A revision was deployed although its signature was missing or wrong: its Project warns and does not refuse."}
	case ExcDenied:
		return Definition{"Denied access", "Somebody asked for what the access rules do not grant."}
	case ExcFailed:
		return Definition{"Failed", "A deployment ended as failed, and no retry of it succeeded in the period."}
	case ExcSuperseded:
		return Definition{"Superseded", "A deployment was under way when a newer commit took its place."}
	}
	return Definition{string(k), ""}
}
