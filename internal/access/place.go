package access

import (
	"encoding/hex"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/keys"
)

// SealedColumns lists the columns of this package that hold sealed values, so
// that a rotation of the installation's keyset finds them.
func SealedColumns() (out []keys.Column) {
	for _, c := range []struct {
		table  string
		keys   []string
		sealed []string
	}{
		{"people", []string{"id"}, []string{"email_sealed", "name_sealed"}},
		{"totp_secrets", []string{"person_id"}, []string{"secret_sealed"}},
		{"passkeys", []string{"id", "person_id"}, []string{"name_sealed", "credential_sealed"}},
		{"sessions", []string{"id"}, []string{"place_sealed"}},
		{"ceremonies", []string{"id", "kind"}, []string{"state_sealed"}},
		{"invitations", []string{"id"}, []string{"email_sealed", "name_sealed"}},
	} {
		for _, column := range c.sealed {
			out = append(out, keys.Column{Table: c.table, Column: column, Keys: c.keys, Organisation: "organisation_id", Installation: true})
		}
	}
	return out
}

// byteaText is how PostgreSQL writes a bytea as text.
func byteaText(b []byte) string { return `\x` + hex.EncodeToString(b) }

// passkeyRow names the row that a passkey's sealed columns are bound to: the
// credential and its person, so that a row moved to somebody else opens nothing.
func passkeyRow(id []byte, person uuid.UUID) string {
	return keys.Row(byteaText(id), person.String())
}

func ceremonyRow(id []byte, kind string) string { return keys.Row(byteaText(id), kind) }
