package sandbox

import (
	"fmt"
	"path/filepath"
	"strings"
)

// configuration is a node's own, as an operator would write it.
func (l *Lab) configuration(n *node) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	at := n.address()
	line("data_dir: %s", n.data())
	line("node: {country: FI}")
	line("fleet: {name: %s, listen: {peers: %q, clients: %q, join: %q}}", n.name, at+":8490", at+":8491", at+":8492")
	if n.has("database") {
		line("backup: {archive_timeout: 1s, targets: [{name: vault, kind: directory, path: %q}]}", l.vault())
	}
	if n.has("gateway") && l.shared() {
		line("database: {fleet: true, lease: 5s}")
	}
	if l.kept() {
		l.keptLines(n, line)
	}
	l.continuity(line)
	if !n.has("gateway") || n.bare {
		return b.String()
	}
	line("listen: {https: %q, http: \"off\"}", n.https())
	if l.mailbox != nil {
		line("mail: {from: foundry@%s, alarms: [ops@%[1]s], relays: [{host: %q, port: %s, ca: %q}]}", zone, l.mailbox.host, l.mailbox.port, l.mailbox.ca)
	}
	line("notify: {people: [{name: operator, email: %s}, {name: clients, email: %s}]}", mailOf("operator"), mailOf("clients"))
	line("providers:")
	routes := "{provider: vendor, model: simulator-chat}"
	if l.own != nil {
		routes = "{provider: home, model: simulator-chat}, " + routes
		line("  - {name: home, kind: ollama, base_url: \"http://%s\", own: true, discover: false, controller: FI, processing: [FI], models: [{name: simulator-chat}]}", l.own.addr)
	}
	line("  - {name: vendor, kind: openai, base_url: \"http://%s\", own: false, discover: false, controller: FR, processing: [FR], no_sub_processors: true,", l.models.addr)
	line("     retention: {days: 0, contract: DPA-1, signed: 2026-01-02, expires: 2033-12-31},")
	line("     models: [{name: simulator-chat, context: 100000, max_output: 100000, price: {input: \"0\", output: \"1\"}}]}")
	line("models:\n  - {name: m, routes: [%s]}", routes)
	return b.String()
}

// continuity is what a recovery may do: every node has it, as any may lead.
func (l *Lab) continuity(line func(string, ...any)) {
	line("continuity:")
	if l.net.spaces { // otherwise it would be this machine that is cut off
		line("  allow: {quarantine: {}, capture: {commands: [{name: processes, argv: [/bin/ps, -eo, \"pid,ppid,user,etimes,args\"], kind: memory}]}}")
	}
	if l.names == nil {
		return
	}
	var at []string
	for _, n := range l.nodes {
		at = append(at, fmt.Sprintf("%s: [%s]", n.name, n.address()))
	}
	line("  dns:\n    addresses: {%s}", strings.Join(at, ", "))
	line("    zones: [{name: %s, provider: rfc2136, server: %q, key_name: mover, key: {file: %q}, authorities: [%q]}]", zone, l.names.addr, l.names.key(), l.names.addr)
}

// vault is where backups go: a place that dies with no node.
func (l *Lab) vault() string { return filepath.Join(l.dir, "vault") }

// shared says whether the nodes have one database.
func (l *Lab) shared() bool {
	for _, n := range l.nodes {
		if n.has("database") {
			return true
		}
	}
	return false
}
