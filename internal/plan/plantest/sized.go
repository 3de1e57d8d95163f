package plantest

import (
	"fmt"
	"strings"
)

// Sized is the text of a plan with so many functions and nodes, in which
// everything is named that a large company would name: a supplier for every
// ten nodes, sites, people, backups, recovery plans, notices, clients, duties
// and commitments in proportion. The same numbers give the same text. It is
// made so that few rules find anything: a plan that is mended daily is the
// usual one.
func Sized(functions, nodes int) []byte {
	var out strings.Builder
	w := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	suppliers, people := max(2, nodes/10), max(4, functions/20)
	w("version: 1\norganisation:\n  name: Example Works Ltd\n  country: DE\n  home: [EEA]\n  owner: person-0\n  operators: [person-0, person-1]\n  approvers: [person-2, person-3]")
	w("documents:\n  - {name: handbook, title: Continuity handbook, version: 3, date: 2026-09-01, owner: person-0, review_every: yearly, reviewed: 2026-09-01}")
	w("people:")
	for i := range people {
		w("  - name: person-%d\n    deputies: [person-%d, person-%d]\n    reachable: office-hours\n    credentials: scoped\n    briefed: 2026-08-01", i, (i+1)%people, (i+2)%people)
	}
	w("suppliers:")
	for i := range suppliers {
		w("  - name: supplier-%d\n    jurisdiction: DE\n    provides: [hosting, storage]\n    critical: true\n    provisions_within: 2h\n    contract: {reference: C-%d, until: 2028-12-31, owner: person-%d}", i, i, i%people)
		w("    alternatives:\n      - {supplier: supplier-%d, within: 4h, rehearsed: 2026-05-01}\n    reviewed: 2026-06-01\n    review_every: yearly", (i+1)%suppliers)
	}
	w("sites:")
	for i := range suppliers {
		w("  - {name: site-%d, supplier: supplier-%d, country: DE}", i, i)
	}
	w("nodes:")
	for i := range nodes {
		w("  - name: node-%d\n    supplier: supplier-%d\n    account: account-%d\n    site: site-%d\n    roles: [gateway, database]\n    stack: systemd+caddy\n    serves: any\n    storage: 2 TB", i, i%suppliers, i%suppliers, i%suppliers)
		w("    encryption: {algorithm: aes-256-xts, keys_apart: true}\n    remote_access: {by: [vpn, ssh-key], password: false}\n    source: [handbook 2.%d]", i)
	}
	w("data:")
	for i := range max(1, functions/5) {
		w("  - {name: data-%d, title: Records of kind %d, personal: true, stays_in: [EEA]}", i, i)
	}
	w("functions:")
	for i := range functions {
		sizedFunction(w, i, functions, nodes, suppliers, people)
	}
	w("backups:")
	for i := range max(1, functions/5) {
		w("  - name: backup-%d\n    data: [data-%d]\n    every: 20 min\n    takes: 5 min\n    transfer: 5 min\n    keep_at_least: 30 days\n    delete_after: 90 days", i, i)
		w("    to:\n      - {name: vault-%d, supplier: supplier-%d, account: vault, site: site-%d, country: DE, immutable: true}", i, (i+1)%suppliers, (i+1)%suppliers)
		w("    encryption: {algorithm: aes-256-gcm, keys_apart: true}\n    test_every: quarterly\n    tested: 2026-10-01\n    source: [handbook 5.%d]", i)
	}
	w("runbooks:")
	for i := range max(1, functions/10) {
		w("  - {name: runbook-%d, for: [function-%d], printed: true, owner: person-%d, review_every: yearly, reviewed: 2026-07-01}", i, i*10%functions, i%people)
	}
	w("recovery:")
	for i := range max(1, functions/10) {
		sizedRecovery(w, i, functions, nodes, people)
	}
	w("scenarios:")
	for i := range nodes {
		w("  - name: loss of node-%d\n    kind: node-loss\n    loses: [node-%d]\n    signals: [{kind: probe, by: node-%d}, {kind: peer, by: node-%d}]", i, i, (i+1)%nodes, (i+2)%nodes)
		w("    detect_within: 2 min\n    confirm_within: 10 min\n    rto_from: confirmation\n    recovery: [recovery-%d]\n    restore_within: 2 days", i%max(1, functions/10))
	}
	w("clients:")
	for i := range max(1, functions/10) {
		w("  - {name: client-%d, functions: [function-%d], notify_within: 24h, agreement: {reference: A-%d, until: 2027-12-31}}", i, i*10%functions, i)
	}
	w("notices:")
	for i := range max(1, functions/10) {
		w("  - {name: notice-%d, event: outage, to: client-%d, within: 4h, from: detection, by: [person-%d], channels: [{kind: telephone}]}", i, i, i%people)
	}
	w("duties:")
	for i := range max(1, functions/10) {
		w("  - {name: exercise-%d, kind: exercise, every: yearly, form: sandbox, proves: [rto], of: [function-%d], owner: person-%d, last: 2026-10-01, close_within: 30 days}", i, i*10%functions, i%people)
	}
	w("commitments:")
	for i := range max(1, functions/2) {
		w("  - {name: promise-%d, subject: function.rto, of: [function-%d], at_most: 8h, source: [handbook 7.%d]}", i, i*2%functions, i)
	}
	return []byte(out.String())
}

