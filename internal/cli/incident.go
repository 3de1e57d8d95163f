package cli

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
)

func (a *app) incident() *cobra.Command {
	return group("incident", "Work on what is going wrong now, and show what was done",
		a.incidentShow(), a.incidentOpen(), a.incidentList(), a.incidentTimeline(), a.incidentClocks(), a.incidentPhase(), a.incidentRole(), a.incidentNote(), a.incidentSignal(), a.incidentFact(),
		a.incidentScope(), a.incidentAct(), a.incidentDecide(), a.incidentApprove(), a.incidentAssess(), a.incidentQuarantine(), a.incidentEvidence(), a.incidentHold(), a.incidentNotice(),
		a.incidentAction(), a.incidentReview(), a.incidentRevision(), a.incidentClose(), a.incidentExport(), a.incidentVerify())
}

func (a *app) incidentVerify() *cobra.Command {
	var keys []string
	var page, zone string
	c := &cobra.Command{
		Use: "verify FILE", Short: "Verify the export of an incident, without a node", Args: exactly("FILE"),
		Long: `Reads an export, checks its seal, the hash of every entry and that each follows
the one before, and says how the incident stood. It asks no node and no database.

Without --key it shows only that the file is whole: compare the signer's id with
the one in the audit log, and the head with the entries incident.anchor there.

Exits with 73 if anything was changed, removed, reordered or slipped in.`,
		Example: "  foundry incident verify inc-20261123-k3x9qa.incident\n  foundry incident verify export.incident --key 'kq3…=' --page report.html --zone Europe/London",
		RunE: func(_ *cobra.Command, args []string) error {
			var trusted []ed25519.PublicKey
			for _, k := range keys {
				raw, err := base64.StdEncoding.DecodeString(k)
				if err != nil || len(raw) != ed25519.PublicKeySize {
					return problem.New(problem.Invalid, "usage", "This is no public key of a node.").WithField("--key").WithMend("Give 32 bytes in base64, as the line \"key\" of an export that you trust has them.")
				}
				trusted = append(trusted, raw)
			}
			in := a.in
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return fileUnreadable(args[0], err)
				}
				defer f.Close()
				in = f
			}
			v, err := incident.VerifyExport(in, trusted...)
			if err != nil {
				return err
			}
			if page != "" {
				if err := a.incidentPage(v, page, zone); err != nil {
					return err
				}
			}
			return a.showVerified(v, len(keys) > 0, page)
		},
	}
	c.Flags().StringArrayVar(&keys, "key", nil, "a public key that you trust, in base64; one of those given must have signed")
	c.Flags().StringVar(&page, "page", "", "write the incident as a page to read and print into this file; -: to standard output")
	c.Flags().StringVar(&zone, "zone", "UTC", "time zone of the page's date")
	return c
}

// incidentPage writes the page as of the last entry: what an export says does
// not change by waiting.
func (a *app) incidentPage(v *incident.Verified, path, zone string) error {
	z, err := time.LoadLocation(zone)
	if err != nil {
		return problem.New(problem.Invalid, "usage", fmt.Sprintf("There is no time zone %q.", zone)).WithField("--zone").WithMend("Write one such as Europe/London.")
	}
	var out bytes.Buffer
	if err := incident.HTML(&out, v.Timeline, z, v.State.Last); err != nil {
		return err
	}
	return a.writeFile(path, out.Bytes())
}

func (a *app) showVerified(v *incident.Verified, known bool, page string) error {
	if page == "-" {
		return nil
	}
	s := v.State
	body := map[string]any{"ok": true, "incident": s.ID, "title": s.Title, "mode": s.Mode, "phase": s.Phase, "entries": s.Head.N, "head": s.Head.Hash, "signer": v.Signer, "signer_known": known,
		"made_at": v.MadeAt, "anchored": s.Anchored, "unread": s.Unread, "clocks": s.Clocks(s.Last)}
	return a.print(body, func(w io.Writer) {
		fmt.Fprintf(w, "Verified\t%s: %s\n", s.ID, s.Title)
		fmt.Fprintf(w, "Mode\t%s\nPhase\t%s since %s\n", s.Mode, s.Phase, s.Since.Format(time.RFC3339))
		fmt.Fprintf(w, "Entries\t%d, the last at %s\n", s.Head.N, s.Last.Format(time.RFC3339))
		fmt.Fprintf(w, "Head\t%s\n", s.Head.Hash)
		if s.Anchored.N > 0 {
			fmt.Fprintf(w, "Anchored\tup to entry %d: %s\n", s.Anchored.N, s.Anchored.Hash)
		} else {
			fmt.Fprint(w, "Anchored\tnot yet\n")
		}
		if known {
			fmt.Fprintf(w, "Signed by\t%s, with a key that you gave\n", v.Signer)
		} else {
			fmt.Fprintf(w, "Signed by\t%s: compare it, no key was given\n", v.Signer)
		}
		if n := len(s.Unread); n > 0 {
			fmt.Fprintf(w, "Unread\t%d entries of a newer version, in the chain and not understood here\n", n)
		}
	})
}
