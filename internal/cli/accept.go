package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
)

func (a *app) accept() *cobra.Command {
	var f loginFlags
	var name string
	c := &cobra.Command{
		Use:   "accept",
		Short: "Accept an invitation: choose a password, enrol an authenticator app",
		Long: `Accept an invitation without a browser: choose a password, enrol an
authenticator app, and keep the recovery codes that are shown once.

The invitation's token, the password and the app's first code are asked for on
the terminal; without a terminal they are lines of the standard input. They are
never arguments, which other users of the machine could read.`,
		Example: "  foundry accept\n  foundry accept --server https://node1.example.org:8443 --ca node1-ca.pem --name 'Ada Lovelace'",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.acceptInvitation(cmd.Context(), f, name) },
	}
	c.Flags().StringVar(&f.authority, "ca", "", "PEM file of the server's certificate authority (default: the system's, or the local node's)")
	c.Flags().StringVar(&name, "name", "", "your name (default: the one in the invitation)")
	return c
}

func (a *app) acceptInvitation(ctx context.Context, f loginFlags, name string) error {
	s, err := a.destination(ctx, f)
	if err != nil {
		return err
	}
	ask := a.asker()
	token, err := ask.secret("Token of the invitation: ")
	if err != nil {
		return err
	}
	if _, after, found := strings.Cut(token, "#"); found {
		token = after // the whole link was pasted
	}
	password, err := ask.newPassword()
	if err != nil {
		return err
	}
	var signed access.SignedIn
	if err := a.remote(ctx, s, "POST", "/api/v1/invitation/accept", map[string]any{"token": strings.TrimSpace(token), "name": name, "password": password}, &signed); err != nil {
		return err
	}
	s.Token, s.ExpiresAt = signed.Token, signed.Session.ExpiresAt
	var codes []string
	if signed.Session.Enrolment {
		enrolled, err := a.enrol(ctx, s, ask)
		if err != nil {
			return err
		}
		signed, codes = enrolled.SignedIn, enrolled.Codes
		s.Token, s.ExpiresAt = signed.Token, signed.Session.ExpiresAt
	}
	if err := saveSession(*s); err != nil {
		return err
	}
	return a.print(map[string]any{"server": s.Server, "expires_at": s.ExpiresAt, "recovery_codes": codes}, func(w io.Writer) {
		fmt.Fprintf(w, "Welcome. You are signed in to %s until %s.\n", s.Server, s.ExpiresAt.Local().Format("15:04"))
		if len(codes) > 0 {
			fmt.Fprintf(w, "\nRecovery codes, shown once. Each opens your account once if you lose the app:\n\n  %s\n", strings.Join(codes, "\n  "))
		}
	})
}

// enrol enrols an authenticator app in a session that may do nothing else. A
// code that was typed wrongly may be typed again.
func (a *app) enrol(ctx context.Context, s *savedSession, ask *asker) (*access.Enrolled, error) {
	var app access.TOTPEnrolment
	if err := a.remote(ctx, s, "POST", "/api/v1/session/totp", nil, &app); err != nil {
		return nil, err
	}
	fmt.Fprintf(a.err, "Add this to an authenticator app:\n\n  %s\n\nor type its secret: %s\n\n", app.URI, app.Secret)
	for tries := 3; ; tries-- {
		code, err := ask.secret("Code that the app shows: ")
		if err != nil {
			return nil, err
		}
		var enrolled access.Enrolled
		err = a.remote(ctx, s, "POST", "/api/v1/session/totp/confirm", map[string]any{"ceremony": app.Ceremony, "code": strings.TrimSpace(code)}, &enrolled)
		if err == nil {
			return &enrolled, nil
		}
		if tries == 1 || ask.tty < 0 {
			return nil, err
		}
		fmt.Fprintln(a.err, problem.From(err).Detail)
	}
}

// newPassword asks twice on a terminal, where nobody sees what is typed.
func (q *asker) newPassword() (string, error) {
	one, err := q.secret("New password: ")
	if err != nil || q.tty < 0 {
		return one, err
	}
	two, err := q.secret("The same again: ")
	if err == nil && one != two {
		err = problem.New(problem.Invalid, "password-repeat", "The two passwords differ.").WithMend("Run the command again.")
	}
	return one, err
}
