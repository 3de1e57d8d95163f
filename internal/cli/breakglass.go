package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/problem"
)

func (a *app) breakglass() *cobra.Command {
	c := group("breakglass", "The emergency kit: the recovery key, its shares, and the way in when nobody else can",
		a.glassStatus(), a.glassLook(), a.glassBriefing(), a.glassCreate(), a.glassApprove(), a.glassOpen(), a.glassEnd(), a.glassReview(), a.glassDrill(), a.glassAttest())
	c.Long = `The emergency kit brings this node back on a bare machine, and lets somebody in
when nobody can sign in. It is a file that the node keeps current at every target
of its backups, encrypted to a recovery key that the node does not have: the key
is split into shares that people keep on paper, of which several are needed.

docs/guides/emergency-kit.md explains how to make one and who should keep what.`
	return c
}

func (a *app) glassStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Say whether the kit is current, where copies lie, and what waits for a review", Args: exactly(), Example: "  foundry breakglass status",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s backup.GlassStatus
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/emergency", nil, &s); err != nil {
				return err
			}
			return a.print(s, func(w io.Writer) { writeGlass(w, s) })
		},
	}
}

func writeGlass(w io.Writer, s backup.GlassStatus) {
	state := "NOT READY"
	if s.Ready {
		state = "ready"
	}
	fmt.Fprintf(w, "Emergency kit\t%s: %s\n", state, s.Reason)
	if s.Mend != "" {
		fmt.Fprintf(w, "\t→ %s\n", s.Mend)
	}
	fmt.Fprintf(w, "Could we open it tonight?\t%s\n", s.Tonight.Reason)
	if s.Tonight.Next != "" {
		fmt.Fprintf(w, "\t→ %s\n", s.Tonight.Next)
	}
	if s.Set != "" {
		fmt.Fprintf(w, "Recovery key\tset %s, %d of %d shares needed, made %s\n", s.Set, s.Threshold, s.Shares, s.Created.Local().Format(time.DateTime))
		fmt.Fprintf(w, "Kit made\t%s (%s ago)\n", s.KitMade.Local().Format(time.DateTime), time.Since(s.KitMade).Round(time.Second))
		for _, c := range s.Copies {
			note := "since " + c.At.Local().Format(time.DateTime)
			if c.Failure != "" {
				note = "NOT the newest: " + c.Failure
			} else if !c.Seen.IsZero() {
				note += ", read there " + c.Seen.Local().Format(time.DateTime)
			}
			fmt.Fprintf(w, "Copy\t%s, %s\n", c.Place, note)
		}
		attested := "never attested"
		if s.Attested != nil {
			attested = "attested " + s.Attested.Local().Format(time.DateOnly)
		}
		fmt.Fprintf(w, "Contacts\t%d, %s\n", s.Contacts, attested)
		for _, c := range s.Changed {
			fmt.Fprintf(w, "Changed since it was tried\t%s: %s\n", c.At.Local().Format(time.DateTime), strings.Join(c.What, ", "))
		}
	}
	if d := s.LastDrill; d != nil {
		fmt.Fprintf(w, "Last drill\t%s %s: %s\n", d.At.Local().Format(time.DateTime), d.Outcome, d.Reason)
	}
	if s.Set != "" {
		fmt.Fprintf(w, "Drills due\t%s; by the contact alone %s\n", dueBy(s.DrillDue), dueBy(s.ContactDrillDue))
	}
	for _, r := range s.Requests {
		fmt.Fprintf(w, "New key asked for\t%s by %s, %d of %d: %s\n", r.ID, r.By, r.Threshold, r.Shares, r.State)
	}
	if s.Unanchored > 0 {
		fmt.Fprintf(w, "Waiting\t%d acts wait in a file for the database\n", s.Unanchored)
	}
	for _, o := range s.Openings {
		review := "NOT REVIEWED: foundry breakglass review " + o.ID.String()
		if o.Reviewed != nil {
			review = "reviewed by " + o.ReviewedBy
		}
		if o.Active {
			review = "OPEN NOW for another " + o.Until.Sub(s.At).Round(time.Second).String() + "; " + review
		}
		fmt.Fprintf(w, "Opened\t%s by %s, %s until %s, shares %v; %s\n", o.Opened.Local().Format(time.DateTime), o.By, o.Scope, o.Until.Local().Format("15:04"), o.Shares, review)
	}
}

