package evidence

import "time"

// planPart is what a control asks of the continuity plan in force.
func (w *Wiring) planPart(id string) Part {
	p := Part{Name: "continuity plan", Missing: "Nothing keeps a continuity plan yet."}
	if w.Plan != nil {
		p.Collect = w.Plan(id)
	}
	return p
}

// planControls are the controls that the continuity plan in force answers,
// alone or with what this node knows of itself. A plan's word counts until the
// plan is due to be reviewed.
func planControls(w Wiring) []Control {
	control := func(id, title, source, checks string, perNode bool) Control {
		return Control{ID: id, Title: title, Source: source, Checks: checks, Collector: "continuity-plan", Version: "1",
			Every: hour, Fresh: 3 * hour, Timeout: time.Minute, PerNode: perNode, Collect: Parts(w.planPart(id))}
	}
	return []Control{
		control("O-01", "Servers stand in allowed countries, with suppliers under their law", "Security policy, section 2",
			"Country and supplier of every node of the continuity plan, and of this node by its configuration, must be among those where data may be.", true),
		control("O-02", "Primary hosting and storage obey no foreign law", "Security policy, section 2",
			"Country and jurisdiction of every host and every target of backups, in the continuity plan and in this node's configuration, must be among those where data may be.", true),
		control("O-37", "Standards that are claimed are held", "Security policy, sections 1 and 9",
			"Every claim in the continuity plan that is said to be held names scope and end, has not ended, and contradicts no other.", false),
		control("O-38", "Every critical function has two clocks", "Continuity plan, section 2",
			"Every critical function of the continuity plan has a maximum tolerable downtime and a shorter recovery time, as numbers.", false),
		control("O-39", "No critical function depends on single premises", "Continuity plan, section 1",
			"In the continuity plan, no critical function goes down with one site alone.", false),
		control("O-40", "The nodes are those that are declared", "Continuity plan, section 3",
			"Every node of the continuity plan is described, and there are as many as are promised. Whether they can be reached is not looked at.", false),
		control("O-43", "Isolated nodes are isolated", "Continuity plan, section 3",
			"What the continuity plan calls isolated shares no control plane, account, connection, vote or function with other nodes. Connections are not tried.", false),
		control("O-55", "Every loss has a clock of its recovery and one of full restoration", "Continuity plan, section 4.1",
			"Every scenario of the continuity plan that stops a function says what starts the recovery time, and by when everything is as it was.", false),
		control("O-59", "A long absence brings somebody under contract", "Continuity plan, section 4.2",
			"In the continuity plan, a missed check-in is noticed, and after seven days at most somebody comes whose contract is in force.", false),
		control("O-60", "Critical procedures have runbooks, reviewed quarterly", "Continuity plan, section 4.2",
			"Every critical function of the continuity plan has a runbook whose text is there, and every runbook was reviewed within 92 days.", false),
		control("O-67", "Certificate and cyber insurance are in force", "Continuity plan, section 4.3",
			"The continuity plan names a certificate and an insurance that are held and have not ended.", false),
		control("O-68", "Every critical supplier has a contingency", "Continuity plan, section 4.4",
			"Every critical supplier of the continuity plan has an alternative with a runbook, and the change was rehearsed within 365 days.", false),
		control("O-70", "Hosting can move to another host under the same law", "Continuity plan, section 4.4",
			"Every supplier that hosts nodes of the continuity plan has an alternative that hosts, where data may be, and the move was rehearsed within 365 days.", false),
		control("O-71", "Nobody needs to be at a certain place to work", "Continuity plan, section 4.5",
			"The continuity plan says that the organisation works remotely first. Whether it does, an owner states under O-71.attested.", false),
		{ID: "O-71.attested", Title: "The organisation does work without its premises", Source: "Continuity plan, section 4.5",
			Checks: "No machine can see where people work. An owner states that all critical procedures were done from elsewhere, and when.",
			Fresh:  365 * day},
		control("O-72", "Every client has a deadline for notices", "Continuity plan, section 5",
			"For every client of the continuity plan the shortest deadline is known, and no notice of an outage or incident is slower than the agreement.", false),
		control("O-76", "The plan is reviewed and exercised annually", "Continuity plan, section 6",
			"Review and exercise of the continuity plan come round within 365 days, and neither is overdue.", false),
		control("O-76.exercised", "Every scenario of the plan was exercised, and nothing was missing", "Continuity plan, section 6",
			"For every scenario of the continuity plan and every duty to exercise it: the last exercise that was handed in, its mode and what came of it. One that failed fails here; one that never was is said to be never.", false),
		control("O-77", "Gaps are closed before the next cycle", "Continuity plan, section 6",
			"Reviews and exercises of the continuity plan say how soon gaps are closed, before the next is due, and no review that a change opened and no action that an exercise or incident left is past its day.", false),
		control("O-78", "A change forces a review", "Continuity plan, section 6",
			"The continuity plan is reviewed after changes of architecture and people and after incidents, and every review that a change opened was closed in time.", false),
		control("O-79", "Everyone is familiar with the plan", "Continuity plan, section 7",
			"Everybody who must have read the continuity plan has acknowledged it, by the hash of the one in force.", false),
		control("O-80", "The plan is approved by the board", "Continuity plan, section 7",
			"The hash of the plan in force was approved by as many people as it asks for, each the person whom the plan names to approve it.", false),
	}
}
