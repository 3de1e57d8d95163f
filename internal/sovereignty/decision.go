package sovereignty

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// Request is what is being asked, as far as the rules care.
type Request struct {
	Organisation string
	Model        string    // the logical model asked for; shown in the trace, decides nothing
	Class        DataClass // as StricterClass gives it; unset counts as the policy's highest
	At           time.Time
	// Features are the fields that make an upstream fetch, store or call
	// others, from the gateway's fixed vocabulary. A name that is not in the
	// form of a feature is refused without being shown.
	Features []string
}

// Candidate is one place a request could be routed to.
type Candidate struct {
	Provider *Provider
	Model    string // the provider's name of the model
	Order    int    // lower is tried first
	Weight   int    // share among equals
	Tier     string // bulk, routine, standard, frontier
}

// Outcome is whether any candidate may be used.
type Outcome string

const (
	OutcomeAllowed Outcome = "allowed"
	OutcomeRefused Outcome = "refused"
)

// Zone is how near a candidate is. Among candidates of equal order the nearer
// zone is tried first.
type Zone string

const (
	ZoneOwn       Zone = "own"       // the fleet's own models
	ZoneHome      Zone = "home"      // controller, processing and sub-processors all in home jurisdictions
	ZoneEEA       Zone = "eea"       // all in the EEA or home jurisdictions
	ZoneElsewhere Zone = "elsewhere" // anything else, and anything unknown
)

// Decision is the outcome with its reasons, for keeping and for showing. It
// holds no pointer into what it was made from.
type Decision struct {
	Organisation string
	Model        string
	Class        DataClass
	Regime       Regime
	Outcome      Outcome
	Allowed      []Allowed    // in the order in which to try them
	Considered   []Considered // every candidate, in the same order
	until        time.Time
}

// Target is a candidate as the decision records it.
type Target struct {
	Provider  string   `json:"provider"`
	Model     string   `json:"model"`
	Order     int      `json:"order"`
	Weight    int      `json:"weight"`
	Tier      string   `json:"tier,omitempty"`
	Zone      Zone     `json:"zone"`
	Own       bool     `json:"own"`
	Simulated bool     `json:"simulated"`
	Transfer  Transfer `json:"transfer"`
	Index     int      `json:"-"` // position among the candidates given to Decide; not kept
}

// Allowed is a candidate that may be used.
type Allowed struct{ Target }

// Considered is a candidate with every rule's verdict on it.
type Considered struct {
	Target
	Allowed bool    `json:"allowed"`
	Checks  []Check `json:"checks"`
}

// Result is a rule's verdict.
type Result string

const (
	Pass      Result = "pass"
	Fail      Result = "fail"
	NotNeeded Result = "not-needed" // the rule has nothing to say here
)

// Check is one rule applied to one candidate.
type Check struct {
	Rule     Rule   `json:"rule"`
	Result   Result `json:"result"`
	Sentence string `json:"sentence"`
	Mend     string `json:"mend,omitempty"` // for a failure, what would allow it
}

// ValidUntil is the first moment at which the same question could get another
// answer because a contract or safeguard lapses or begins. Before it the
// decision, and its hash, stay what they are. Zero means never.
func (d Decision) ValidUntil() time.Time { return d.until }

// Allows reports whether the decision admits this provider and model at t: the
// router asks again before each retry and each fallback.
func (d Decision) Allows(provider, model string, t time.Time) bool {
	if !d.until.IsZero() && !t.Before(d.until) {
		return false
	}
	for i := range d.Allowed {
		if d.Allowed[i].Provider == provider && d.Allowed[i].Model == model {
			return true
		}
	}
	return false
}

const decisionVersion = 1

// document is a decision as it is stored. Allowed is not in it: it follows
// from Considered.
type document struct {
	Version      int          `json:"version"`
	Organisation string       `json:"organisation"`
	Model        string       `json:"model,omitempty"`
	Class        DataClass    `json:"class"`
	Regime       Regime       `json:"regime"`
	Outcome      Outcome      `json:"outcome"`
	ValidUntil   time.Time    `json:"valid_until,omitzero"`
	Considered   []Considered `json:"considered"`
}

