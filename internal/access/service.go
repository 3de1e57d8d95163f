package access

import (
	"time"

	"github.com/google/uuid"
)

// ServiceAccount is a principal of an organisation that is no person: it owns
// API keys, outlives whoever made it, and cannot sign in.
type ServiceAccount struct {
	ID            uuid.UUID  `json:"id"`
	Organisation  uuid.UUID  `json:"organisation"`
	Name          string     `json:"name"`
	Status        string     `json:"status"` // active or deactivated
	Keys          int        `json:"keys"`   // that still open something
	CreatedAt     time.Time  `json:"created_at"`
	DeactivatedAt *time.Time `json:"deactivated_at,omitempty"`
}
