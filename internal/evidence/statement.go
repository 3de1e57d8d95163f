package evidence

import (
	"crypto/ed25519"
	"crypto/sha256"
	"regexp"

	"github.com/missionopsai/foundry/internal/problem"
)

// purposes are how statements other than observations are told apart: small
// letters and hyphens. A signature for one purpose means nothing for another.
var purposes = regexp.MustCompile(`^[a-z][a-z-]{2,40}$`)

// bytesFor is what is signed for a purpose: its name and the SHA-256 of the body.
func bytesFor(purpose string, body []byte) []byte {
	if !purposes.MatchString(purpose) || purpose == "observation" {
		panic("evidence: no purpose of a statement: " + purpose)
	}
	sum := sha256.Sum256(body)
	return append([]byte("foundry "+purpose+" v1\n"), sum[:]...)
}

// SignFor signs bytes for a purpose, such as "incident-export".
func (s *Signer) SignFor(purpose string, body []byte) []byte {
	return ed25519.Sign(s.key, bytesFor(purpose, body))
}

// VerifyFor checks a signature that SignFor made.
func VerifyFor(public ed25519.PublicKey, purpose string, body, signature []byte) error {
	if len(public) != ed25519.PublicKeySize || !ed25519.Verify(public, bytesFor(purpose, body), signature) {
		return problem.New(problem.Invalid, "evidence-changed", "The signature is not that of these bytes and this key.").
			WithMend("Treat it as forged, and ask for it again from where it was made.")
	}
	return nil
}
