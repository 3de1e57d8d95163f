package audit

import (
	"bytes"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/principal"
)

// underGrant adds the staff grant that an act relied on to the entry's
// details, so that every act is linked to what allowed it. It comes last: of
// two equal names PostgreSQL keeps the last, and details cannot hide it.
func underGrant(p principal.Principal, body []byte) []byte {
	if p.Grant == uuid.Nil {
		return body
	}
	grant := []byte(`"grant":"` + p.Grant.String() + `"}`)
	object, ok := bytes.CutSuffix(body, []byte("}"))
	switch {
	case !ok: // not an object
		return append([]byte(`{"details":`+string(body)+`,`), grant...)
	case string(object) == "{":
		return append([]byte("{"), grant...)
	}
	return append(append(bytes.Clone(object), ','), grant...)
}
