package policy

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"
	"github.com/missionopsai/foundry/internal/principal"
)

//go:embed schema.cedarschema
var schemaHead string

// Types of principals in the schema.
const (
	typePerson = cedar.EntityType("Person")
	typeKey    = cedar.EntityType("ApiKey")
	typeLocal  = cedar.EntityType("LocalUser")
	typeLink   = cedar.EntityType("ConsoleLink")
	typeNode   = cedar.EntityType("Node")

	typeRole         = cedar.EntityType("Role")
	typeOrganisation = cedar.EntityType("Organisation")
	typeAction       = cedar.EntityType("Action")
)

// thePlatform stands for the platform where an organisation is asked for.
const thePlatform = cedar.String("platform")

// actors are the types that may ask for an action. API keys are for models;
// nobody but an API key calls a model through the gateway.
func actors(a Action) []cedar.EntityType {
	switch a {
	case "model.call":
		return []cedar.EntityType{typeKey}
	case "model.list":
		return []cedar.EntityType{typePerson, typeKey, typeLocal, typeLink, typeNode}
	}
	return []cedar.EntityType{typePerson, typeLocal, typeLink, typeNode}
}

// entityType is the schema's name for a type of resource: "service-account"
// is ServiceAccount. Two nouns have a name of another entity.
func entityType(noun string) cedar.EntityType {
	switch noun {
	case "organisation":
		return "OrganisationRecord"
	case "person":
		return "PersonRecord"
	}
	var b strings.Builder
	for word := range strings.SplitSeq(noun, "-") {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return cedar.EntityType(b.String())
}

// groupsOf are the groups of actions that one belongs to, by name.
func groupsOf(r *rule) (out []string) {
	for _, role := range r.roles.List() {
		out = append(out, "role/"+role.String())
	}
	for _, t := range traits {
		if r.traits&t.trait != 0 {
			out = append(out, t.group)
		}
	}
	return out
}

// Schema is the Cedar schema that policies and requests are validated against.
func Schema() string {
	var b strings.Builder
	b.WriteString(schemaHead)
	var nouns []string
	for _, a := range Actions() {
		nouns = append(nouns, a.Type())
	}
	b.WriteString("// What acts are done to. The owner is the person something belongs to, or who\n// asked for it.\n")
	for _, noun := range slices.Compact(nouns) {
		fmt.Fprintf(&b, "entity %s { organisation: Organisation, owner?: Person };\n", entityType(noun))
	}
	b.WriteString("\n// Who holds what.\n")
	for _, role := range principal.AllRoles() {
		fmt.Fprintf(&b, "action %q;\n", "role/"+role.String())
	}
	b.WriteString("\n// What actions have in common.\n")
	for _, t := range traits {
		fmt.Fprintf(&b, "action %q; // %s\n", t.group, t.says)
	}
	for _, a := range Actions() {
		r := byName[a]
		fmt.Fprintf(&b, "\n// %s\naction %q", r.says, string(a))
		if groups := groupsOf(r); len(groups) > 0 {
			fmt.Fprintf(&b, " in [\"%s\"]", strings.Join(groups, `", "`))
		}
		var who []string
		for _, t := range actors(a) {
			who = append(who, string(t))
		}
		fmt.Fprintf(&b, " appliesTo {\n  principal: [%s],\n  resource: [%s],\n  context: Facts\n};\n", strings.Join(who, ", "), entityType(a.Type()))
	}
	return b.String()
}

// newValidator makes cedar-go's validator, in its strict mode, of the schema.
// It is the library's experimental package; the pinned version passes Cedar's
// conformance corpus, and TestTheValidatorRefusesWhatItShould holds it to what
// is relied on here.
func newValidator() (*validate.Validator, error) {
	var s schema.Schema
	if err := s.UnmarshalCedar([]byte(Schema())); err != nil {
		return nil, fmt.Errorf("reading the schema: %w", err)
	}
	resolved, err := s.Resolve()
	if err != nil {
		return nil, fmt.Errorf("resolving the schema: %w", err)
	}
	return validate.New(resolved, validate.WithStrict()), nil
}
