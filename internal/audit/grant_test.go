package audit

import (
	"encoding/json"
	"testing"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/principal"
)

func TestDetailsNameTheGrantAndNothingHidesIt(t *testing.T) {
	id := uuid.MustParse("0190c2f0-0000-7000-8000-000000000001")
	p := principal.Principal{Kind: principal.Person, ID: "x", Grant: id}
	for body, want := range map[string]string{
		`{}`:                `{"grant":"` + id.String() + `"}`,
		`{"n":3}`:           `{"n":3,"grant":"` + id.String() + `"}`,
		`[1]`:               `{"details":[1],"grant":"` + id.String() + `"}`,
		`null`:              `{"details":null,"grant":"` + id.String() + `"}`,
		`"}"`:               `{"details":"}","grant":"` + id.String() + `"}`,
		`{"grant":"other"}`: `{"details":{"grant":"other"},"grant":"` + id.String() + `"}`,
		`{"gr\u0061nt":1}`:  `{"details":{"gr\u0061nt":1},"grant":"` + id.String() + `"}`,
		`{"GRANT":null}`:    `{"details":{"GRANT":null},"grant":"` + id.String() + `"}`,
	} {
		got := underGrant(p, []byte(body))
		var v struct{ Grant uuid.UUID }
		if err := json.Unmarshal(got, &v); string(got) != want || err != nil || v.Grant != id {
			t.Errorf("%s became %s, %v", body, got, err)
		}
		if same := underGrant(principal.Principal{}, []byte(body)); string(same) != body {
			t.Errorf("without a grant %s became %s", body, same)
		}
	}
}
