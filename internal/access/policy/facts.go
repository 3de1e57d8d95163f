package policy

import (
	"fmt"
	"time"

	"github.com/cedar-policy/cedar-go"
	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/principal"
)

// StepUpAge is how long a second factor counts for administrative acts. The
// number itself stands in the policy "second-factor"; this is for messages,
// and a test holds the two together.
const StepUpAge = 15 * time.Minute

// clockError is how far in the future a second factor may lie before it is
// not believed: another node's clock.
const clockError = time.Minute

// question is a request reduced to what an answer depends on. Equal questions
// have equal answers from the same engine, whatever the time.
type question struct {
	kind         principal.Kind
	id           string
	organisation uuid.UUID
	roles        principal.Roles
	action       Action
	resource     Resource
	facts        int32 // index into the engine's contexts
}

// longAgo caps the age of a second factor, in minutes: everything older is
// the same to every policy.
const longAgo = 24 * 60

// minutes returns how many minutes ago a second factor was shown, rounded up,
// so that it never looks fresher than it is; -1 if none was.
func minutes(shown, now time.Time) int {
	age := now.Sub(shown)
	if shown.IsZero() || age < -clockError {
		return -1
	}
	return int(min((max(age, 0)+time.Minute-1)/time.Minute, longAgo))
}

// factsIndex numbers the contexts there can be.
func factsIndex(mode string, grant bool, age int) int32 {
	n := int32(age + 1)
	if grant {
		n += longAgo + 2
	}
	if mode == Production {
		n += 2 * (longAgo + 2)
	}
	return n
}

const contextCount = 4 * (longAgo + 2)

// contextOf makes the context of an index.
func contextOf(n int32) cedar.Record {
	m := cedar.RecordMap{"mode": cedar.String(Development), "grant": cedar.False}
	if n >= 2*(longAgo+2) {
		m["mode"], n = cedar.String(Production), n-2*(longAgo+2)
	}
	if n >= longAgo+2 {
		m["grant"], n = cedar.True, n-(longAgo+2)
	}
	if n > 0 {
		m["second_factor_minutes"] = cedar.Long(n - 1)
	}
	return cedar.NewRecord(m)
}

// ask reads a request and refuses what nobody with honest means can be. The
// returned text says what is wrong.
func ask(r *Request) (q question, wrong string) {
	p := &r.Principal
	if r.Mode != Development && r.Mode != Production {
		return q, fmt.Sprintf("%q is not a mode", r.Mode)
	}
	if r.Now.IsZero() {
		return q, "the time is missing"
	}
	if wrong = implausible(p); wrong != "" {
		return q, wrong
	}
	q = question{kind: p.Kind, id: p.ID, organisation: p.Organisation, roles: p.Roles, action: r.Action, resource: r.Resource}
	if q.resource.Type == "" {
		q.resource.Type = r.Action.Type()
	}
	if q.resource.Type != r.Action.Type() {
		return q, fmt.Sprintf("%s is not done to a %s", r.Action, q.resource.Type)
	}
	age := -1
	if p.Kind == principal.Person {
		age = minutes(p.SecondFactor, r.Now)
	}
	q.facts = factsIndex(r.Mode, p.Grant != uuid.Nil, age)
	return q, ""
}

var (
	staffRoles  = platform
	memberRoles = reads
)

// implausible says what about a principal cannot be: roles on something that
// has none, roles of an organisation on the platform, a grant without an
// organisation to look into. Such a principal was forged or is a defect.
func implausible(p *principal.Principal) string {
	switch p.Kind {
	case principal.Person:
		return implausiblePerson(p)
	case principal.Key:
		if p.ID == "" || p.Organisation == uuid.Nil {
			return "an API key has an id and an organisation"
		}
	case principal.Local:
		if (p.Organisation == uuid.Nil) != (p.Grant == uuid.Nil) {
			return "the local socket acts in an organisation only under a grant"
		}
		if p.Roles != 0 || !p.SecondFactor.IsZero() {
			return "only a person has roles or a second factor"
		}
		return ""
	case principal.Session, principal.System:
		if p.Organisation != uuid.Nil {
			return "a " + string(p.Kind) + " principal belongs to no organisation"
		}
	default:
		return fmt.Sprintf("%q is not a kind of principal", p.Kind)
	}
	if p.Roles != 0 || p.Grant != uuid.Nil || !p.SecondFactor.IsZero() {
		return "only a person has roles, a second factor or a grant"
	}
	return ""
}

