package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/problem"
)

func (a *app) audit() *cobra.Command {
	return group("audit", "Read, prove and verify the audit log",
		a.auditList(), a.auditFollow(), a.auditProve(), a.auditVerify(), a.auditExport(), a.auditCheckpoint(), a.auditKeys())
}

// auditFilter is the flags that select entries.
type auditFilter struct {
	org, actor, act, target, outcome string
	when                             period
}

func (f *auditFilter) add(c *cobra.Command) {
	fl := c.Flags()
	fl.StringVar(&f.org, "org", "", "only this organisation; platform: what belongs to none")
	fl.StringVar(&f.actor, "actor", "", "only this actor, e.g. local:uid=0")
	fl.StringVar(&f.act, "act", "", "only this act, or all that begin so: key.")
	fl.StringVar(&f.target, "target", "", "only this target")
	fl.StringVar(&f.outcome, "outcome", "", "only done or denied")
	f.when.add(c)
}

func (f *auditFilter) query() (url.Values, error) {
	q := url.Values{}
	for name, v := range map[string]string{"organisation": f.org, "actor": f.actor, "act": f.act, "target": f.target, "outcome": f.outcome} {
		if v != "" {
			q.Set(name, v)
		}
	}
	return q, f.when.query(q)
}

func (a *app) auditList() *cobra.Command {
	var f auditFilter
	var limit int
	var before string
	c := &cobra.Command{
		Use: "list", Short: "List audit entries, newest first", Args: exactly(),
		Long:    "Lists entries. Reading the log is itself entered: once for a listing and its\nfurther pages within 15 minutes.",
		Example: "  foundry audit list --limit 20\n  foundry audit list --org st-mary --act key. --outcome denied",
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := f.query()
			if err != nil {
				return err
			}
			q.Set("limit", strconv.Itoa(limit))
			if before != "" {
				q.Set("before", before)
			}
			var out []audit.Row
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/audit?"+q.Encode(), nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintln(w, "TIME\tWHO\tACT\tTARGET\tOUTCOME\tLEAF\tID")
				for _, e := range out {
					auditLine(w, e)
				}
				if len(out) == limit && limit > 0 {
					fmt.Fprintf(w, "\nMore: --before %s\n", out[len(out)-1].ID)
				}
			})
		},
	}
	c.Flags().IntVar(&limit, "limit", 100, "how many, at most 1000")
	c.Flags().StringVar(&before, "before", "", "the page after this entry")
	f.add(c)
	return c
}

func auditLine(w io.Writer, e audit.Row) {
	leaf := "-"
	if e.Leaf != nil {
		leaf = strconv.FormatInt(*e.Leaf, 10)
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.At.Local().Format(time.DateTime), e.Actor, e.Act, orDash(e.Target), e.Outcome, leaf, e.ID)
}

func (a *app) auditFollow() *cobra.Command {
	var f auditFilter
	var after int64
	c := &cobra.Command{
		Use: "follow", Short: "Print audit entries as they come into the tree", Args: exactly(),
		Long:    "Prints entries in the order of the tree, from now on or behind a leaf, until\ninterrupted. With --json each is a line.",
		Example: "  foundry audit follow\n  foundry audit follow --after -1 --json | my-siem",
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := f.query()
			if err != nil {
				return err
			}
			q.Set("limit", "1000")
			if !cmd.Flags().Changed("after") {
				var c audit.Checkpoint
				if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/audit/checkpoint", nil, &c); err != nil {
					return err
				}
				after = c.Size - 1
			}
			return a.follow(cmd.Context(), q, after)
		},
	}
	c.Flags().Int64Var(&after, "after", -1, "begin behind this leaf; -1: with the first (default: now)")
	f.add(c)
	return c
}

