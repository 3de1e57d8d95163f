package policy

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"hash/maphash"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"
	"github.com/missionopsai/foundry/internal/problem"
)

//go:embed policies/*.cedar
var builtin embed.FS

// Source is a file of policies beside the built-in ones.
type Source struct {
	Name string // of the file, for messages
	Text []byte
}

// maxSource bounds a file of policies, maxPolicies the policies of all files:
// each is evaluated on every decision.
const (
	maxSource   = 256 << 10
	maxPolicies = 200
)

func quoted(s string) string { return strconv.Quote(s) }

// Load makes an engine of the built-in policies and of more. Further policies
// may permit what the schema allows and forbid what they like; none can weaken
// a built-in forbid, and a set under which nobody could manage people or
// policies any more is refused.
func Load(extra ...Source) (*Engine, error) {
	e := &Engine{seed: maphash.MakeSeed(), actions: map[cedar.String]cedar.Entity{}, valid: map[scope]bool{}}
	e.makeActions()
	own, err := builtinSources()
	if err != nil {
		return nil, err
	}
	for _, s := range own {
		if err := e.add(s, nil); err != nil {
			return nil, fmt.Errorf("reading the built-in policies: %w", err)
		}
	}
	if len(extra) > 0 {
		v, err := newValidator()
		if err != nil {
			return nil, err
		}
		for _, s := range extra {
			if err := e.add(s, v); err != nil {
				return nil, err
			}
		}
	}
	e.digest = digest(append(own, extra...))
	e.makeValid()
	e.makeIndex()
	if len(extra) > 0 {
		if err := e.lockedOut(); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func builtinSources() ([]Source, error) {
	names, err := fs.Glob(builtin, "policies/*.cedar")
	if err != nil {
		return nil, err
	}
	var out []Source
	for _, name := range names {
		text, err := builtin.ReadFile(name)
		if err != nil {
			return nil, err
		}
		out = append(out, Source{strings.TrimPrefix(name, "policies/"), text})
	}
	return out, nil
}

func digest(all []Source) string {
	h := sha256.New()
	h.Write([]byte(Schema()))
	for _, s := range all {
		fmt.Fprintf(h, "\x00%d\x00", len(s.Text))
		h.Write(s.Text)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Digest names the set of policies, the schema included: SHA-256 in hex.
func (e *Engine) Digest() string { return e.digest }

// makeActions makes the entities of the actions and of their groups.
func (e *Engine) makeActions() {
	for _, a := range Actions() {
		var parents []cedar.EntityUID
		for _, g := range groupsOf(byName[a]) {
			parents = append(parents, cedar.NewEntityUID(typeAction, cedar.String(g)))
		}
		uid := cedar.NewEntityUID(typeAction, cedar.String(a))
		e.actions[uid.ID] = cedar.Entity{UID: uid, Parents: cedar.NewEntityUIDSet(parents...)}
	}
}

// makeValid notes which kind of principal may ask for which action. Everything
// else of a request has the same shape every time, so no request is validated
// when it is asked; TestTheValidatorAgrees holds this to what the schema says.
func (e *Engine) makeValid() {
	for _, a := range Actions() {
		for _, who := range kindTypes {
			e.valid[scope{who, a}] = slices.Contains(actors(a), who)
		}
	}
}

// add reads one file. Without a validator it is a built-in one: those are the
// same in every process, so a test validates them, not each start (it takes
// more time and memory than all the rest of starting).
func (e *Engine) add(s Source, v *validate.Validator) error {
	wrong := func(code, detail, mend string) error {
		return problem.New(problem.Invalid, code, s.Name+": "+detail).WithField("policies").WithMend(mend)
	}
	switch {
	case len(s.Text) > maxSource:
		return wrong("policy-size", fmt.Sprintf("the file is larger than %d bytes.", maxSource), "Is it the right file?")
	case !utf8.Valid(s.Text) || bytes.IndexByte(s.Text, 0) >= 0:
		return wrong("policy-encoding", "the file is not text in UTF-8.", "Save it as UTF-8.")
	}
	list, err := parse(s)
	if err != nil {
		return wrong("policy-syntax", sentence(err), "docs/guides/authorisation.md shows how a policy is written.")
	}
	for _, p := range list {
		place := fmt.Sprintf("%s:%d", s.Name, p.Position().Line)
		if err := e.addPolicy(place, p, v); err != nil {
			return err
		}
	}
	if len(e.policies) > maxPolicies {
		return wrong("policy-count", fmt.Sprintf("there are more than %d policies.", maxPolicies), "Each is evaluated on every decision: write fewer, wider ones.")
	}
	return nil
}

// parse reads the policies of a file. A panic of the parser is an error.
func parse(s Source) (list cedar.PolicyList, err error) {
	defer func() {
		if r := recover(); r != nil {
			list, err = nil, fmt.Errorf("the file cannot be read: %v", r)
		}
	}()
	return cedar.NewPolicyListFromBytes(s.Name, s.Text)
}

func sentence(err error) string {
	text := strings.TrimSpace(err.Error())
	if !strings.HasSuffix(text, ".") {
		text += "."
	}
	return text
}

// maxName bounds a policy's id and reason: both stand in messages and in the
// audit log.
const (
	maxID     = 64
	maxReason = 300
)

func (e *Engine) addPolicy(place string, p *cedar.Policy, v *validate.Validator) error {
	notes := p.Annotations()
	id, reason := string(notes["id"]), string(notes["reason"])
	wrong := func(code, detail, mend string) error {
		return problem.New(problem.Invalid, code, place+": "+detail).WithField("policies").WithMend(mend)
	}
	switch {
	case !plainID(id):
		return wrong("policy-id", "the policy has no usable @id.", `Write @id("…") above it, with 1 to 64 lower-case letters, digits and dashes.`)
	case strings.TrimSpace(reason) == "" || len(reason) > maxReason || strings.ContainsAny(reason, "\n\r"):
		return wrong("policy-reason", fmt.Sprintf("the policy %q has no usable @reason.", id), `Write @reason("…") above it: one sentence for whoever is denied, and for auditors.`)
	case id == DefaultPolicy || slices.ContainsFunc(e.policies, func(n named) bool { return n.id == id }):
		return wrong("policy-id-taken", fmt.Sprintf("there is already a policy %q.", id), "Give it another @id. Built-in policies cannot be replaced.")
	}
	if v != nil {
		if err := check(v, id, p); err != nil {
			return wrong("policy-schema", fmt.Sprintf("the policy %q does not fit the schema: %s", id, sentence(err)), "`foundry policy schema` shows what policies may speak of.")
		}
	}
	e.policies = append(e.policies, named{id: id, reason: reason, file: place, builtin: v == nil, text: string(p.MarshalCedar()), policy: p})
	return nil
}

func plainID(id string) bool {
	for _, c := range []byte(id) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return id != "" && len(id) <= maxID
}

// check validates a policy against the schema. A panic of the validator is an
// error: it is an experimental part of the library.
func check(v *validate.Validator, id string, p *cedar.Policy) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("it cannot be validated: %v", r)
		}
	}()
	return v.Policy(id, (*ast.Policy)(p.AST()))
}
