package scenario

import "strings"

// Form is a line that the language has. In its pattern a word stands for
// itself, <name:kind> for a value, and [ ] around the last words means that
// they may be left out.
type Form struct {
	Verb    string `json:"verb"`
	Pattern string `json:"pattern"`
	Modes   []Mode `json:"modes,omitempty"`
	Says    string `json:"says"`
}

// Values that a pattern can ask for.
const (
	kindNode     = "node"     // a node of the fleet
	kindAll      = "nodes"    // a node of the fleet, or all
	kindDuration = "duration" // 90s, 5m, 2h
	kindNumber   = "number"   // a whole number
	kindText     = "text"     // in quotes
	kindName     = "name"     // letters, digits, hyphens and dots
	kindSize     = "size"     // 100MB, 1GB
)

var inSandbox = []Mode{Sandbox}

// Forms are the lines of a step.
var Forms = []Form{
	{"kill", "kill <node:node>", inSandbox, "Kills every process of a node at once (SIGKILL), as when its power goes."},
	{"start", "start <node:node>", inSandbox, "Starts a node that was killed."},
	{"pause", "pause <node:node>", inSandbox, "Stops every process of a node without ending it (SIGSTOP), as a machine that hangs."},
	{"resume", "resume <node:node>", inSandbox, "Lets a paused node go on."},
	{"cut", "cut <node:node> from <other:nodes> [one way]", inSandbox, "Takes the network away between a node and another, or all; one way: the node is not heard, and hears."},
	{"heal", "heal <node:nodes>", inSandbox, "Gives a node, or all, its network back."},
	{"break", "break <service:name>", inSandbox, "Makes a service refuse: dns, mail, models, inference."},
	{"mend", "mend <service:name>", inSandbox, "Lets a service work again."},
	{"load", "load <rate:number> per second", inSandbox, "Clients ask so often from now on, at every gateway that answers; 0 ends it."},
	{"write", "write <rate:number> per second", inSandbox, "A client writes to the database so often, and remembers what was acknowledged; 0 ends it."},
	{"declare", "declare <title:text>", nil, "Opens an incident by hand, for what no probe sees."},
	{"recover", "recover by <plan:name>", nil, "Starts a recovery plan by hand."},
	{"approve", "approve <step:name> as <person:name>", inSandbox, "A person approves a step that waits."},
	{"decide", "decide <step:name> <words:text> as <person:name>", inSandbox, "A person writes a decision that a step waits for."},
	{"say", "say <step:name> done <words:text> as <person:name>", inSandbox, "A person says that they did what a step asked."},
	{"tell", "tell <client:name> <words:text>", inSandbox, "Has a notice of the open incident written and sent to a client of the plan."},
	{"isolate", "isolate <node:node>", inSandbox, "Quarantines a node by the product's own step."},
	{"hold", "hold for <time:duration>", nil, "Goes on for a while, so that what must not happen has time to."},
	{"inject", "inject <words:text> [from <source:name>]", nil, "Tells the participants something, as it would reach them."},
	{"at", "at <time:duration> inject <words:text> [from <source:name>]", []Mode{Desktop}, "The same, at a time of the exercise's clock."},
	{"ask", "ask <role:name> <words:text> [within <time:duration>]", []Mode{Desktop, Live}, "Asks somebody a question; the answer and the time it took are kept."},
	{"decision", "decision <id:name> <words:text> of <role:name> [within <time:duration>]", []Mode{Desktop, Live}, "Asks for a decision; who decided what, when and why is kept."},
	{"check", "check <words:text>", []Mode{Desktop, Live}, "Asks the facilitator whether something was so; no is a gap."},
	{"note", "note <words:text>", nil, "Writes a line into the timeline."},
}

