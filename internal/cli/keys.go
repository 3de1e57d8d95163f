package cli

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func (a *app) keys() *cobra.Command {
	c := group("keys", "Encryption keys: status, rotation, re-wrapping, shredding", a.keysStatus(), a.keysRotate(), a.keysRewrap(), a.keysShred(), a.keysHold(), a.keysCanary(), a.keysStorage())
	c.Long = `The keys that encrypt what the platform stores: one keyset per organisation and
one of the installation, wrapped by a key-encryption key.

The API keys that clients call with are another matter: see ` + "`foundry key`" + `.`
	return c
}

func (a *app) keysStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show every keyset, its keys and what they have sealed", Args: exactly(), Example: "  foundry keys status\n  foundry keys status --json | jq .kek",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s api.EncryptionStatus
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/encryption", nil, &s); err != nil {
				return err
			}
			return a.print(s, func(w io.Writer) { writeKeys(w, s) })
		},
	}
}

func writeKeys(w io.Writer, s api.EncryptionStatus) {
	fmt.Fprintf(w, "Key-encryption key\t%s, from %s %s\n", s.KEK.Fingerprint, s.KEK.Provider, s.KEK.Place)
	if len(s.KEK.Older) > 0 {
		fmt.Fprintf(w, "Also known\t%s\n", strings.Join(s.KEK.Older, ", "))
	}
	fmt.Fprintf(w, "Keyring in files\t%s\n", strings.Join(s.Files.Keys, ", "))
	if s.Files.RotatedAt != nil && s.Files.OlderUntil != nil {
		fmt.Fprintf(w, "  rotated\t%s; mail under its older keys is gone by %s, and what else is under them --json says\n",
			s.Files.RotatedAt.UTC().Format(time.DateOnly), s.Files.OlderUntil.UTC().Format(time.DateOnly))
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "KEYSET\tKEY\tSTATUS\tMADE\tSEALED\tVALUES\tSTORED\tWRAPPED BY\tWRAPPED")
	for _, k := range s.Keysets {
		if k.DestroyedAt != nil {
			fmt.Fprintf(w, "%s\t–\tshredded\t%s\t–\t–\t–\t–\t–\n", k.Name, k.DestroyedAt.Local().Format(time.DateOnly))
			continue
		}
		for _, key := range k.Keys {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", k.Name, key.Name, key.Status, key.MadeAt.Local().Format(time.DateOnly), bytesText(key.Bytes), key.Values, key.Stored,
				k.KEK, k.WrappedAt.Local().Format(time.DateOnly))
		}
		if k.Hold != "" {
			fmt.Fprintf(w, "%s\tlegal hold: %s\n", k.Name, k.Hold)
		}
	}
	for _, warning := range s.Warnings {
		fmt.Fprintf(w, "\n! %s", warning)
	}
	if s.Storage.State != "" {
		fmt.Fprintln(w)
		writeStorage(w, s.Storage)
	}
}

func bytesText(n int64) string {
	for i, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if n < 1<<(10*(i+1)) {
			return fmt.Sprintf("%d %s", n>>(10*i), unit)
		}
	}
	return fmt.Sprintf("%d TiB", n>>40)
}

func writeStorage(w io.Writer, r keys.StorageReport) {
	fmt.Fprintf(w, "\nThis node's storage\t%s\n", r.State)
	for _, c := range r.Checks {
		fmt.Fprintf(w, "  %s\t%s: %s\n", c.Name, c.State, c.Detail)
		if c.Mend != "" && c.State != keys.Pass {
			fmt.Fprintf(w, "  \t→ %s\n", c.Mend)
		}
	}
}

func (a *app) keysStorage() *cobra.Command {
	return &cobra.Command{
		Use: "storage", Short: "Show whether this node's volume, swap, core dumps and file modes protect the data", Args: exactly(), Example: "  foundry keys storage",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var r keys.StorageReport
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/encryption/storage", nil, &r); err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) { writeStorage(w, r) })
		},
	}
}