func dueBy(t *time.Time) string {
	if t == nil {
		return "now"
	}
	return "by " + t.Local().Format(time.DateOnly)
}

func (a *app) glassLook() *cobra.Command {
	return &cobra.Command{
		Use: "look", Short: "Read the copies of the kit where they lie", Args: exactly(), Example: "  foundry breakglass look",
		Long: "Reads every copy of the kit at its target, compares it byte for byte with the\nnewest, and says how break-glass stands.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s backup.GlassStatus
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/emergency/looks", nil, &s); err != nil {
				return err
			}
			return a.print(s, func(w io.Writer) { writeGlass(w, s) })
		},
	}
}

func (a *app) glassBriefing() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "briefing", Short: "Print the briefing for whoever has to recover", Args: exactly(),
		Long:    "Prints who holds which share, whom to call, where the kit lies and what to do. It\nholds no secret, but it names people: that you read it is entered in the audit log.",
		Example: "  foundry breakglass briefing | lpr\n  foundry breakglass briefing --out briefing.html",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var p backup.Printed
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/emergency/briefing", nil, &p); err != nil {
				return err
			}
			if out == "" {
				return a.print(p, func(w io.Writer) { fmt.Fprint(w, p.Text) })
			}
			if err := os.WriteFile(out, []byte(p.HTML), 0o600); err != nil {
				return problem.New(problem.Unavailable, "briefing-file", "The briefing cannot be written: "+out+".").WithField("out").WithMend("Name a file that you may write.").Wrap(err)
			}
			return a.print(map[string]string{"file": out}, func(w io.Writer) { fmt.Fprintf(w, "Print %s, and keep it with the runbook.\n", out) })
		},
	}
	c.Flags().StringVar(&out, "out", "", "write it as a page (HTML) to this file")
	return c
}

type createGlass struct {
	backup.NewKey
	contacts, briefing, out, request string
}

func (a *app) glassCreate() *cobra.Command {
	var f createGlass
	c := &cobra.Command{
		Use: "create", Short: "Make a recovery key and hand its shares out", Args: exactly(),
		Long: `Makes a recovery key, splits it into shares and shows each once: as a page to
print (HTML) and as plain text in a directory that you name, or one after the
other on the terminal. Nobody keeps the key itself; the node keeps its public
half and makes the kit anew whenever something in it changes.

Two people are needed: somebody of the platform's security asks, somebody else
approves, then the first runs the command again with --request. In development
the server's administrator alone is enough.`,
		Example: `  foundry breakglass create --threshold 2 --shares 3 --holder Ada --holder Grace --holder Edith \
    --contacts contacts.yaml --briefing briefing.txt --out /media/usb/shares --reason "first recovery key"
  foundry breakglass create --request 0190c2f0-… --out /media/usb/shares`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.createKey(cmd.Context(), f) },
	}
	c.Flags().IntVar(&f.Threshold, "threshold", 2, "how many shares are needed")
	c.Flags().IntVar(&f.NewKey.Shares, "shares", 3, "how many shares are made")
	c.Flags().StringArrayVar(&f.Holders, "holder", nil, "who keeps a share; once for each")
	c.Flags().StringVar(&f.contacts, "contacts", "", "YAML file with the people to call: under contacts, a list of name, role, phone, mail")
	c.Flags().StringVar(&f.briefing, "briefing", "", "text file with what whoever recovers has to know")
	c.Flags().StringArrayVar(&f.Dirs, "kit-dir", nil, "directory of the node's machine for a copy of the kit, beside the targets")
	c.Flags().StringVar(&f.Reason, "reason", "", "why it is made")
	c.Flags().StringVar(&f.out, "out", "", "directory for the pages of the shares; made, for its owner alone")
	c.Flags().StringVar(&f.request, "request", "", "make the key that was asked for and approved")
	return c
}