func sizedFunction(w func(string, ...any), i, functions, nodes, suppliers, people int) {
	w("  - name: function-%d\n    title: What the company does, part %d\n    kind: client\n    critical: true\n    mtd: 24h\n    rto: 4h\n    rpo: 1h", i, i)
	w("    host: [node-%d]", i%nodes)
	if i > 0 {
		w("    needs: [function-%d]", i/2)
	}
	w("    fallbacks:\n      - {node: node-%d, state: warm, data: replica, lag: 1 min, takes: 5 min, rehearsed: 2026-09-01, serves: any}", (i+1)%nodes)
	w("    data: [data-%d]\n    size: %d GB\n    hostnames: [f%d.example.org]\n    dns_ttl: 5 min", i%max(1, functions/5), 1+i%20, i)
	w("    probes:\n      - {name: page, kind: https, target: \"https://f%d.example.org/healthz\", every: 30s}\n      - {name: port, kind: tcp, target: \"f%d.example.org:443\", every: 30s}", i, i)
	w("    certificate: {challenge: dns-01, copied_to: [node-%d]}\n    owner: person-%d\n    operators: [person-%d, person-%d]\n    source: [handbook 4.%d]", (i+1)%nodes, i%people, i%people, (i+1)%people, i)
}

func sizedRecovery(w func(string, ...any), i, functions, nodes, people int) {
	w("  - name: recovery-%d\n    functions:", i)
	for k := i * 10; k < min(functions, i*10+10); k++ {
		w("      - function-%d", k)
	}
	w("    onto: [node-%d]\n    starts: person\n    steps:", (i+7)%nodes)
	for _, s := range []string{
		"{name: confirm, kind: confirm, takes: 5 min, by: [PERSON]}", "{name: fence, kind: fence, takes: 5 min, by: [PERSON]}",
		"{name: restore, kind: restore, by: [PERSON], runbook: RUNBOOK}", "{name: replay, kind: replay, takes: 5 min}",
		"{name: start, kind: start, takes: 5 min}", "{name: validate, kind: validate, takes: 10 min}", "{name: dns, kind: dns, takes: 5 min}",
		"{name: reconcile, kind: reconcile, takes: 30 min, by: [PERSON]}", "{name: failback, kind: failback, takes: 2h, by: [PERSON]}", "{name: review, kind: review, takes: 1h, by: [PERSON]}",
	} {
		w("      - %s", strings.NewReplacer("PERSON", fmt.Sprintf("person-%d", i%people), "RUNBOOK", fmt.Sprintf("runbook-%d", i)).Replace(s))
	}
	w("    source: [handbook 6.%d]", i)
}
