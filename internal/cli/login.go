package cli

import (
	"bufio"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

type loginFlags struct{ email, authority, organisation string }

func (a *app) login() *cobra.Command {
	var f loginFlags
	c := &cobra.Command{
		Use:   "login",
		Short: "Sign in with a password and a second factor",
		Long: `Sign in with a password and a second factor. Later commands then act as you:
in production nothing but bootstrap, status and break-glass is answered without.

Without --server it signs in to the node that runs on this machine's data
directory. Password and code are asked for on the terminal; without a terminal
they are the first two lines of the standard input. Passkeys work in the
console; the command line asks for the code of an authenticator app or a
recovery code.

While the database is down, operators of the platform sign in in the same way on
any node that is left: for incidents, recoveries, the fleet and its state, for
half an hour at most, with an authenticator app and without recovery codes.`,
		Example: `  foundry login --email ada@example.org
  foundry login --server https://node1.example.org:8443 --ca node1-ca.pem --email ada@example.org
  foundry login --email ada@example.org --organisation st-mary`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.signIn(cmd.Context(), f) },
	}
	c.Flags().StringVar(&f.email, "email", "", "your address")
	c.Flags().StringVar(&f.authority, "ca", "", "PEM file of the server's certificate authority (default: the system's, or the local node's)")
	c.Flags().StringVar(&f.organisation, "organisation", "", "act in this organisation")
	_ = c.MarkFlagRequired("email")
	return c
}

func (a *app) signIn(ctx context.Context, f loginFlags) error {
	s, err := a.destination(ctx, f)
	if err != nil {
		return err
	}
	ask := a.asker()
	password, err := ask.secret("Password: ")
	if err != nil {
		return err
	}
	var progress access.Progress
	if err := a.remote(ctx, s, "POST", "/api/v1/signin", map[string]any{"email": f.email, "password": password}, &progress); err != nil {
		return err
	}
	signed := progress.SignedIn
	if signed == nil {
		if signed, err = a.secondFactor(ctx, s, progress, ask); err != nil {
			return err
		}
	}
	s.Token, s.ExpiresAt = signed.Token, signed.Session.ExpiresAt
	if f.organisation != "" {
		var entered access.SignedIn
		if err := a.remote(ctx, s, "POST", "/api/v1/session/enter", map[string]any{"organisation": f.organisation}, &entered); err != nil {
			return errors.Join(err, a.remote(ctx, s, "DELETE", "/api/v1/session", nil, nil))
		}
		s.Token, s.ExpiresAt = entered.Token, entered.Session.ExpiresAt
	}
	if err := saveSession(*s); err != nil {
		return err
	}
	return a.print(map[string]any{"server": s.Server, "expires_at": s.ExpiresAt}, func(w io.Writer) {
		fmt.Fprintf(w, "Signed in to %s until %s.\n", s.Server, s.ExpiresAt.Local().Format("15:04"))
	})
}

func (a *app) secondFactor(ctx context.Context, s *savedSession, progress access.Progress, ask *asker) (*access.SignedIn, error) {
	if !slices.Contains(progress.Factors, access.FactorTOTP) && !slices.Contains(progress.Factors, access.FactorRecovery) {
		return nil, problem.New(problem.Unsupported, "factor-browser", "Your second factor is a passkey, which needs a browser.").
			WithMend("Sign in to the console, and add an authenticator app to your account for the command line.")
	}
	code, err := ask.secret("Code of your authenticator app, or a recovery code: ")
	if err != nil {
		return nil, err
	}
	factor := access.FactorTOTP
	if code = strings.TrimSpace(code); len(code) != 6 {
		factor = access.FactorRecovery
	}
	var signed access.SignedIn
	err = a.remote(ctx, s, "POST", "/api/v1/signin/factor", map[string]any{"ceremony": progress.Ceremony, "factor": factor, "code": code}, &signed)
	return &signed, err
}

// destination is the server to sign in to, with what vouches for it.
func (a *app) destination(ctx context.Context, f loginFlags) (*savedSession, error) {
	s := &savedSession{Server: strings.TrimSuffix(a.server, "/")}
	authority := f.authority
	if s.Server == "" {
		dir, err := filepath.Abs(a.dir())
		if err != nil {
			return nil, err
		}
		var status daemon.Status
		if err := a.local(ctx, "GET", "/api/v1/status", nil, &status); err != nil {
			return nil, err
		}
		s.Server, s.DataDir = strings.TrimSuffix(status.URL, "/"), dir
		if authority == "" {
			authority = daemon.AuthorityFile(dir)
		}
	}
	if u, err := url.Parse(s.Server); err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" {
		return nil, problem.New(problem.Invalid, "server", fmt.Sprintf("%q is not the address of a server.", a.server)).WithField("--server").
			WithMend("Use for example https://node1.example.org:8443.")
	}
	if authority == "" {
		return s, nil
	}
	text, err := os.ReadFile(authority)
	if err != nil {
		return nil, problem.New(problem.Invalid, "ca-file", "The certificate authority's file cannot be read: "+err.Error()+".").WithField("--ca").
			WithMend("`foundry ca` on the server prints it.")
	}
	if block, _ := pem.Decode(text); block == nil || block.Type != "CERTIFICATE" {
		return nil, problem.New(problem.Invalid, "ca-file", authority+" holds no certificate in PEM form.").WithField("--ca").
			WithMend("`foundry ca` on the server prints it.")
	}
	s.Authority = string(text)
	return s, nil
}

