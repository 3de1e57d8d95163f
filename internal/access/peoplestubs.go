package access

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

var errUnbuilt = problem.New(problem.Unsupported, "unbuilt", "Not built yet.")

// People knows who can sign in, and with what. Safe for concurrent use.
type People struct{ PeopleOptions }

// NewPeople makes it.
func NewPeople(o PeopleOptions) (*People, error) { return &People{o}, nil }

// Run sweeps what is over, releases locks and writes when sessions were last
// seen, until ctx ends.
func (s *People) Run(ctx context.Context) {}

// Sessions knows which sessions are open: every request of the console is
// checked against an immutable picture of them. Safe for concurrent use.
type Sessions struct{}

// SessionOptions is what Sessions stands on.
type SessionOptions struct {
	DB      *db.DB
	TagKey  []byte // of the tag of session tokens
	BootKey []byte // of this process's memory of verifications; random when nil
	Clock   func() time.Time
}

// NewSessions makes it.
func NewSessions(o SessionOptions) *Sessions { return &Sessions{} }

// Check says who a session token belongs to.
func (s *Sessions) Check(ctx context.Context, now time.Time, token string) (principal.Principal, *Session, error) {
	return principal.Principal{}, nil, errUnbuilt
}

// CheckEnrolment is Check, but lets a session through that must still enrol.
func (s *Sessions) CheckEnrolment(ctx context.Context, now time.Time, token string) (principal.Principal, *Session, error) {
	return principal.Principal{}, nil, errUnbuilt
}

// Refresh reads the sessions now.
func (s *Sessions) Refresh(ctx context.Context) error { return errUnbuilt }

// Run keeps the picture fresh until ctx ends.
func (s *Sessions) Run(ctx context.Context) {}

// SignInPassword …
func (s *People) SignInPassword(ctx context.Context, c Client, email, password string) (Progress, error) {
	return Progress{}, errUnbuilt
}

// SignInTOTP …
func (s *People) SignInTOTP(ctx context.Context, c Client, ceremony, code string) (SignedIn, error) {
	return SignedIn{}, errUnbuilt
}

// SignInRecovery …
func (s *People) SignInRecovery(ctx context.Context, c Client, ceremony, code string) (SignedIn, error) {
	return SignedIn{}, errUnbuilt
}

// BeginPasskey starts a sign-in with a passkey: alone (ceremony empty), or as the second factor.
func (s *People) BeginPasskey(ctx context.Context, c Client, ceremony string) (PasskeyChallenge, error) {
	return PasskeyChallenge{}, errUnbuilt
}

// SignInPasskey …
func (s *People) SignInPasskey(ctx context.Context, c Client, ceremony string, answer []byte) (SignedIn, error) {
	return SignedIn{}, errUnbuilt
}

// StepUpTOTP …
func (s *People) StepUpTOTP(ctx context.Context, p principal.Principal, c Client, code string) (SignedIn, error) {
	return SignedIn{}, errUnbuilt
}

// BeginStepUpPasskey …
func (s *People) BeginStepUpPasskey(ctx context.Context, p principal.Principal) (PasskeyChallenge, error) {
	return PasskeyChallenge{}, errUnbuilt
}

// StepUpPasskey …
func (s *People) StepUpPasskey(ctx context.Context, p principal.Principal, c Client, ceremony string, answer []byte) (SignedIn, error) {
	return SignedIn{}, errUnbuilt
}

// SignOut …
func (s *People) SignOut(ctx context.Context, p principal.Principal) error { return errUnbuilt }

// Enter …
func (s *People) Enter(ctx context.Context, p principal.Principal, org uuid.UUID) (SignedIn, error) {
	return SignedIn{}, errUnbuilt
}

// BeginTOTP …
func (s *People) BeginTOTP(ctx context.Context, p principal.Principal) (TOTPEnrolment, error) {
	return TOTPEnrolment{}, errUnbuilt
}

// ConfirmTOTP …
func (s *People) ConfirmTOTP(ctx context.Context, p principal.Principal, ceremony, code string) (Enrolled, error) {
	return Enrolled{}, errUnbuilt
}

// RemoveTOTP …
func (s *People) RemoveTOTP(ctx context.Context, p principal.Principal) error { return errUnbuilt }

// BeginPasskeyEnrolment …
func (s *People) BeginPasskeyEnrolment(ctx context.Context, p principal.Principal) (PasskeyChallenge, error) {
	return PasskeyChallenge{}, errUnbuilt
}

// EnrolPasskey …
func (s *People) EnrolPasskey(ctx context.Context, p principal.Principal, ceremony, name string, answer []byte) (Enrolled, error) {
	return Enrolled{}, errUnbuilt
}

// Passkeys …
func (s *People) Passkeys(ctx context.Context, p principal.Principal) ([]Passkey, error) {
	return nil, errUnbuilt
}

