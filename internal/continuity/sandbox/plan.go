package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// Names in the sandbox's plan.
const (
	planScenario = "primary-lost"
	planRecovery = "move"
	planFunction = "platform"
)

// plan is the continuity plan of the sandbox: what is to be done when the
// first node is lost. Its steps start by themselves, as nobody is there.
func (l *Lab) plan() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	first, next := l.databases()
	line("version: 1")
	line("organisation: {name: Sandbox, country: FI, home: [EEA], owner: operator, operators: [operator]}")
	line("people:\n  - {name: operator, reachable: always, credentials: scoped}")
	line("nodes:")
	for _, n := range l.nodes {
		line("  - {name: %s, country: FI, roles: [%s]}", n.name, strings.Join(n.roles, ", "))
	}
	line("functions:")
	line("  - name: %s\n    title: The platform\n    kind: platform\n    mtd: 1h\n    rto: 5 min\n    rpo: 1 min\n    host: [%s]", planFunction, first.name)
	if next != nil {
		data := map[bool]string{true: "replica, lag: 1s", false: "backup"}[l.kept()]
		line("    fallbacks: [{node: %s, state: warm, data: %s, serves: any, automatic: true, takes: 1 min}]", next.name, data)
	}
	if l.names != nil {
		line("    hostnames: [%s]\n    dns_ttl: 5s", hostname)
	}
	line("    data: [everything]\n    size: 2 GB")
	line("    probes:\n      - {name: page, kind: https, target: \"https://%s:8443/readyz\"}", first.name)
	if next != nil {
		line("      - {name: database, kind: tcp, target: \"%s:%s\"}", first.name, map[bool]string{true: "5432", false: "8493"}[l.kept()])
	}
	var gateways []string
	for _, n := range l.gateways() {
		gateways = append(gateways, n.name)
	}
	// Each of them answers alone: who joins as one is given what that takes.
	line("  - {name: answers, title: Answers to clients, kind: client, mtd: 1h, rto: 1 min, rpo: 1h, host: [%s], data: [everything], size: 1 MB}", strings.Join(gateways, ", "))
	line("data:\n  - {name: everything, title: Everything}")
	line("backups:\n  - {name: vault, data: [everything], functions: [%s], continuous: 5s, made_by: %s, to: [{name: vault, country: FI}]}", planFunction, map[bool]string{true: "other", false: "foundry"}[l.kept()])
	line("clients:\n  - {name: clients, functions: [%s], notify_within: 2h}", planFunction)
	line("notices:\n  - {name: outage-to-clients, event: outage, to: clients, within: 2h, from: confirmation, update_every: 2h, by: [operator], channels: [{kind: mail}], states: [nature, remediation, contact]}")
	by := ""
	if next != nil {
		by = ", recovery: [" + planRecovery + "]"
	}
	line("scenarios:\n  - {name: %s, kind: node-loss, loses: [%s], signals: [{kind: peer, by: %s}], detect_within: 5s, confirm_within: 15s, rto_from: detection, restore_within: 1h%s}", planScenario, first.name, l.nodes[len(l.nodes)-1].name, by)
	line("recovery:")
	for _, n := range l.nodes {
		line("  - {name: %s, title: %s is cut off, functions: [%s], starts: person, steps: [{name: capture, kind: capture, takes: 1 min, node: %s}, {name: isolate, kind: isolate, takes: 1 min, node: %[4]s}]}", quarantineOf(n.name), n.name, planFunction, n.name)
	}
	if next == nil {
		return b.String()
	}
	line("  - name: %s\n    title: The platform to its standby\n    functions: [%s]\n    onto: [%s]\n    starts: automatic\n    steps:", planRecovery, planFunction, next.name)
	step := func(format string, args ...any) { line("      - {"+format+"}", args...) }
	step("name: confirm, kind: confirm, takes: 15s")
	step("name: fence, kind: fence, takes: 15s, node: %s", first.name)
	if !l.kept() { // a standby has everything
		step("name: restore, kind: restore, takes: 30s, node: %s", next.name)
	}
	step("name: start, kind: promote, takes: 10s, node: %s", next.name)
	step("name: validate, kind: validate, takes: 10s")
	if l.names != nil {
		step("name: move-names, kind: dns, takes: 5s, functions: [%s]", planFunction)
	}
	step("name: tell-clients, kind: notify, after: [confirm], takes: 1 min, notice: outage-to-clients")
	step("name: reconcile, kind: reconcile, after: [%s], takes: 1 min", map[bool]string{true: "move-names", false: "validate"}[l.names != nil])
	return b.String()
}

// quarantineOf is the recovery plan that cuts a node off, by hand.
func quarantineOf(node string) string { return "quarantine-" + node }

// databases are the node that runs the database at first, and the one that
// takes over; nil where there is none.
func (l *Lab) databases() (first, next *node) {
	for _, n := range l.nodes {
		switch {
		case !n.has("database") && (n.keeper == nil || !n.has("gateway")):
		case first == nil:
			first = n
		case next == nil:
			next = n
		}
	}
	if first == nil {
		first = l.nodes[0]
	}
	return first, next
}

// govern puts the plan in force, as its owner and an approver would.
func (l *Lab) govern(ctx context.Context) error {
	path, err := file(l.dir, "plan.yaml", l.plan())
	if err != nil {
		return err
	}
	first := l.gateways()[0]
	var revision struct{ ID string }
	return poll(ctx, 60*time.Second, func() error {
		if revision.ID == "" {
			out, err := first.run(ctx, "plan", "submit", path, "--note", "The plan of this exercise.", "--json")
			if err != nil {
				return err
			}
			if err := json.Unmarshal([]byte(out), &revision); err != nil || revision.ID == "" {
				return problem.New(problem.Internal, "sandbox-plan", "The plan of the sandbox was not taken: "+out)
			}
		}
		_, err := first.run(ctx, "plan", "approve", revision.ID, "--reason", "For this exercise.")
		return err
	})
}