func implausiblePerson(p *principal.Principal) string {
	staff, member := p.Roles&staffRoles, p.Roles&memberRoles
	switch {
	case p.ID == "":
		return "a person has an id"
	case p.Roles&^(staffRoles|memberRoles) != 0:
		return "there is no such role"
	case staff != 0 && member != 0:
		return "roles of the platform and of an organisation do not mix"
	case member != 0 && p.Organisation == uuid.Nil:
		return "a role of an organisation needs the organisation"
	case p.Grant != uuid.Nil && (staff == 0 || p.Organisation == uuid.Nil):
		return "a grant is for staff, and for one organisation"
	case staff != 0 && p.Organisation != uuid.Nil && p.Grant == uuid.Nil:
		return "staff act in an organisation only under a grant"
	}
	return ""
}

// entities are the three things that a question speaks of, for Cedar.
type entities struct {
	engine    *Engine
	principal cedar.Entity
	resource  cedar.Entity
}

// Get finds an entity.
func (s *entities) Get(uid cedar.EntityUID) (cedar.Entity, bool) {
	switch uid {
	case s.principal.UID:
		return s.principal, true
	case s.resource.UID:
		return s.resource, true
	}
	if uid.Type == typeAction {
		e, ok := s.engine.actions[uid.ID]
		return e, ok
	}
	return cedar.Entity{}, false
}

var kindTypes = map[principal.Kind]cedar.EntityType{principal.Person: typePerson, principal.Key: typeKey,
	principal.Local: typeLocal, principal.Session: typeLink, principal.System: typeNode}

func organisationUID(id uuid.UUID) cedar.EntityUID {
	if id == uuid.Nil {
		return cedar.NewEntityUID(typeOrganisation, thePlatform)
	}
	return cedar.NewEntityUID(typeOrganisation, cedar.String(id.String()))
}

// entitiesOf makes them.
func (e *Engine) entitiesOf(q *question) *entities {
	s := &entities{engine: e}
	s.principal = cedar.Entity{
		UID:        cedar.NewEntityUID(kindTypes[q.kind], cedar.String(q.id)),
		Parents:    parentsOf(q.roles),
		Attributes: cedar.NewRecord(cedar.RecordMap{"organisation": organisationUID(q.organisation)}),
	}
	attributes := cedar.RecordMap{"organisation": organisationUID(q.resource.Organisation)}
	if q.resource.Owner != "" {
		attributes["owner"] = cedar.NewEntityUID(typePerson, cedar.String(q.resource.Owner))
	}
	s.resource = cedar.Entity{
		UID:        cedar.NewEntityUID(entityType(q.resource.Type), cedar.String(q.resource.ID)),
		Attributes: cedar.NewRecord(attributes),
	}
	return s
}

func parentsOf(roles principal.Roles) cedar.EntityUIDSet {
	if roles == 0 {
		return cedar.NewEntityUIDSet()
	}
	var uids []cedar.EntityUID
	for _, r := range roles.List() {
		uids = append(uids, cedar.NewEntityUID(typeRole, cedar.String(r.String())))
	}
	if roles&staffRoles != 0 {
		uids = append(uids, cedar.NewEntityUID(typeRole, "staff"))
	}
	if roles&memberRoles != 0 {
		uids = append(uids, cedar.NewEntityUID(typeRole, "member"))
	}
	return cedar.NewEntityUIDSet(uids...)
}

// requestOf makes the request for Cedar.
func (e *Engine) requestOf(q *question, s *entities) cedar.Request {
	return cedar.Request{Principal: s.principal.UID, Action: cedar.NewEntityUID(typeAction, cedar.String(q.action)),
		Resource: s.resource.UID, Context: e.context(q.facts)}
}