func (a *app) follow(ctx context.Context, q url.Values, after int64) error {
	lines := json.NewEncoder(a.out)
	for {
		q.Set("after", strconv.FormatInt(after, 10))
		var out []audit.Row
		if err := a.call(ctx, http.MethodGet, "/api/v1/audit?"+q.Encode(), nil, &out); err != nil {
			if ctx.Err() != nil { // interrupted: that is how it ends
				return nil
			}
			return err
		}
		for _, e := range out {
			after = *e.Leaf
			if a.json {
				_ = lines.Encode(e)
			} else {
				auditLine(a.out, e)
			}
		}
		if len(out) == 1000 {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

func (a *app) auditProve() *cobra.Command {
	var request string
	c := &cobra.Command{
		Use: "prove ENTRY", Short: "Prove an entry or a model request", Args: cobra.MaximumNArgs(1),
		Long:    "Prints a proof (JSON) that whoever has the log's public key can check, with\n`foundry audit verify --proof` or a program of their own (docs/guides/auditor.md).",
		Example: "  foundry audit prove 0199… > proof.json\n  foundry audit prove --request req_… > proof.json\n  foundry audit verify --proof proof.json --key 'foundry.audit/…'",
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/api/v1/audit/requests/" + url.PathEscape(request) + "/proof"
			switch {
			case (request == "") == (len(args) == 0):
				return usageError{fmt.Errorf("give either the id of an entry or --request")}
			case request == "":
				path = "/api/v1/audit/entries/" + url.PathEscape(args[0]) + "/proof"
			}
			var b audit.Bundle
			if err := a.call(cmd.Context(), http.MethodGet, path, nil, &b); err != nil {
				return err
			}
			enc := json.NewEncoder(a.out)
			enc.SetIndent("", "  ")
			enc.SetEscapeHTML(false)
			return enc.Encode(b)
		},
	}
	c.Flags().StringVar(&request, "request", "", "prove this model request: every row that the ledger has of it")
	return c
}

func (a *app) auditVerify() *cobra.Command {
	var offline, proof string
	var keys, checkpoints []string
	c := &cobra.Command{
		Use: "verify", Short: "Verify the audit log, an export of it or a proof", Args: exactly(),
		Long: `Without flags it asks the node to read every entry and every row of the ledger
again, to compute the tree again and to compare it with every checkpoint in the
database and on disk. With --offline it verifies an export, with --proof a proof,
by the public key alone: no node, no database.

Exits with 73 if anything was changed, removed, reordered, forged or slipped in.`,
		Example: "  foundry audit verify\n  foundry audit verify --checkpoint kept.txt\n  foundry audit verify --offline export.tsv --key 'foundry.audit/…+1234abcd+…'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			kept, err := readAll(checkpoints)
			if err != nil {
				return err
			}
			if proof != "" {
				return a.verifyProof(proof, keys)
			}
			var r audit.Report
			if offline != "" {
				r, err = a.verifyOffline(cmd.Context(), offline, keys, kept)
			} else {
				r, err = a.verifyLive(cmd.Context(), kept)
			}
			if err != nil {
				return err
			}
			return a.showReport(r)
		},
	}
	fl := c.Flags()
	fl.StringVar(&offline, "offline", "", "verify this export; -: from standard input")
	fl.StringVar(&proof, "proof", "", "verify this proof")
	fl.StringArrayVar(&keys, "key", nil, "a public key that you trust, or @FILE with one a line")
	fl.StringArrayVar(&checkpoints, "checkpoint", nil, "a file with a signed checkpoint that you kept; the tree must contain it")
	c.MarkFlagsMutuallyExclusive("offline", "proof")
	return c
}

// readAll reads files whole.
func readAll(paths []string) ([]string, error) {
	var out []string
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			return nil, fileUnreadable(p, err)
		}
		out = append(out, string(text))
	}
	return out, nil
}

func fileUnreadable(path string, err error) error {
	return problem.New(problem.NotFound, "file", "The file "+path+" cannot be read.").WithMend("Check the name and its permissions.").Wrap(err)
}

// trustedKeys reads --key.
func trustedKeys(flags []string) ([]string, error) {
	var out []string
	for _, k := range flags {
		path, isFile := strings.CutPrefix(k, "@")
		if !isFile {
			out = append(out, k)
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fileUnreadable(path, err)
		}
		out = append(out, strings.Fields(string(text))...)
	}
	return out, nil
}