// RenamePasskey …
func (s *People) RenamePasskey(ctx context.Context, p principal.Principal, id, name string) error {
	return errUnbuilt
}

// RemovePasskey …
func (s *People) RemovePasskey(ctx context.Context, p principal.Principal, id string) error {
	return errUnbuilt
}

// RenewRecoveryCodes …
func (s *People) RenewRecoveryCodes(ctx context.Context, p principal.Principal) ([]string, error) {
	return nil, errUnbuilt
}

// ChangePassword …
func (s *People) ChangePassword(ctx context.Context, p principal.Principal, c Client, old, next string) (SignedIn, error) {
	return SignedIn{}, errUnbuilt
}

// Me …
func (s *People) Me(ctx context.Context, p principal.Principal) (Person, error) {
	return Person{}, errUnbuilt
}

// List …
func (s *People) List(ctx context.Context, p principal.Principal, org uuid.UUID) ([]Person, error) {
	return nil, errUnbuilt
}

// Show …
func (s *People) Show(ctx context.Context, p principal.Principal, org, person uuid.UUID) (Person, error) {
	return Person{}, errUnbuilt
}

// SetRoles …
func (s *People) SetRoles(ctx context.Context, p principal.Principal, org, person uuid.UUID, roles principal.Roles) (Membership, error) {
	return Membership{}, errUnbuilt
}

// Unlock …
func (s *People) Unlock(ctx context.Context, p principal.Principal, person uuid.UUID) error {
	return errUnbuilt
}

// Recover …
func (s *People) Recover(ctx context.Context, p principal.Principal, person uuid.UUID) (Invitation, string, error) {
	return Invitation{}, "", errUnbuilt
}

// Footprint …
func (s *People) Footprint(ctx context.Context, p principal.Principal, person uuid.UUID) (Footprint, error) {
	return Footprint{}, errUnbuilt
}

// Deactivate …
func (s *People) Deactivate(ctx context.Context, p principal.Principal, person uuid.UUID, keep ...string) (Footprint, error) {
	return Footprint{}, errUnbuilt
}

// MySessions …
func (s *People) MySessions(ctx context.Context, p principal.Principal) ([]Session, error) {
	return nil, errUnbuilt
}

// ListSessions …
func (s *People) ListSessions(ctx context.Context, p principal.Principal, person uuid.UUID) ([]Session, error) {
	return nil, errUnbuilt
}

// RevokeSession …
func (s *People) RevokeSession(ctx context.Context, p principal.Principal, id string) error {
	return errUnbuilt
}

// RevokeSessions …
func (s *People) RevokeSessions(ctx context.Context, p principal.Principal, person uuid.UUID) (int, error) {
	return 0, errUnbuilt
}

// Invite …
func (s *People) Invite(ctx context.Context, p principal.Principal, in NewInvitation) (Invitation, string, error) {
	return Invitation{}, "", errUnbuilt
}

// Bootstrap …
func (s *People) Bootstrap(ctx context.Context, p principal.Principal, email, name string) (Invitation, string, error) {
	return Invitation{}, "", errUnbuilt
}

// Invitations …
func (s *People) Invitations(ctx context.Context, p principal.Principal, org uuid.UUID) ([]Invitation, error) {
	return nil, errUnbuilt
}

// RevokeInvitation …
func (s *People) RevokeInvitation(ctx context.Context, p principal.Principal, id string) error {
	return errUnbuilt
}

// ResendInvitation …
func (s *People) ResendInvitation(ctx context.Context, p principal.Principal, id string) (Invitation, string, error) {
	return Invitation{}, "", errUnbuilt
}

// OpenInvitation …
func (s *People) OpenInvitation(ctx context.Context, c Client, token string) (Invitation, bool, error) {
	return Invitation{}, false, errUnbuilt
}

// Accept …
func (s *People) Accept(ctx context.Context, c Client, token string, a Acceptance) (SignedIn, error) {
	return SignedIn{}, errUnbuilt
}

// Join …
func (s *People) Join(ctx context.Context, p principal.Principal, token string) (SignedIn, error) {
	return SignedIn{}, errUnbuilt
}

// CreateServiceAccount …
func (s *People) CreateServiceAccount(ctx context.Context, p principal.Principal, org uuid.UUID, name string) (ServiceAccount, error) {
	return ServiceAccount{}, errUnbuilt
}

// ServiceAccounts …
func (s *People) ServiceAccounts(ctx context.Context, p principal.Principal, org uuid.UUID) ([]ServiceAccount, error) {
	return nil, errUnbuilt
}

// DeactivateServiceAccount …
func (s *People) DeactivateServiceAccount(ctx context.Context, p principal.Principal, id uuid.UUID) (int, error) {
	return 0, errUnbuilt
}
