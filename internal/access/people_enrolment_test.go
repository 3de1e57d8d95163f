package access

import (
	"testing"

	"github.com/missionopsai/foundry/internal/principal"
	"github.com/pquerna/otp/totp"
)

// An enrolment ends in the session in which it began: a handle that leaks puts
// nobody's code generator or passkey into somebody else's account.
func TestAnEnrolmentEndsWhereItBegan(t *testing.T) {
	w := newCompany(t)
	anna := w.join("anna@example.org", w.org.ID, principal.Administrator)
	bert := w.join("bert@example.org", w.org.ID, principal.Administrator)
	elsewhere := anna.signIn()
	here := anna.signIn()
	for name, p := range map[string]principal.Principal{"another session": elsewhere.Principal, "another person": bert.in.Principal} {
		e, err := w.people.BeginTOTP(ctx, here.Principal)
		w.must(err)
		code, err := totp.GenerateCode(e.Secret, w.clock())
		w.must(err)
		_, err = w.people.ConfirmTOTP(ctx, p, e.Ceremony, code)
		w.wantCode(err, "signin-expired")

		key := newAuthenticator(t)
		c, err := w.people.BeginPasskeyEnrolment(ctx, here.Principal)
		w.must(err)
		_, err = w.people.EnrolPasskey(ctx, p, c.Ceremony, "Mine", key.register(c))
		w.wantCode(err, "signin-expired")
		if _, err = w.people.EnrolPasskey(ctx, here.Principal, c.Ceremony, "Mine", key.register(c)); err != nil {
			t.Errorf("%s spoilt the enrolment of who began it: %v", name, err)
		}
	}
	// Nor does a session with another person's id confirm: a forged principal
	// is nobody's, but the ceremony has to hold by itself.
	e, err := w.people.BeginTOTP(ctx, here.Principal)
	w.must(err)
	code, err := totp.GenerateCode(e.Secret, w.clock())
	w.must(err)
	mixed := bert.in.Principal
	mixed.Session = here.Principal.Session
	_, err = w.people.ConfirmTOTP(ctx, mixed, e.Ceremony, code)
	w.wantCode(err, "signin-expired")
}

// The last second factor of who needs one stays, whichever it is.
func TestTheLastSecondFactorOfAnAdministratorStays(t *testing.T) {
	w := newCompany(t)
	m := w.join("anna@example.org", w.org.ID, principal.Administrator)
	w.wantCode(w.people.RemoveTOTP(ctx, m.in.Principal), "factor-needed")
	m.enrolPasskey()
	w.must(w.people.RemoveTOTP(ctx, m.in.Principal))
	list, err := w.people.Passkeys(ctx, m.in.Principal)
	w.must(err)
	w.wantCode(w.people.RemovePasskey(ctx, m.in.Principal, list[0].ID), "factor-needed")

	vera := w.join("vera@example.org", w.org.ID, principal.Viewer) // needs none
	vera.enrolTOTP()
	w.must(w.people.RemoveTOTP(ctx, vera.in.Principal))
}