func (a *app) keysRotate() *cobra.Command {
	var org string
	var all bool
	c := &cobra.Command{
		Use: "rotate", Short: "Make a new key, and re-encrypt what older ones sealed", Args: exactly(),
		Long: `Makes a new key for a keyset and re-encrypts every stored value with it, while
the platform goes on. A rotation that was interrupted goes on by itself when the
node runs again. Older keys are disabled once nothing refers to them, and
destroyed a day later.

Without a flag the installation's own keyset is rotated, and the keyring in
files with it: the local authority's key is sealed anew at once, the snapshot
within a minute, and the journal's segments before that keep their older key
until they are shipped.`,
		Example: "  foundry keys rotate\n  foundry keys rotate --org st-mary\n  foundry keys rotate --all",
		RunE: func(cmd *cobra.Command, _ []string) error {
			names := []string{api.Installation}
			if org != "" {
				names = []string{org}
			}
			if all {
				var s api.EncryptionStatus
				if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/encryption", nil, &s); err != nil {
					return err
				}
				for _, k := range s.Keysets {
					if k.DestroyedAt == nil && k.Name != api.Installation {
						names = append(names, k.Name)
					}
				}
			}
			var done []keys.Progress
			for _, name := range names {
				p, err := a.rotateOne(cmd.Context(), name)
				if err != nil {
					return err
				}
				done = append(done, p)
			}
			return a.print(done, func(w io.Writer) {
				for i, p := range done {
					fmt.Fprintf(w, "%s: the key is %s now; %d values re-encrypted, %d older keys disabled.\n", names[i], p.Key, p.Done, len(p.Disabled))
				}
			})
		},
	}
	c.Flags().StringVar(&org, "org", "", "organisation whose keyset is rotated")
	c.Flags().BoolVar(&all, "all", false, "rotate every keyset, one after the other")
	c.MarkFlagsMutuallyExclusive("org", "all")
	return c
}

// rotateOne starts a rotation and follows it.
func (a *app) rotateOne(ctx context.Context, name string) (p keys.Progress, err error) {
	if err := a.call(ctx, http.MethodPost, "/api/v1/encryption/rotations", map[string]string{"organisation": name}, &p); err != nil {
		return p, err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for p.Ended == nil {
		if terminal(a.err) {
			fmt.Fprintf(a.err, "\r\033[K%s %s", name, rotationBar(p))
		}
		select {
		case <-ctx.Done():
			return p, problem.New(problem.Canceled, "rotation-left", "The rotation goes on without you.").WithMend("`foundry keys status` shows how far it is.")
		case <-tick.C:
		}
		if err := a.call(ctx, http.MethodGet, "/api/v1/encryption/rotations/"+url.PathEscape(name), nil, &p); err != nil {
			return p, err
		}
	}
	if terminal(a.err) {
		fmt.Fprint(a.err, "\r\033[K")
	}
	if p.Error != "" {
		return p, problem.New(problem.Unavailable, "rotation-failed", p.Error).WithMend("It goes on by itself; `foundry keys status` shows how far it is.")
	}
	return p, nil
}

// rotationBar draws how far a rotation is.
func rotationBar(p keys.Progress) string {
	const width = 30
	full := width
	if p.Total > 0 {
		full = int(min(p.Done, p.Total) * width / p.Total)
	}
	return fmt.Sprintf("[%s%s] %d of %d %s", strings.Repeat("#", full), strings.Repeat(".", width-full), p.Done, p.Total, p.Column)
}

func (a *app) keysRewrap() *cobra.Command {
	var fresh bool
	c := &cobra.Command{
		Use: "rewrap", Short: "Wrap every keyset with the key-encryption key in force, or with a new one", Args: exactly(),
		Long: `Wraps every keyset anew, about 150 bytes each; what they seal stays as it is.

To change to a key-encryption key of another place: write it under keys.kek or
keys.age, name the old one under keys.previous, restart every node, then run
this command, and take the old one out again.

With --new the node makes the new key itself, in the place of the old one, which
it keeps beside it as a retired file: move that to escrow, because backups made
before need it, or destroy it. Use --new only where one node uses the database,
or hand the new key to the others at once.`,
		Example: "  foundry keys rewrap\n  foundry keys rewrap --new",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var r keys.Rewrapped
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/encryption/rewraps", map[string]bool{"new": fresh}, &r); err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) {
				fmt.Fprintf(w, "%d keysets and %d files are wrapped anew; the key-encryption key is %s.\n", r.Keysets, r.Files, r.KEK)
				if r.Retired != "" {
					fmt.Fprintf(w, "The old key is kept as %s: move it to escrow, or destroy it.\n", r.Retired)
				}
			})
		},
	}
	c.Flags().BoolVar(&fresh, "new", false, "make a new key-encryption key")
	return c
}