func (a *app) createKey(ctx context.Context, f createGlass) error {
	if f.out == "" && (a.json || !a.onTerminal()) {
		return problem.New(problem.Invalid, "shares-where", "The shares have to go somewhere: they are shown once.").WithField("out").WithMend("Name a directory with --out, or run the command on a terminal.")
	}
	if f.out != "" {
		if err := emptyDir(f.out); err != nil { // before a key is made whose shares would be lost
			return err
		}
	}
	id := f.request
	if id == "" {
		if err := f.readFiles(); err != nil {
			return err
		}
		var r backup.KeyRequest
		if err := a.call(ctx, http.MethodPost, "/api/v1/emergency/keys", f.NewKey, &r); err != nil {
			return err
		}
		if r.State != "approved" {
			return a.print(r, func(w io.Writer) {
				fmt.Fprintf(w, "Asked for. Somebody else has to approve it:\n\n  foundry breakglass approve %s\n\nThen run again, within a week:\n\n  foundry breakglass create --request %s --out DIRECTORY\n", r.ID, r.ID)
			})
		}
		id = r.ID.String()
	}
	var made backup.MadeKey
	if err := a.call(ctx, http.MethodPost, "/api/v1/emergency/keys/"+id+"/shares", nil, &made); err != nil {
		return unanswered(ctx, err)
	}
	if f.out == "" {
		return a.showShares(made)
	}
	files, err := writeShares(f.out, made)
	if err != nil {
		return unsaved(made, f.out, err)
	}
	return a.print(map[string]any{"set": made.Set, "kit_file": made.KitFile, "files": files}, func(w io.Writer) {
		fmt.Fprintf(w, "The recovery key of set %s is in force. %d of %d shares are needed.\n\n", made.Set, made.Threshold, len(made.Shares))
		for _, name := range files {
			fmt.Fprintf(w, "  %s\n", name)
		}
		fmt.Fprintf(w, "\nPrint the pages, give each to its holder, and then destroy the files: whoever has\n%d of them and the kit (%s) has everything.\nTry it soon: foundry breakglass drill --kit FILE\n", made.Threshold, made.KitFile)
	})
}

func (f *createGlass) readFiles() error {
	if f.contacts != "" {
		var list struct {
			Contacts []kit.Contact `yaml:"contacts"`
		}
		if err := config.Load(f.contacts, &list); err != nil {
			return err
		}
		f.Contacts = list.Contacts
	}
	if f.briefing != "" {
		text, err := os.ReadFile(f.briefing)
		if err != nil {
			return problem.New(problem.NotFound, "briefing-file", "The briefing cannot be read: "+f.briefing+".").WithField("briefing").WithMend("Name a text file.").Wrap(err)
		}
		f.Briefing = string(text)
	}
	return nil
}

func (a *app) onTerminal() bool {
	in, ok := a.in.(*os.File)
	return ok && term.IsTerminal(int(in.Fd())) && terminal(a.err)
}

// emptyDir makes a directory for its owner alone, or takes one that is empty.
func emptyDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		var entries []fs.DirEntry
		if entries, err = os.ReadDir(dir); err == nil && len(entries) > 0 {
			return problem.New(problem.Conflict, "shares-dir", dir+" is not empty.").WithField("out").WithMend("Name an empty or absent directory, best on a medium that you can destroy.")
		}
		if err == nil {
			err = os.Chmod(dir, 0o700) //nolint:gosec // a directory
		}
	}
	if err != nil {
		return problem.New(problem.Unavailable, "shares-dir", dir+" cannot be used.").WithField("out").WithMend("Name a directory that you may write.").Wrap(err)
	}
	return nil
}

func writeShares(dir string, made backup.MadeKey) (files []string, err error) {
	put := func(name, text string) error {
		path := filepath.Join(dir, name)
		files = append(files, path)
		return os.WriteFile(path, []byte(text), 0o600)
	}
	for _, s := range made.Shares {
		err = errors.Join(err, put(fmt.Sprintf("share-%d.html", s.Index), s.Page.HTML), put(fmt.Sprintf("share-%d.txt", s.Index), s.Page.Text))
	}
	return files, errors.Join(err, put("briefing.html", made.Briefing.HTML), put("briefing.txt", made.Briefing.Text))
}

