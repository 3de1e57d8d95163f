// Package principal knows who is acting, as a value.
//
// A principal is passed explicitly to every domain method; it is never hidden
// in a context.
package principal

import (
	"fmt"

	"github.com/google/uuid"
)

// Kind says how the actor was identified.
type Kind string

const (
	System  Kind = "system"  // the node itself: sweeps, discovery, shipping
	Local   Kind = "local"   // a process on this machine over the Unix socket, known by user id
	Key     Kind = "key"     // an API key of an organisation
	Session Kind = "session" // a console session
)

// Principal is who acts.
type Principal struct {
	Kind         Kind
	ID           string    // key selector, session selector, or subsystem name
	Organisation uuid.UUID // zero for platform principals
	UID          int       // operating-system user id of a Local principal
}

// Platform reports whether the actor acts for the platform, not for one organisation.
func (p Principal) Platform() bool { return p.Organisation == uuid.Nil }

// String names the actor for audit entries: no personal data, stable.
func (p Principal) String() string {
	switch p.Kind {
	case Local:
		return fmt.Sprintf("local:uid=%d", p.UID)
	default:
		return string(p.Kind) + ":" + p.ID
	}
}

// Node is the principal of work the node does by itself.
func Node(subsystem string) Principal { return Principal{Kind: System, ID: subsystem} }