func (a *app) verifyProof(path string, flags []string) error {
	keys, err := trustedKeys(flags)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fileUnreadable(path, err)
	}
	b, c, err := audit.CheckBundle(text, keys)
	if err != nil {
		return err
	}
	return a.print(map[string]any{"ok": true, "subject": b.Subject, "proofs": len(b.Proofs), "tree_size": c.Size, "root": c.Root}, func(w io.Writer) {
		fmt.Fprintf(w, "Proven: %s stands in the log that was signed over %d leaves.\n", b.Subject, c.Size)
		for _, p := range b.Proofs {
			if e := p.Entry; e != nil {
				fmt.Fprintf(w, "Leaf %d\t%s\t%s\t%s\t%s\t%s\n", p.Leaf, e.At, e.Actor, e.Act, orDash(e.Target), e.Outcome)
			} else if p.Row != nil {
				fmt.Fprintf(w, "Leaf %d\trow %d of %d of its batch, in %s\n", p.Leaf, p.Row.N+1, p.Row.Of, p.Row.Table)
			}
		}
	})
}

func (a *app) verifyOffline(ctx context.Context, path string, flags, kept []string) (audit.Report, error) {
	keys, err := trustedKeys(flags)
	if err != nil {
		return audit.Report{}, err
	}
	in, size := a.in, int64(0)
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return audit.Report{}, fileUnreadable(path, err)
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil {
			size = info.Size()
		}
		in = f
	}
	b := a.progressBar("Verifying")
	defer b.end()
	return audit.VerifyArchive(ctx, in, audit.ArchiveOptions{Keys: keys, Checkpoints: kept, Progress: func(n int64) { b.show(n, size) }})
}

func (a *app) verifyLive(ctx context.Context, kept []string) (r audit.Report, err error) {
	b := a.progressBar("Verifying")
	defer b.end()
	whole := false
	err = a.stream(ctx, http.MethodPost, "/api/v1/audit/verifications", map[string]any{"checkpoints": kept}, func(answer io.Reader) error {
		for d := json.NewDecoder(answer); ; {
			var line struct {
				Done, Total int64
				Report      *audit.Report
				Error       json.RawMessage
			}
			switch err := d.Decode(&line); {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return err
			case line.Error != nil:
				return decodeProblem(&http.Response{Status: "an error", StatusCode: http.StatusInternalServerError}, line.Error)
			case line.Report != nil:
				r, whole = *line.Report, true
			}
			b.show(line.Done, line.Total)
		}
	})
	if err == nil && !whole {
		err = problem.New(problem.Unavailable, "answer-cut", "The node stopped before the verification was finished.").WithMend("Run it again.")
	}
	return r, err
}

// showReport prints a report, and turns one that is not clean into an error.
func (a *app) showReport(r audit.Report) error {
	err := a.print(r, func(w io.Writer) {
		fmt.Fprintf(w, "Log\t%s\nTree\t%d leaves, root %s\nEntries\t%d (%d erased)\nLedger\t%d batches, %d rows\n", r.Origin, r.Size, r.Root, r.Entries, r.Erased, r.Batches, r.Rows)
		if r.Foreign > 0 {
			fmt.Fprintf(w, "Not shown\t%d leaves, of which the export has hashes only\n", r.Foreign)
		}
		fmt.Fprintf(w, "Checkpoints\t%d agree; signed by %s\n", r.Checkpoints, orDash(strings.Join(r.SignedBy, ", ")))
		if r.Waiting > 0 {
			fmt.Fprintf(w, "Waiting\t%d entries are not in the tree yet and therefore not proven\n", r.Waiting)
		}
		fmt.Fprintf(w, "Took\t%s\n", r.Took.Round(time.Millisecond))
		for _, f := range r.Findings {
			fmt.Fprintf(w, "✗ %s\t%s\n", f.Code, f.What)
		}
		if r.OK {
			fmt.Fprintln(w, "✓ Nothing was changed.")
		}
	})
	if err != nil || r.OK {
		return err
	}
	return problem.New(problem.Conflict, "audit-not-sound", fmt.Sprintf("The verification found %d faults.", r.Count)).
		WithMend("Change nothing, and follow docs/runbooks/audit-verify-fails.md.")
}