// showShares shows one share after the other, each to its holder.
func (a *app) showShares(made backup.MadeKey) error {
	ask := a.asker()
	for _, s := range made.Shares {
		for said := ""; said != "yes"; {
			fmt.Fprintf(a.err, "\033[H\033[2J%s\n", s.Page.Text)
			var err error
			if said, err = ask.line(fmt.Sprintf("Share %d is written down, and compared word by word (yes): ", s.Index)); err != nil {
				fmt.Fprint(a.err, "\033[H\033[2J\033[3J")
				return unseen(made, s.Index, err)
			}
		}
		fmt.Fprint(a.err, "\033[H\033[2J\033[3J")
	}
	return a.print(map[string]any{"set": made.Set}, func(w io.Writer) { fmt.Fprintf(w, "%s\n", made.Briefing.Text) })
}

// unseen says what it means that shares were not shown to the end: the key is
// in force, and nobody can have all of it.
func unseen(made backup.MadeKey, index int, cause error) error {
	return problem.New(problem.Canceled, "shares-unseen", fmt.Sprintf("The recovery key of set %s is in force, but its shares were shown only up to share %d of %d.", made.Set, index, len(made.Shares))).
		WithMend("Make a new key at once: `foundry breakglass create`. What was written down of this one is of no use.").Wrap(cause)
}

// unsaved says the same of shares that were not all written.
func unsaved(made backup.MadeKey, dir string, cause error) error {
	return problem.New(problem.Unavailable, "shares-unsaved", fmt.Sprintf("The recovery key of set %s is in force, but its shares could not all be written to %s.", made.Set, dir)).
		WithField("out").WithMend("Make a new key at once, into a directory that takes them: `foundry breakglass create`. What was written of this one is of no use.").Wrap(cause)
}

// unanswered says what it means that the answer with the shares did not come:
// the node may have put a key in force that nobody holds.
func unanswered(ctx context.Context, err error) error {
	if kind := problem.From(err).Kind; ctx.Err() == nil && kind != problem.Unavailable && kind != problem.Timeout {
		return err
	}
	return problem.New(problem.Unavailable, "shares-unanswered", "The node's answer did not come: whether it made the recovery key is not known.").
		WithMend("See `foundry breakglass status`. If the key in force is of just now, nobody has its shares: make another at once with `foundry breakglass create`. The kits of the key before still open with its shares.").Wrap(err)
}

// line asks for something that may be seen.
func (q *asker) line(prompt string) (string, error) {
	fmt.Fprint(q.a.err, prompt)
	in, ok := q.a.in.(*os.File)
	if !ok {
		return q.untilNewline()
	}
	return q.a.typed(in, false, q.untilNewline)
}

// untilNewline takes no more than a line: what follows is somebody else's.
func (q *asker) untilNewline() (string, error) {
	var line []byte
	one := make([]byte, 1)
	for {
		n, err := q.a.in.Read(one)
		if n == 1 && one[0] == '\n' || err != nil && len(line) > 0 {
			return strings.TrimSpace(string(line)), nil
		}
		if err != nil {
			return "", problem.New(problem.Canceled, "input-ended", "The input ended.").WithMend("Run the command again.").Wrap(err)
		}
		line = append(line, one[:n]...)
	}
}

func (a *app) glassApprove() *cobra.Command {
	var refuse bool
	c := &cobra.Command{
		Use: "approve REQUEST", Short: "Approve a new recovery key that somebody else asked for", Args: exactly("REQUEST"),
		Example: "  foundry breakglass approve 0190c2f0-0000-7000-8000-000000000001\n  foundry breakglass approve --refuse 0190c2f0-0000-7000-8000-000000000001",
		RunE: func(cmd *cobra.Command, args []string) error {
			var r backup.KeyRequest
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/emergency/keys/"+args[0]+"/decision", map[string]bool{"approve": !refuse}, &r); err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) { fmt.Fprintf(w, "The request is %s.\n", r.State) })
		},
	}
	c.Flags().BoolVar(&refuse, "refuse", false, "refuse it")
	return c
}

