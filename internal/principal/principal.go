// Package principal knows who is acting, as a value.
//
// A principal is passed explicitly to every domain method; it is never hidden
// in a context.
package principal

import (
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Kind says how the actor was identified.
type Kind string

const (
	System  Kind = "system"  // the node itself: sweeps, discovery, shipping
	Local   Kind = "local"   // a process on this machine over the Unix socket, known by user id
	Key     Kind = "key"     // an API key of an organisation
	Session Kind = "session" // a console session opened by a one-time link of the local socket: nobody signed in
	Person  Kind = "person"  // a person who signed in

	// Anonymous is somebody who has shown nothing yet: it may only sign in.
	Anonymous Kind = "anonymous"
)

// Principal is who acts.
type Principal struct {
	Kind         Kind
	ID           string    // key selector, session selector, subsystem name, or the person's id
	Organisation uuid.UUID // the organisation that the actor acts in; zero for platform principals
	UID          int       // operating-system user id of a Local principal

	// What follows is set for a Person only.

	Session      string    // selector of the session; Emergency for who broke the glass
	Roles        Roles     // in Organisation, or of the platform where that is zero
	SecondFactor time.Time // when a second factor was last shown in this session; zero: never
	Grant        uuid.UUID // the staff grant that this act relies on; zero: none
	Away         bool      // signed in while the database was down: for what an outage needs, and nothing else
}

// Emergency is the session of whoever came in with shares of the recovery key.
const Emergency = "emergency"

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
