package evidence

import (
	"crypto/sha256"
	"testing"
	"time"

	"github.com/google/uuid"
)

// Who can write to the database can make every hash fit. The signature, they
// cannot.
func TestAForgedObservationWithAFittingHashIsNoticed(t *testing.T) {
	plain := func(b, _ []byte) ([]byte, error) { return append([]byte(nil), b...), nil }
	s, err := OpenSigner(t.TempDir(), plain, plain)
	if err != nil {
		t.Fatal(err)
	}
	genuine := func() Observation {
		o := Observation{ID: uuid.New(), Control: "O-07", Result: Fail, Reason: "It failed.", Observed: time.Unix(1700000000, 0)}
		s.sign(&o)
		return o
	}
	o := genuine()
	if err := o.Verify(s.Public()); err != nil {
		t.Fatal(err)
	}
	for name, forge := range map[string]func(*Observation){
		"the result":         func(o *Observation) { o.Result = Pass },
		"the time":           func(o *Observation) { o.Expires = o.Expires.AddDate(1, 0, 0) },
		"another's place":    func(o *Observation) { o.Control = "O-12" },
		"another signature":  func(o *Observation) { other := genuine(); o.Signature = other.Signature },
		"an empty signature": func(o *Observation) { o.Signature = nil },
	} {
		o := genuine()
		forge(&o)
		sum := sha256.Sum256(o.Statement())
		o.Hash = sum[:]
		if err := o.Verify(s.Public()); err == nil {
			t.Errorf("%s was forged, and it verifies", name)
		}
	}
}