// Conditions are what wait and expect can ask for.
var Conditions = []Form{
	{"node-state", "<node:node> is <state:name>", inSandbox, "The fleet's verdict on a node: fine, slow, suspected, lost, unknown; or fenced."},
	{"service-answers", "<service:name> answers", inSandbox, "A service answers: database (a write is accepted), dns, models, or gateways (each that should)."},
	{"gateway", "gateway of <node:node> answers", inSandbox, "Clients of one node are answered."},
	{"primary", "database is on <node:node>", inSandbox, "Writes are accepted there, at the newest epoch."},
	{"writers", "at most <count:number> node writes", inSandbox, "Since the last look no two nodes accepted writes at once."},
	{"incident", "incident is <state:name>", inSandbox, "open, closed, or a phase."},
	{"recovery", "recovery is <state:name>", inSandbox, "running, waiting (for a person), done, failed."},
	{"step", "step <step:name> is <state:name>", inSandbox, "ready, running, needs-person, done, failed."},
	{"gate", "gate <gate:name> holds", inSandbox, "The step is held back by its gate: fence, validation, approval."},
	{"name", "name points to <node:node>", inSandbox, "Every name server says so."},
	{"notices", "notices are <state:name>", inSandbox, "sent: to every client; acknowledged; indeterminate."},
	{"clock", "clock <clock:name> is <state:name>", inSandbox, "running, kept, missed."},
	{"lost", "at most <count:number> acknowledged writes are lost", inSandbox, "Of the writing client, after it compared."},
	{"audit", "audit log verifies", inSandbox, "The log, and the heads of the incident in it."},
}

// Measures are what targets are set for, and what they mean.
var Measures = map[string]string{
	"answers":      "from the event until every client is answered by a surviving gateway (requests in flight excepted)",
	"suspicion":    "from the event until the first node goes around what is lost",
	"confirmation": "from the event until the fleet confirms the loss",
	"fenced":       "from the event until what was lost is known to write no more",
	"writable":     "from the event until the first write is accepted elsewhere",
	"validated":    "from the event until every check passed",
	"dns":          "from the open gate until every name server says the new place",
	"recovery":     "from confirmation until clients are served again by name",
	"notices":      "from confirmation, or where nothing was to be confirmed from the incident's opening, until every client was sent a notice",
	"decided":      "from the event until the last decision was made",
	"lost":         "acknowledged writes that are gone",
	"gap":          "from the newest write that survived to the event",
	"writers":      "nodes that accepted writes at the same time",
}

// counted are measures of a number, not of a time.
var counted = map[string]bool{"lost": true, "writers": true}

// Services that a fleet has, or that can be broken.
var services = []string{"dns", "mail", "models", "inference"}

// roles of a sandbox's nodes. patroni is none of Foundry's own: Patroni runs
// there, with a PostgreSQL, and the fleet's store is Patroni's.
var roles = []string{"gateway", "fleet", "witness", "database", "patroni", "inference"}

// states by the form that asks for one.
var states = map[string][]string{
	"node-state":      {"fine", "slow", "flapping", "suspected", "lost", "unknown", "fenced"},
	"service-answers": {"database", "dns", "models", "gateways"},
	"incident":        {"open", "closed", "detection", "containment", "investigation", "remediation", "review"},
	"recovery":        {"running", "waiting", "done", "failed"},
	"step":            {"waiting", "ready", "running", "needs-person", "done", "failed", "skipped", "indeterminate"},
	"gate":            {"fence", "validation", "approval"},
	"notices":         {"sent", "acknowledged", "indeterminate"},
	"clock":           {"running", "kept", "missed"},
}

// stated says which argument of a form has to be one of its states.
var stated = map[string]string{
	"node-state": "state", "service-answers": "service", "incident": "state", "recovery": "state",
	"step": "state", "gate": "gate", "notices": "state", "clock": "state",
}

// usage is how a pattern is shown to people: kill NODE.
func usage(pattern string) string {
	var out []string
	for _, w := range strings.Fields(pattern) {
		tail := ""
		if strings.HasSuffix(w, "]") && strings.Contains(w, "<") {
			w, tail = strings.TrimSuffix(w, "]"), "]"
		}
		head, rest, ok := strings.Cut(w, "<")
		if !ok {
			out = append(out, w)
			continue
		}
		name, kind, _ := strings.Cut(strings.TrimSuffix(rest, ">"), ":")
		if kind == kindText {
			name = `"` + name + `"`
		} else {
			name = strings.ToUpper(name)
		}
		out = append(out, head+name+tail)
	}
	return strings.Join(out, " ")
}
