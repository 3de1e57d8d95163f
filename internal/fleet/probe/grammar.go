package probe

import (
	"fmt"
	"slices"
	"strings"
)

// Word is one thing that a target of a kind may say of what is expected:
// name=value, after the address.
type Word struct {
	Name    string
	Default string // "" where there is none
	Says    string // what it means
	check   func(value string) error
}

// Grammar is how targets of a kind are written.
type Grammar struct {
	Kind     Signal
	Address  string // the form of the first part, such as HOST:PORT
	Says     string // what is looked at
	Example  string
	Words    []Word
	form     func(t *Target, address string) error
	port     uint16 // where the address names none; 0: it must
	timeout  int    // seconds that a look may take where nothing says
	local    bool   // looks at the machine that it runs on
	patience bool   // a second look beside the first one would cost too much
}

func (g *Grammar) word(name string) *Word {
	if i := slices.IndexFunc(g.Words, func(w Word) bool { return w.Name == name }); i >= 0 {
		return &g.Words[i]
	}
	return nil
}

var (
	wordIP    = Word{"ip", "", "4 or 6: look over this version of IP only", oneOf("4", "6")}
	wordDays  = Word{"days", "0", "days that the certificate must still hold", number(0, 3650)}
	wordNames = Word{"names", "", "further names, with commas, that the certificate must be for", hostNames}
	wordAt    = Word{"at", "", "HOST or HOST:PORT to connect to, whatever the name resolves to", hostMaybePort}
	wordName  = Word{"name", "", "name that the certificate must be for, if it is not the host's", hostName}
)

