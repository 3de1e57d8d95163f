package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/problem"
)

const mirrorsPath = "/api/v1/backup-mirrors"

func (a *app) backupMirrors() *cobra.Command {
	c := &cobra.Command{
		Use: "mirrors", Short: "Mirrors of code repositories", Args: exactly(),
		Long:    "Shows the mirrors of code repositories: how old each is and may be, what it holds,\nand what went wrong at the last fetch. They are named under backup.mirrors and\nbackup.gitea in the configuration, and are in every backup of the files.",
		Example: "  foundry backup mirrors\n  foundry backup mirrors --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return listOf(a, cmd.Context(), mirrorsPath, tableOfMirrors)
		},
	}
	c.AddCommand(a.mirrorShow(), a.mirrorFetch(), a.mirrorProve(), a.mirrorPush())
	return c
}

func (a *app) mirrorShow() *cobra.Command {
	return &cobra.Command{
		Use: "show MIRROR", Short: "Show one mirror", Args: exactly("MIRROR"),
		Long: "Shows one mirror with what was proven of it, here and of a restored copy.", Example: "  foundry backup mirrors show app",
		RunE: func(cmd *cobra.Command, args []string) error {
			var m backup.MirrorStatus
			if err := a.call(cmd.Context(), http.MethodGet, mirrorsPath+"/"+url.PathEscape(args[0]), nil, &m); err != nil {
				return err
			}
			return a.print(m, func(w io.Writer) { describeMirror(w, m) })
		},
	}
}

func (a *app) mirrorFetch() *cobra.Command {
	return &cobra.Command{
		Use: "fetch MIRROR", Short: "Bring a mirror up to date now", Args: exactly("MIRROR"),
		Long: "Fetches everything of a repository that its mirror does not have, and waits. What\nthe server lost or rewrote stays in the mirror.", Example: "  foundry backup mirrors fetch app",
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := a.mirrorWork(cmd.Context(), args[0], "fetches", nil)
			if err != nil {
				return err
			}
			if err := a.print(m, func(w io.Writer) { describeMirror(w, m) }); err != nil {
				return err
			}
			if m.Code != "" {
				return standingError{1}
			}
			return nil
		},
	}
}

func (a *app) mirrorProve() *cobra.Command {
	return &cobra.Command{
		Use: "prove MIRROR", Short: "Clone a mirror, check it out, and build it if the configuration says how", Args: exactly("MIRROR"),
		Long:    "Clones a mirror, has Git check every object, checks the newest commit out, and\nbuilds it where the configuration says how. What a backup of the mirror is good\nfor, a drill says: foundry backup drill --subject files." + provenHelp,
		Example: "  foundry backup mirrors prove app",
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := a.mirrorWork(cmd.Context(), args[0], "proofs", nil)
			if err != nil {
				return err
			}
			if err := a.print(m, func(w io.Writer) { describeMirror(w, m) }); err != nil {
				return err
			}
			if m.Proof == nil {
				return standingError{3}
			}
			return outcomeCode(backup.Outcome(m.Proof.Proof.Outcome))
		},
	}
}

// pushFlags name files: what is in them is sent, never where they are.
type pushFlags struct {
	backup.MirrorPush
	password, key, knownHosts, ca string
}