func (a *app) auditExport() *cobra.Command {
	var org, output string
	var when period
	c := &cobra.Command{
		Use: "export", Short: "Take the audit log along, signed", Args: exactly(),
		Long:    "Writes an archive that anybody can verify with the log's public key, without the\nnode. With --org it holds that organisation's entries, and hashes for the others'.",
		Example: "  foundry audit export --output export.tsv\n  foundry audit export --org st-mary --from 2026-11-01 --output st-mary.tsv",
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			if org != "" {
				q.Set("organisation", org)
			}
			if err := when.query(q); err != nil {
				return err
			}
			n, err := a.exportTo(cmd.Context(), "/api/v1/audit/export?"+q.Encode(), output)
			if err != nil || output == "-" {
				return err
			}
			return a.print(map[string]any{"file": output, "bytes": n}, func(w io.Writer) {
				fmt.Fprintf(w, "Wrote %s, %d bytes. Verify it: foundry audit verify --offline %s --key …\n", output, n, output)
			})
		},
	}
	c.Flags().StringVar(&org, "org", "", "only this organisation; platform: what belongs to none")
	c.Flags().StringVarP(&output, "output", "o", "-", "file; it must not exist")
	when.add(c)
	return c
}

// exportTo writes an export, whole or not at all where it can.
func (a *app) exportTo(ctx context.Context, path, output string) (n int64, err error) {
	to, tmp := a.out, ""
	if output != "-" {
		if _, err := os.Lstat(output); err == nil {
			return 0, problem.New(problem.Conflict, "file-exists", "The file "+output+" exists already.").WithField("output").WithMend("Name another.")
		}
		tmp = output + ".part"
		f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return 0, fileUnreadable(tmp, err)
		}
		defer os.Remove(tmp)
		defer f.Close()
		to = f
	}
	b := a.progressBar("Bytes")
	defer b.end()
	err = a.stream(ctx, http.MethodGet, path, nil, func(answer io.Reader) error {
		last := &tail{to: to, progress: func(n int64) { b.show(n, 0) }}
		if n, err = io.Copy(last, bufio.NewReaderSize(answer, 1<<16)); err != nil {
			return err
		}
		if !strings.Contains(string(last.end), "\nseal\t") {
			return problem.New(problem.Unavailable, "answer-cut", "The export broke off: the node stopped, or found the tree damaged.").WithMend("See the node's log, run `foundry audit verify`, and export again.")
		}
		return nil
	})
	if err == nil && tmp != "" {
		err = os.Rename(tmp, output)
	}
	return n, err
}

// tail passes on what is written and keeps its end.
type tail struct {
	to       io.Writer
	end      []byte
	n        int64
	progress func(int64)
}

func (t *tail) Write(p []byte) (int, error) {
	n, err := t.to.Write(p)
	t.end = append(t.end, p[:n]...)
	if over := len(t.end) - 4096; over > 0 {
		t.end = append(t.end[:0], t.end[over:]...)
	}
	t.n += int64(n)
	t.progress(t.n)
	return n, err
}

func (a *app) auditCheckpoint() *cobra.Command {
	return &cobra.Command{
		Use: "checkpoint", Short: "Print the newest signed checkpoint", Args: exactly(),
		Long:    "Prints the newest checkpoint (C2SP tlog-checkpoint). Keep it where the log's owner\ncannot reach it: with it you can tell later that nothing before it was changed.",
		Example: "  foundry audit checkpoint > kept-2026-11-22.txt\n  foundry audit verify --checkpoint kept-2026-11-22.txt",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c audit.Checkpoint
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/audit/checkpoint", nil, &c); err != nil {
				return err
			}
			return a.print(c, func(w io.Writer) { fmt.Fprint(w, c.Note) })
		},
	}
}

func (a *app) auditKeys() *cobra.Command {
	return &cobra.Command{
		Use: "keys", Short: "Print the public keys of the audit log", Args: exactly(),
		Long:    "Prints the public keys that sign checkpoints. Write them down when the log is set\nup, and compare: a key that you learn from the log itself proves nothing.",
		Example: "  foundry audit keys\n  foundry audit keys --json | jq -r '.[] | select(.role == \"log\") | .vkey' > log.key",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var keys []audit.PublicKey
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/audit/keys", nil, &keys); err != nil {
				return err
			}
			return a.print(keys, func(w io.Writer) {
				fmt.Fprintln(w, "ROLE\tNODE\tSINCE\tKEY")
				for _, k := range keys {
					fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", k.Role, k.Node, k.Since.Local().Format(time.DateTime), k.VKey)
				}
			})
		},
	}
}