func (a *app) keysShred() *cobra.Command {
	var reason string
	request := &cobra.Command{
		Use: "request ORG", Short: "Ask for the keys of an organisation to be destroyed", Args: exactly("ORG"),
		Long: `Asks for the keys of an organisation to be destroyed, and with them everything
that was ever sealed for it, also in backups once these have expired. Two other
people must approve; then an undo window runs, in which anybody who may approve
can cancel. After it nobody can bring the data back.`,
		Example: `  foundry keys shred request st-mary --reason "contract 2026-17 ended, ticket 4711"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.shred(cmd.Context(), http.MethodPost, "", map[string]string{"organisation": args[0], "reason": reason})
		},
	}
	request.Flags().StringVar(&reason, "reason", "", "why, with a reference")
	_ = request.MarkFlagRequired("reason")
	approve := &cobra.Command{
		Use: "approve ID", Short: "Approve a request; the second approval starts the undo window", Args: exactly("ID"), Example: "  foundry keys shred approve 0190…",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.shred(cmd.Context(), http.MethodPost, "/"+url.PathEscape(args[0])+"/approvals", nil)
		},
	}
	cancel := &cobra.Command{
		Use: "cancel ID", Short: "Cancel a request before its undo window has ended", Args: exactly("ID"), Example: "  foundry keys shred cancel 0190…",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.shred(cmd.Context(), http.MethodDelete, "/"+url.PathEscape(args[0]), nil)
		},
	}
	list := &cobra.Command{
		Use: "list", Short: "List requests, and what was said about each when it was executed", Args: exactly(), Example: "  foundry keys shred list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out []api.Shred
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/encryption/shreds", nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintln(w, "ID\tORGANISATION\tSTATE\tASKED FOR BY\tAPPROVED BY\tENDS AFTER\tREASON")
				for _, s := range out {
					after := ""
					if s.ExecuteAfter != nil {
						after = s.ExecuteAfter.Local().Format(time.DateTime)
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.ID, s.Name, s.State, s.RequestedBy,
						orDash(strings.Trim(s.FirstApprover+" "+s.SecondApprover, " ")), orDash(after), s.Reason)
				}
			})
		},
	}
	return group("shred", "Destroy the keys of an organisation, with two approvals and an undo window", request, approve, cancel, list)
}

func (a *app) shred(ctx context.Context, method, path string, in any) error {
	var s api.Shred
	if err := a.call(ctx, method, "/api/v1/encryption/shreds"+path, in, &s); err != nil {
		return err
	}
	return a.print(s, func(w io.Writer) {
		fmt.Fprintf(w, "Request %s to shred the keys of %s is %s.\n", s.ID, s.Name, s.State)
		switch {
		case s.State == keys.ShredApproved:
			fmt.Fprintf(w, "The keys are destroyed after %s, unless somebody cancels: foundry keys shred cancel %s\n", s.ExecuteAfter.Local().Format(time.DateTime), s.ID)
		case s.State == keys.ShredRequested && s.FirstApprover == "":
			fmt.Fprintf(w, "Two other people must approve: foundry keys shred approve %s\n", s.ID)
		case s.State == keys.ShredRequested:
			fmt.Fprintf(w, "One more person must approve: foundry keys shred approve %s\n", s.ID)
		}
	})
}

func (a *app) keysHold() *cobra.Command {
	var reason string
	var release bool
	c := &cobra.Command{
		Use: "hold ORG", Short: "Put an organisation's keys on legal hold, so that they cannot be shredded", Args: exactly("ORG"),
		Example: "  foundry keys hold st-mary --reason \"court order 17/26\"\n  foundry keys hold st-mary --release",
		RunE: func(cmd *cobra.Command, args []string) error {
			var s api.EncryptionStatus
			path := "/api/v1/encryption/holds/" + url.PathEscape(args[0])
			method, body, said := http.MethodPut, any(map[string]string{"reason": reason}), "on legal hold"
			if release {
				method, body, said = http.MethodDelete, nil, "released from legal hold"
			}
			if err := a.call(cmd.Context(), method, path, body, &s); err != nil {
				return err
			}
			return a.print(s, func(w io.Writer) { fmt.Fprintf(w, "The keys of %s are %s.\n", args[0], said) })
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, with a reference")
	c.Flags().BoolVar(&release, "release", false, "end the hold")
	c.MarkFlagsOneRequired("reason", "release")
	c.MarkFlagsMutuallyExclusive("reason", "release")
	return c
}

func (a *app) keysCanary() *cobra.Command {
	return &cobra.Command{
		Use: "canary", Short: "Plant known secrets, and search for them wherever they must not be", Args: exactly(),
		Long: `Plants a plaintext, a key and an API token on the ways that clients' content
takes, then searches the database's files, its write-ahead log, the journal, the
other files of the data directory, temporary files, the log, core dumps and the
node's memory for them: as they are, in hex, in base64 at every alignment, and in
UTF-16. What could not be read makes the result inconclusive, never a pass.
Exits with 0 for pass, 70 for fail and 69 for inconclusive.`,
		Example: "  foundry keys canary\n  foundry keys canary --json | jq .state",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var r keys.CanaryReport
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/encryption/canaries", nil, &r); err != nil {
				return err
			}
			err := a.print(r, func(w io.Writer) { writeCanary(w, r) })
			switch {
			case err == nil && r.State == keys.Fail:
				return problem.New(problem.Internal, "canary-found", "A planted secret lies where it must not be.").WithMend("docs/guides/encryption.md says what each place means.")
			case err == nil && r.State != keys.Pass:
				return problem.New(problem.Unavailable, "canary-inconclusive", "Nothing was found, but not everything could be searched.").WithMend("The areas above say what, and why.")
			}
			return err
		},
	}
}

func writeCanary(w io.Writer, r keys.CanaryReport) {
	fmt.Fprintf(w, "Canary: %s\t(%s)\n", r.State, r.Took)
	for _, p := range r.Planted {
		fmt.Fprintf(w, "  planted\t%s\n", p)
	}
	for _, area := range r.Areas {
		fmt.Fprintf(w, "  %s\t%s\t%d files, %s\t%s\n", area.Name, area.State, area.Files, bytesText(area.Bytes), area.Detail)
		for i, f := range area.Finds {
			if i == 10 {
				fmt.Fprintf(w, "    \tand %d more\n", len(area.Finds)-i)
				break
			}
			fmt.Fprintf(w, "    \tFOUND %s (%s) in %s at byte %d\n", f.Needle, f.Form, f.Where, f.Offset)
		}
		for _, u := range area.Unread {
			fmt.Fprintf(w, "    \tnot read: %s\n", u)
		}
	}
}

// askPassphrase asks an operator on the terminal, without showing what is typed.
func (a *app) askPassphrase(context.Context) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, problem.New(problem.Unavailable, "age-locked", "The age identity is locked with a passphrase, and there is no terminal to ask on.").
			WithField("keys.age.passphrase").WithMend("Start the node on a terminal, or give the passphrase as a credential.")
	}
	defer tty.Close()
	fd := int(tty.Fd())
	was, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("reading the terminal's settings: %w", err)
	}
	quiet := *was
	quiet.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &quiet); err != nil {
		return nil, fmt.Errorf("changing the terminal's settings: %w", err)
	}
	defer func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, was) }()
	fmt.Fprint(tty, "\r\033[KPassphrase of the age identity: ")
	line, err := bufio.NewReader(tty).ReadBytes('\n')
	fmt.Fprintln(tty)
	if err != nil {
		return nil, fmt.Errorf("reading the passphrase: %w", err)
	}
	return bytes.TrimRight(line, "\r\n"), nil
}