// JSON gives the canonical form: fixed field order, sorted sets, UTC, no
// insignificant space, no request time.
func (d Decision) JSON() []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(document{decisionVersion, d.Organisation, d.Model, d.Class, d.Regime, d.Outcome, d.until, d.Considered})
	if err != nil {
		// Every field is a string, number, bool, or a time that Decide and
		// ParseDecision keep within the years that JSON can write.
		panic("sovereignty: a decision does not encode: " + err.Error())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// Hash is the content address: the first half of the SHA-256 of JSON.
func (d Decision) Hash() [16]byte {
	sum := sha256.Sum256(d.JSON())
	return [16]byte(sum[:16])
}

// MaxDecision is the longest stored decision that ParseDecision reads, in bytes.
const MaxDecision = 1 << 20

// ParseDecision reads what JSON wrote, strictly, and checks that it agrees
// with itself: a candidate is allowed if and only if no check failed.
func ParseDecision(data []byte) (Decision, error) {
	if len(data) > MaxDecision {
		return Decision{}, problem.New(problem.TooLarge, "decision-too-large", "The stored decision is larger than any decision can be.")
	}
	var doc document
	if err := strictJSON(data, &doc, "decision-malformed", "The stored decision cannot be read."); err != nil {
		return Decision{}, err
	}
	if err := doc.validate(); err != nil {
		return Decision{}, err
	}
	for i := range doc.Considered {
		doc.Considered[i].Index = i
		doc.Considered[i].Transfer.toUTC()
	}
	d := Decision{Organisation: doc.Organisation, Model: doc.Model, Class: doc.Class, Regime: doc.Regime,
		Considered: doc.Considered, until: doc.ValidUntil.UTC()}
	d.settle()
	if d.Outcome != doc.Outcome {
		return Decision{}, invalid("decision-incoherent", "outcome", "The stored outcome does not follow from the stored checks.", "")
	}
	return d, nil
}

// settle derives Allowed and Outcome from Considered.
func (d *Decision) settle() {
	d.Outcome = OutcomeRefused
	for i := range d.Considered {
		if d.Considered[i].Allowed {
			d.Outcome = OutcomeAllowed
			d.Allowed = append(d.Allowed, Allowed{d.Considered[i].Target})
		}
	}
}

func (doc document) validate() error {
	bad := func(field, detail string) error { return invalid("decision-incoherent", field, detail, "") }
	switch {
	case doc.Version != decisionVersion:
		return bad("version", "The stored decision has a version this program does not know.")
	case !doc.Class.Valid():
		return bad("class", "A decision needs a data class.")
	case !doc.ValidUntil.Equal(instant(doc.ValidUntil)):
		return bad("valid_until", "The date cannot be.")
	case doc.Considered == nil:
		return bad("considered", "A decision needs its candidates.")
	case doc.Regime != "" && !doc.Regime.Valid():
		return bad("regime", "The regime is unknown.")
	}
	for i, c := range doc.Considered {
		field := at("considered", i)
		if len(c.Checks) == 0 {
			return bad(field+".checks", "A candidate without checks proves nothing.")
		}
		failed := false
		for k, check := range c.Checks {
			switch {
			case check.Rule.Question() == "":
				return bad(field+"."+at("checks", k), "The rule is unknown.")
			case check.Result != Pass && check.Result != Fail && check.Result != NotNeeded:
				return bad(field+"."+at("checks", k), "The result is unknown.")
			case check.Sentence == "":
				return bad(field+"."+at("checks", k), "The check gives no reason.")
			}
			failed = failed || check.Result == Fail
		}
		if c.Allowed == failed {
			return bad(field+".allowed", "A candidate is allowed if and only if no check failed.")
		}
		if c.Zone.rank() == ZoneElsewhere.rank() && c.Zone != ZoneElsewhere {
			return bad(field+".zone", "The zone is unknown.")
		}
		if !c.Transfer.wellFormed() {
			return bad(field+".transfer", "The transfer names a place that is none, or a date that cannot be.")
		}
	}
	return nil
}

// Refusal is the error for a refused request: kind Denied, the code of the
// first rule that failed for the candidate nearest to being allowed, and all
// that would allow that candidate. Nil if the decision is to allow.
func (d Decision) Refusal() *problem.Error {
	if d.Outcome == OutcomeAllowed {
		return nil
	}
	best, fewest := -1, 0
	for i := range d.Considered {
		if n := d.Considered[i].failures(); best < 0 || n < fewest {
			best, fewest = i, n
		}
	}
	if best < 0 {
		return problem.New(problem.Denied, "no-candidate", "No provider is set up to answer this request.").
			WithMend("An operator can add a route for the model.")
	}
	c := &d.Considered[best]
	var e *problem.Error
	var mends []string
	for _, check := range c.Checks {
		if check.Result != Fail {
			continue
		}
		if e == nil {
			e = problem.New(problem.Denied, string(check.Rule),
				"Policy refuses this request (rule "+string(check.Rule)+"). Nearest candidate "+c.name()+": "+clean(check.Sentence))
		}
		if mend := clean(check.Mend); !slices.Contains(mends, mend) {
			mends = append(mends, mend)
		}
	}
	return e.WithMend(strings.Join(mends, " "))
}

func (c *Considered) failures() int {
	n := 0
	for i := range c.Checks {
		if c.Checks[i].Result == Fail {
			n++
		}
	}
	return n
}