type openFlags struct {
	shareFlags
	kit, scope, reason, extract string
	lasts                       time.Duration
}

func (a *app) glassOpen() *cobra.Command {
	var f openFlags
	c := &cobra.Command{
		Use: "open", Short: "Get in with the shares when nobody can sign in", Args: exactly(),
		Long: `Opens an emergency session on this node for whoever brings enough shares, also
while the database is away: for a limited time, with one role, and with an alarm
to everybody who should know. The shares stay on this machine; only a proof of
them goes to the node. Somebody else has to review what was done.

With --extract the kit is opened without a node, and what is in it is written
into a directory: keys, passphrases and credentials, in the clear.`,
		Example: `  foundry breakglass open --scope operate --for 30m --reason "sign-in is down and backups fail"
  foundry breakglass open --kit foundry-kit-1a2b3c4d.age --extract /dev/shm/kit --reason "restoring by hand"`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.extract != "" {
				return a.extractKit(cmd.Context(), f)
			}
			return a.openEmergency(cmd.Context(), f)
		},
	}
	f.shareFlags.add(c)
	c.Flags().StringVar(&f.kit, "kit", "", "with --extract: the kit")
	c.Flags().StringVar(&f.scope, "scope", "operate", "operate, secure or administer: the least that helps")
	c.Flags().DurationVar(&f.lasts, "for", backup.DefaultEmergency, "how long, at most 4h")
	c.Flags().StringVar(&f.reason, "reason", "", "what happened, in a sentence")
	c.Flags().StringVar(&f.extract, "extract", "", "open the kit without a node, into this empty directory")
	c.MarkFlagsRequiredTogether("kit", "extract")
	return c
}

func (a *app) openEmergency(ctx context.Context, f openFlags) error {
	shares, err := a.readShares(ctx, f.shareFlags)
	if err != nil {
		return err
	}
	key, err := kit.Combine(shares)
	if err != nil {
		return err
	}
	defer key.Wipe()
	var c backup.Challenge
	if err := a.local(ctx, http.MethodPost, "/api/v1/emergency/challenges", nil, &c); err != nil {
		return err
	}
	if c.Set != key.Set().String() {
		return problem.New(problem.Invalid, "kit-wrong", fmt.Sprintf("The shares are of set %s, and this node's recovery key is of set %s.", key.Set(), c.Set)).WithField("share").WithMend("Use the shares whose pages name the set " + c.Set + ".")
	}
	r := backup.OpenGlass{Nonce: c.Nonce, Scope: f.scope, Seconds: int(f.lasts / time.Second), Reason: f.reason}
	for _, s := range shares {
		r.Shares = append(r.Shares, s.Index)
	}
	r.Proof = backup.ProveKey(key.Authenticator(), r)
	var o backup.OpenedGlass
	if err := a.local(ctx, http.MethodPost, "/api/v1/emergency/openings", r, &o); err != nil {
		return err
	}
	return a.print(o, func(w io.Writer) {
		fmt.Fprintf(w, "You are in, to %s, until %s. Everybody who should know is told, and somebody else\nhas to review what you do (opening %s).\n\nOn this machine:\n\n  export FOUNDRY_EMERGENCY=%s\n\nWhen you are done: foundry breakglass end\n", o.Scope, o.Until.Local().Format("15:04:05"), o.ID, o.Token)
	})
}

func (a *app) glassEnd() *cobra.Command {
	return &cobra.Command{
		Use: "end", Short: "End your own emergency session", Args: exactly(), Example: "  foundry breakglass end",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.local(cmd.Context(), http.MethodDelete, "/api/v1/emergency/session", nil, nil); err != nil {
				return err
			}
			return a.print(map[string]bool{"ended": true}, func(w io.Writer) { fmt.Fprintln(w, "The emergency session has ended. unset FOUNDRY_EMERGENCY") })
		},
	}
}

