package audit

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/principal"
)

// underGrant adds the staff grant that an act relied on to the entry's
// details, so that every act is linked to what allowed it. Details that name a
// grant of their own are set apart: of two equal names readers of JSON keep
// the first, the last or neither (RFC 8259, section 4), and no two readers of
// a signed entry may see different grants.
func underGrant(p principal.Principal, body []byte) []byte {
	if p.Grant == uuid.Nil {
		return body
	}
	grant := []byte(`"grant":"` + p.Grant.String() + `"}`)
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil || members == nil || namesGrant(members) {
		return append([]byte(`{"details":`+string(body)+`,`), grant...)
	}
	if len(members) == 0 {
		return append([]byte("{"), grant...)
	}
	object := bytes.TrimSuffix(bytes.TrimSpace(body), []byte("}"))
	return append(append(bytes.Clone(object), ','), grant...)
}

// namesGrant ignores case, as encoding/json does when it reads into a struct.
func namesGrant(members map[string]json.RawMessage) bool {
	for name := range members {
		if strings.EqualFold(name, "grant") {
			return true
		}
	}
	return false
}
