package evidence

import (
	"crypto/ed25519"
	"testing"
)

func TestASignatureHoldsForItsBytesItsKeyAndItsPurposeAlone(t *testing.T) {
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &Signer{id: SignerID(public), key: key}
	signature := s.SignFor("incident-export", []byte("body"))
	for name, err := range map[string]error{
		"other bytes":   VerifyFor(public, "incident-export", []byte("Body"), signature),
		"other purpose": VerifyFor(public, "incident-report", []byte("body"), signature),
		"other key":     VerifyFor(other, "incident-export", []byte("body"), signature),
		"no key":        VerifyFor(nil, "incident-export", []byte("body"), signature),
		"no signature":  VerifyFor(public, "incident-export", []byte("body"), nil),
	} {
		if err == nil {
			t.Errorf("%s verifies", name)
		}
	}
	if err := VerifyFor(public, "incident-export", []byte("body"), signature); err != nil {
		t.Error(err)
	}
	for _, purpose := range []string{"observation", "", "a b", "x\ny"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("signed for %q, which an observation could be taken for", purpose)
				}
			}()
			s.SignFor(purpose, nil)
		}()
	}
}