func (a *app) logout() *cobra.Command {
	return &cobra.Command{
		Use: "logout", Short: "End the session that login made",
		Example: "  foundry logout\n  foundry logout --server https://node1.example.org:8443",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.session()
			if err != nil {
				return err
			}
			if s == nil {
				return problem.New(problem.NotFound, "session-missing", "You are not signed in.").WithMend("Nothing needs to be done.")
			}
			ended := a.remote(cmd.Context(), s, "DELETE", "/api/v1/session", nil, nil)
			if ended != nil && problem.From(ended).Kind == problem.Unauthenticated {
				ended = nil // it had ended already
			}
			if ended != nil {
				return ended // keep the token: the session is still open there
			}
			if err := saveSession(savedSession{Server: s.Server}); err != nil {
				return err
			}
			return a.print(map[string]any{"server": s.Server, "signed_in": false}, func(w io.Writer) { fmt.Fprintf(w, "Signed out of %s.\n", s.Server) })
		},
	}
}

func (a *app) whoami() *cobra.Command {
	return &cobra.Command{
		Use: "whoami", Short: "Show who you are signed in as, and what you may do",
		Example: "  foundry whoami\n  foundry whoami --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.session()
			if err != nil {
				return err
			}
			if s == nil {
				return problem.New(problem.Unauthenticated, "session-missing", "You are not signed in.").WithMend("Run `foundry login`.")
			}
			var id api.Identity
			if err := a.remote(cmd.Context(), s, "GET", "/api/v1/session", nil, &id); err != nil {
				return err
			}
			return a.print(id, func(w io.Writer) {
				where := "the platform"
				if id.Organisation != "" {
					where = id.Organisation
				}
				who := fmt.Sprintf("%s <%s>", id.Person.Name, id.Person.Email)
				if id.Person.Email == "" { // signed in without the database, which has it
					who = id.Person.Name
				}
				fmt.Fprintf(w, "%s on %s, acting in %s\n", who, s.Server, where)
				fmt.Fprintf(w, "Roles:\t%s\n", strings.Join(id.Roles, ", "))
				second := "not shown in this session"
				if id.SecondFactor != nil {
					second = "shown " + time.Since(*id.SecondFactor).Round(time.Minute).String() + " ago"
				}
				fmt.Fprintf(w, "Second factor:\t%s\n", second)
				for _, m := range id.Person.Memberships {
					fmt.Fprintf(w, "Member:\t%s\t%s\n", m.Organisation, strings.Join(m.RoleNames, ", "))
				}
			})
		},
	}
}

func (a *app) stepUp() *cobra.Command {
	return &cobra.Command{
		Use: "step-up", Short: "Show your second factor again, for an administrative act",
		Long: `Administrative acts need a second factor that was shown in the last 15 minutes.
The code is asked for on the terminal, or is the first line of the standard
input.`,
		Example: "  foundry step-up",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.session()
			if err != nil {
				return err
			}
			if s == nil {
				return problem.New(problem.Unauthenticated, "session-missing", "You are not signed in.").WithMend("Run `foundry login`.")
			}
			code, err := a.asker().secret("Code of your authenticator app: ")
			if err != nil {
				return err
			}
			var signed access.SignedIn
			if err := a.remote(cmd.Context(), s, "POST", "/api/v1/session/step-up", map[string]any{"code": strings.TrimSpace(code)}, &signed); err != nil {
				return err
			}
			s.Token, s.ExpiresAt = signed.Token, signed.Session.ExpiresAt
			if err := saveSession(*s); err != nil {
				return err
			}
			return a.print(map[string]any{"server": s.Server, "until": time.Now().Add(15 * time.Minute)}, func(w io.Writer) {
				fmt.Fprintln(w, "Administrative acts are open to you for 15 minutes.")
			})
		},
	}
}

// asker reads secrets: from the terminal without showing them, otherwise line
// by line from the standard input.
type asker struct {
	a     *app
	tty   int
	lines *bufio.Reader
}

func (a *app) asker() *asker {
	if f, ok := a.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return &asker{a: a, tty: int(f.Fd())}
	}
	return &asker{a: a, tty: -1, lines: bufio.NewReader(io.LimitReader(a.in, 8<<10))}
}

func (q *asker) secret(prompt string) (string, error) {
	if q.tty < 0 {
		line, err := q.lines.ReadString('\n')
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			return line, nil
		}
		if err == nil || errors.Is(err, io.EOF) {
			return "", problem.New(problem.Invalid, "input-missing", strings.TrimSuffix(prompt, ": ")+" is missing in the standard input.").
				WithMend("Run the command on a terminal, or give one secret on each line.")
		}
		return "", err
	}
	fmt.Fprint(q.a.err, prompt)
	in, _ := q.a.in.(*os.File) // it has a terminal, so it is a file
	return q.a.typed(in, true, func() (string, error) {
		text, err := term.ReadPassword(q.tty)
		fmt.Fprintln(q.a.err)
		return string(text), err
	})
}