// extractKit opens a kit without a node.
func (a *app) extractKit(ctx context.Context, f openFlags) error {
	if len(strings.TrimSpace(f.reason)) < 10 {
		return problem.New(problem.Invalid, "break-glass-reason", "Opening the kit needs a reason of at least 10 characters.").WithField("reason").WithMend("Say in a sentence what happened.")
	}
	body, _, err := readKit(f.kit)
	if err != nil {
		return err
	}
	shares, err := a.readShares(ctx, f.shareFlags)
	if err != nil {
		return err
	}
	key, err := kit.Combine(shares)
	if err != nil {
		return err
	}
	defer key.Wipe()
	content, err := kit.Open(body, key)
	if err != nil {
		return err
	}
	defer content.Wipe()
	if err := emptyDir(f.extract); err != nil {
		return err
	}
	files, err := content.Extract(f.extract)
	if err != nil {
		return err
	}
	noted := a.noteExtraction(f.reason, key.Set(), shares)
	return a.print(map[string]any{"set": key.Set(), "files": files, "noted": noted == nil}, func(w io.Writer) {
		fmt.Fprintf(w, "%d files are in %s, in the clear. Remove them when you are done: rm -r %s\n", len(files), f.extract, f.extract)
		if noted != nil {
			fmt.Fprintf(w, "\nThis act could not be noted on a node (%s).\nTell whoever reviews it: kit of set %s, shares %v, %s.\n", problem.From(noted).Detail, key.Set(), indices(shares), time.Now().UTC().Format(time.RFC3339))
		}
	})
}

func indices(shares []kit.Share) (out []int) {
	for _, s := range shares {
		out = append(out, s.Index)
	}
	return out
}

// noteExtraction keeps the act in the data directory, where there is one: the
// node enters it into the audit log when it runs again.
func (a *app) noteExtraction(reason string, set kit.SetID, shares []kit.Share) error {
	dir, err := filepath.Abs(a.dir())
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "keys")); err != nil { // or else opening would make new keys there
		return problem.New(problem.NotFound, "node-missing", "there is no data directory here")
	}
	ring, err := daemon.OpenKeyring(daemon.Config{DataDir: dir}, a.askPassphrase)
	if err != nil {
		return err
	}
	g, err := backup.NewGlass(backup.GlassOptions{DataDir: dir, Seal: ring.Seal, Open: ring.Open})
	if err != nil {
		return err
	}
	return g.OpenedOffline(fmt.Sprintf("local:uid=%d", os.Getuid()), reason, set, indices(shares))
}

func (a *app) glassReview() *cobra.Command {
	var finding string
	var unjustified bool
	c := &cobra.Command{
		Use: "review OPENING", Short: "Say what you found of what somebody did behind broken glass", Args: exactly("OPENING"),
		Example: `  foundry breakglass review 0190c2f0-… --finding "restarted the mail relay, nothing else; justified"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var o backup.Opening
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/emergency/openings/"+args[0]+"/review", map[string]any{"finding": finding, "justified": !unjustified}, &o); err != nil {
				return err
			}
			return a.print(o, func(w io.Writer) { fmt.Fprintf(w, "The review of %s is entered.\n", o.ID) })
		},
	}
	c.Flags().StringVar(&finding, "finding", "", "what was done, and whether it was right")
	c.Flags().BoolVar(&unjustified, "unjustified", false, "it should not have been done")
	return c
}

func (a *app) glassAttest() *cobra.Command {
	var briefed bool
	c := &cobra.Command{
		Use: "attest", Short: "Say that the emergency contacts were called and are right", Args: exactly(), Example: "  foundry breakglass attest --briefed",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/emergency/attestations", map[string]bool{"briefed": briefed}, nil); err != nil {
				return err
			}
			return a.print(map[string]bool{"attested": true}, func(w io.Writer) { fmt.Fprintln(w, "Entered. It counts for a year.") })
		},
	}
	c.Flags().BoolVar(&briefed, "briefed", false, "they know what to do, and have tried it")
	return c
}