// grammars are the kinds, in the order of the plan's schema.
var grammars = []*Grammar{
	{Kind: HTTPS, Address: "URL", Says: "a page: its status, what is in it, where it leads, its certificate; http:// looks whether it leads to https",
		Example: `https://app.example.org/healthz contains="ok" days=14`, form: webURL, timeout: 3, Words: []Word{
			{"status", "2xx", "statuses that are good, with commas: 200,204 or 2xx", statuses},
			{"contains", "", "text that must be in the first 256 KiB", text},
			{"lacks", "", "text that must not be there", text},
			{"follow", "same-host", "where redirects are followed to: none, same-host, or hosts with commas", follow},
			{"tls", "1.2", "lowest version of TLS that may be chosen: 1.2 or 1.3", oneOf("1.2", "1.3")},
			{"plaintext", "no", "yes: http:// is expected to answer by itself", oneOf("yes", "no")},
			{"each", "no", "yes: every address of the name must answer", oneOf("yes", "no")},
			wordDays, wordNames, wordAt, wordIP}},
	{Kind: TCP, Address: "HOST:PORT", Says: "a port that takes connections", Example: "app.example.org:5222", form: hostPort, timeout: 3, Words: []Word{wordIP}},
	{Kind: TLS, Address: "HOST[:PORT]", Says: "the certificate, and that older versions of TLS are refused", Example: "app.example.org:443 min=1.3 days=14", form: hostPort, port: 443, timeout: 3, Words: []Word{
		{"min", "1.3", "lowest version of TLS that may be accepted: 1.2 or 1.3", oneOf("1.2", "1.3")},
		wordDays, wordName, wordNames, wordAt, wordIP}},
	{Kind: DNS, Address: "NAME", Says: "what a name resolves to", Example: "app.example.org type=A answer=192.0.2.10,192.0.2.11 each=yes", form: dnsName, timeout: 3, Words: []Word{
		{"type", "A, or AAAA where there is none", "A, AAAA, CNAME, MX, NS, TXT, SOA or CAA", oneOf("A", "AAAA", "CNAME", "MX", "NS", "TXT", "SOA", "CAA")},
		{"answer", "", "all that it must resolve to, with commas, in any order", text},
		{"server", "", "HOST or HOST:PORT to ask in place of this machine's resolvers", hostMaybePort},
		{"each", "no", "yes: every server of the zone must answer, and the same", oneOf("yes", "no")}}},
	{Kind: SMTP, Address: "HOST[:PORT]", Says: "a mail server: its greeting, EHLO, encryption and certificate; no mail is sent", Example: "mail.example.org:465 days=14", form: hostPort, port: 25, timeout: 3, Words: []Word{
		{"tls", "implicit on port 465, starttls elsewhere", "implicit, starttls or none", oneOf("implicit", "starttls", "none")},
		{"min", "1.2", "lowest version of TLS that may be chosen: 1.2 or 1.3", oneOf("1.2", "1.3")},
		wordDays, wordName, wordIP}},
	{Kind: PostgreSQL, Address: "HOST[:PORT][/DATABASE] or /SOCKET-DIR[:PORT[/DATABASE]]", Says: "a database: whether it answers, can be written, or how far it follows; without a login only that it answers", Example: "node-1:5432/app role=standby lag=30s", form: postgresAddress, port: 5432, timeout: 3, Words: []Word{
		{"role", "any", "primary, standby or any; any but with a login means that it answers queries", oneOf("primary", "standby", "any")},
		{"lag", "", "time that a standby may be behind", span},
		{"bytes", "", "size, such as 16MB, that a standby may have received and not replayed", size},
		{"tls", "none on this machine, verify elsewhere", "verify, require (any certificate) or none", oneOf("verify", "require", "none")},
		wordName}},
	{Kind: SSH, Address: "HOST[:PORT]", Says: "an SSH server: its banner, and that it offers no way in but those allowed", Example: "node-1.example.org:22 host-key=SHA256:…", form: hostPort, port: 22, timeout: 3, Words: []Word{
		{"allow", "publickey", "authentication methods that it may offer, with commas", methods},
		{"user", "probe", "name to ask for", userName},
		{"host-key", "", "fingerprint, SHA256:…, that one of its host keys must have", fingerprint}, wordIP}},
	{Kind: Systemd, Address: "UNIT", Says: "a unit of this machine that is active", Example: "caddy.service", form: unitName, timeout: 3, local: true},
	{Kind: Git, Address: "URL", Says: "a repository: a head of it, and on request a shallow clone", Example: "https://git.example.org/app.git ref=refs/heads/main clone=yes", form: gitURL, timeout: 20, patience: true, Words: []Word{
		{"ref", "HEAD", "what must be there", refName},
		{"clone", "no", "yes: it must be possible to clone it, one commit deep", oneOf("yes", "no")}}},
	{Kind: Disk, Address: "PATH", Says: "free space of a file system of this machine", Example: "/var/lib/foundry free=20% inodes=10%", form: absolutePath, timeout: 3, local: true, patience: true, Words: []Word{
		{"free", "10%", "bytes that must be free, as 10% or 20GB", percentOrSize},
		{"inodes", "5%", "inodes that must be free, as 5%", percentOnly}}},
	{Kind: BackupAge, Address: "NAME", Says: "the newest backup of something that is proven to work", Example: "nightly max=26h", form: plainName, timeout: 3, patience: true, Words: []Word{
		{"max", "26h", "age that it may have", span},
		{"proven", "yes", "no: a backup that nobody has restored counts, too", oneOf("yes", "no")}}},
	{Kind: Model, Address: "NODE or URL", Says: "a model that answers with text, over an OpenAI-compatible interface", Example: "https://ai.example.org/v1 model=small", form: nodeOrURL, timeout: 20, patience: true, Words: []Word{
		{"model", "the first that it lists", "name of the model", text}}},
	{Kind: Unreachable, Address: "HOST:PORT", Says: "that something cannot be connected to, while something else can", Example: "node-3.internal:5432 control=node-2.internal:443", form: hostPort, timeout: 3, patience: true, Words: []Word{
		{"control", "", "addresses, with commas, one of which must take connections, or this proves nothing", controls},
		{"protocol", "tcp", "tcp or udp", oneOf("tcp", "udp")},
		{"send", "", "with udp, what a live server would answer: dns, ntp or stun; silence proves nothing otherwise", oneOf("dns", "ntp", "stun")}, wordIP}},
}

// Grammars are how targets are written, by kind.
func Grammars() []Grammar {
	out := make([]Grammar, len(grammars))
	for i, g := range grammars {
		out[i] = *g
	}
	return out
}

func grammarOf(kind Signal) *Grammar {
	for _, g := range grammars {
		if g.Kind == kind {
			return g
		}
	}
	return nil
}

// Help is how targets of a kind are written, in lines for a person.
func (g Grammar) Help() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n    %s\n", g.Kind, g.Address, g.Says)
	for _, w := range g.Words {
		fmt.Fprintf(&b, "    %s=  %s", w.Name, w.Says)
		if w.Default != "" {
			fmt.Fprintf(&b, " (default: %s)", w.Default)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "    for example: %s %s\n", g.Kind, g.Example)
	return b.String()
}