func (a *app) mirrorPush() *cobra.Command {
	var f pushFlags
	c := &cobra.Command{
		Use: "push MIRROR --to URL", Short: "Bring a mirror to a new, empty repository", Args: exactly("MIRROR"),
		Long: `Pushes the branches, tags and notes of a mirror to a new, empty repository on
another server, and compares what arrived. A repository that holds anything is
not touched. The code leaves this node: people are told, and the act is entered
with its reason.

What it signs in with is read from files on this machine, sent to the node, used
once and kept nowhere.`,
		Example: `  foundry backup mirrors push app --to https://git.example.org/team/app.git --user team --password-file token --reason "the old server is gone"
  foundry backup mirrors push app --to ssh://git@git.example.org/team/app.git --key-file id_ed25519 --known-hosts known_hosts --reason "the old server is gone"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.read(); err != nil {
				return err
			}
			m, err := a.mirrorWork(cmd.Context(), args[0], "pushes", f.MirrorPush)
			if err != nil {
				return err
			}
			if err := a.print(m, func(w io.Writer) { describePush(w, m) }); err != nil {
				return err
			}
			if m.Push == nil || m.Push.Ended == nil || m.Push.Code != "" {
				return standingError{1}
			}
			return nil
		},
	}
	c.Flags().StringVar(&f.To, "to", "", "address of the new, empty repository: https:// or ssh://")
	c.Flags().StringVar(&f.User, "user", "", "who signs in over https (default git)")
	c.Flags().StringVar(&f.password, "password-file", "", "file with the password or token, over https")
	c.Flags().StringVar(&f.key, "key-file", "", "file with the private key, over SSH")
	c.Flags().StringVar(&f.knownHosts, "known-hosts", "", "file with the SSH server's own key, as of ssh-keyscan")
	c.Flags().StringVar(&f.ca, "ca", "", "PEM file with the authority of the server's certificate (default: those of the system)")
	c.Flags().BoolVar(&f.Private, "private", false, "the server stands in a private network or on this machine")
	c.Flags().StringVar(&f.Reason, "reason", "", "why the code goes there, in a sentence")
	for _, name := range []string{"to", "reason"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flag is there
		}
	}
	return c
}

func (f *pushFlags) read() error {
	for _, one := range []struct {
		path, flag string
		to         *string
	}{{f.password, "password-file", &f.Password}, {f.key, "key-file", &f.Key}, {f.knownHosts, "known-hosts", &f.KnownHosts}, {f.ca, "ca", &f.CA}} {
		if one.path == "" {
			continue
		}
		text, err := os.ReadFile(one.path)
		if err != nil {
			return problem.New(problem.NotFound, "push-file", "The file cannot be read: "+one.path+".").WithField(one.flag).WithMend("Name a file that you may read.").Wrap(err)
		}
		*one.to = string(text)
	}
	f.Password = strings.TrimRight(f.Password, "\r\n")
	return nil
}

// mirrorWork begins something with a mirror and follows it to its end.
func (a *app) mirrorWork(ctx context.Context, name, what string, in any) (m backup.MirrorStatus, err error) {
	path := mirrorsPath + "/" + url.PathEscape(name)
	if err := a.call(ctx, http.MethodPost, path+"/"+what, in, &m); err != nil {
		return m, err
	}
	person, said := terminal(a.err) && !a.json, ""
	for m.Doing != "" {
		if person && m.Doing != said {
			said = m.Doing
			fmt.Fprintf(a.err, "%s %s …\n", strings.ToUpper(said[:1])+said[1:], name)
		}
		select {
		case <-ctx.Done():
			return m, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
		m = backup.MirrorStatus{} // what the answer leaves out is not as it was
		if err := a.call(ctx, http.MethodGet, path, nil, &m); err != nil {
			return m, err
		}
	}
	return m, nil
}

func tableOfMirrors(w io.Writer, all []backup.MirrorStatus) {
	if len(all) == 0 {
		fmt.Fprintln(w, "No repository is mirrored. Name some under backup.mirrors or backup.gitea in the configuration.")
		return
	}
	fmt.Fprintln(w, "MIRROR\tFETCHED\tAT MOST\tREFS\tNEWEST COMMIT\tSTATE\tPROVEN\tADDRESS")
	for _, m := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", m.Name, ageOf(m), seconds(m.MaxAge), m.Refs, commitOf(m), mirrorWord(m), triedWord(m.Proof), m.URL)
		if m.Code != "" {
			fmt.Fprintf(w, "  why\t%s %s\n", m.Reason, m.Mend)
		}
	}
}

func ageOf(m backup.MirrorStatus) string {
	if m.Age < 0 {
		return "never"
	}
	return seconds(m.Age) + " ago"
}

func commitOf(m backup.MirrorStatus) string {
	if m.Commit == "" {
		return "none"
	}
	text := m.Commit[:min(12, len(m.Commit))]
	if m.CommitAt != nil {
		text += " of " + moment(*m.CommitAt)
	}
	return text
}

func mirrorWord(m backup.MirrorStatus) string {
	switch {
	case m.Doing != "":
		return m.Doing
	case m.Age < 0:
		return "NEVER FETCHED"
	case m.Outcome == backup.Fail:
		return "TOO OLD"
	case !m.Configured:
		return "not configured"
	case m.Code != "":
		return "last fetch failed"
	}
	return "fresh"
}

func triedWord(t *backup.TriedMirror) string {
	if t == nil {
		return "never"
	}
	return t.Proof.Outcome + ", " + moment(t.At)
}

func describeMirror(w io.Writer, m backup.MirrorStatus) {
	fmt.Fprintf(w, "mirror\t%s\naddress\t%s\nstate\t%s\nfetched\t%s, at most %s\nholds\t%d refs, %s, newest commit %s\n", m.Name, m.URL, mirrorWord(m), ageOf(m), seconds(m.MaxAge), m.Refs, bytesOf(m.Bytes), commitOf(m))
	if m.Kept > 0 {
		fmt.Fprintf(w, "kept\t%d refs that the server lost or rewrote, below refs/foundry/\n", m.Kept)
	}
	if m.Code != "" {
		fmt.Fprintf(w, "the last fetch failed\t%s\n  next\t%s\n", m.Reason, m.Mend)
	}
	fmt.Fprintf(w, "proven here\t%s\n", triedWord(m.Proof))
	if m.Proof != nil {
		for _, c := range m.Proof.Proof.Checks {
			fmt.Fprintf(w, "  %s\t%s\t%s\n", c.Outcome, c.Name, c.Reason)
		}
	}
	fmt.Fprintf(w, "a restored copy\t%s\n", triedWord(m.Restored))
	if m.Push != nil {
		describePush(w, m)
	}
}

func describePush(w io.Writer, m backup.MirrorStatus) {
	p := m.Push
	switch {
	case p == nil:
		fmt.Fprintln(w, "It was never brought to another server.")
	case p.Code != "":
		fmt.Fprintf(w, "not brought to\t%s\n  why\t%s\n  next\t%s\n", p.To, p.Reason, p.Mend)
	case p.Ended == nil:
		fmt.Fprintf(w, "being brought to\t%s\n", p.To)
	default:
		fmt.Fprintf(w, "brought to\t%s\n  arrived\t%d branches, tags and notes, compared one by one\n", p.To, p.Refs)
	}
}
