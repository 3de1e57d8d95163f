package access

// Footprint is what deactivating a person ends.
type Footprint struct {
	Sessions    int   `json:"sessions"`
	Passkeys    int   `json:"passkeys"`
	Invitations int   `json:"invitations"` // that the person made and nobody accepted yet
	Memberships int   `json:"memberships"`
	Keys        []Key `json:"keys"` // API keys that the person made and that belong to no service account
	Work        int   `json:"work"` // runs; known only afterwards
}
