package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
)

func (a *app) incidentEvidence() *cobra.Command {
	return group("evidence", "Keep what was captured, so that nobody can change it", a.evidenceAdd(), a.evidenceGet())
}

func (a *app) evidenceAdd() *cobra.Command {
	var name, target, capture, place, how, taken string
	c := &cobra.Command{
		Use: "add ID FILE", Short: "Keep a file as evidence, by its hash", Args: exactly("ID", "FILE"),
		Long: `Up to 64 KiB lie in the timeline itself, on every member. Up to 1 GiB lie sealed on the
node that is asked, under their hash. What is larger stays where it is: --place says where,
and the file is hashed twice, so that what cannot be read again is found now.

A node of a security incident may be wiped when its disk was captured and read again.`,
		Example: "  foundry incident evidence add latest auth.log --target node-2 --capture logs\n  foundry incident evidence add latest /mnt/node-2.img --target node-2 --capture disk --place 'safe 3, drive 12' --how 'dd 9.1'",
		RunE: func(cmd *cobra.Command, args []string) error {
			sum, size, err := hashFile(args[1])
			if err != nil {
				return err
			}
			if name == "" {
				name = filepath.Base(args[1])
			}
			body := map[string]any{"name": name, "target": target, "capture": capture, "sha256": sum, "size": size, "how": how}
			if err := instants(body, map[string][2]string{"taken": {"taken_at", taken}}); err != nil {
				return err
			}
			switch {
			case place != "":
				again, _, err := hashFile(args[1])
				if err != nil {
					return err
				}
				if again != sum {
					return problem.New(problem.Conflict, "evidence-changing", "The file is another each time that it is read.").WithField(args[1]).WithMend("Capture it onto something that does not change.")
				}
				body["place"], body["checked"] = place, true
			case size <= incident.MaxInline:
				text, err := os.ReadFile(args[1])
				if err != nil {
					return fileUnreadable(args[1], err)
				}
				body["bytes"] = text
			default:
				if size > incident.MaxKept {
					return problem.New(problem.TooLarge, "evidence-large", "A node keeps files up to 1 GiB.").WithField(args[1]).WithMend("Leave it where it is, and say where with --place.")
				}
				kept, err := a.keepEvidence(cmd, args[0], args[1])
				if err != nil {
					return err
				}
				body["place"], body["checked"] = kept.Place, kept.Hash == sum
			}
			return a.say(cmd, args[0], "evidence", body)
		},
	}
	f := c.Flags()
	f.StringVar(&name, "name", "", "what it is; default: the file's name")
	f.StringVar(&target, "target", "", "the node that it is a capture of")
	f.StringVar(&capture, "capture", "other", "memory, disk, logs or other")
	f.StringVar(&place, "place", "", "where the file stays")
	f.StringVar(&how, "how", "", "the program and its version, the person")
	f.StringVar(&taken, "taken", "", "when it was captured; default: now")
	return c
}

// keepEvidence brings a file to the node in parts.
func (a *app) keepEvidence(cmd *cobra.Command, id, path string) (out incident.Kept, err error) {
	file, err := os.Open(path)
	if err != nil {
		return out, fileUnreadable(path, err)
	}
	defer file.Close()
	in := api.KeepPart{}
	part := make([]byte, incident.MaxPart)
	for {
		n, err := io.ReadFull(file, part)
		in.Bytes, in.Last = part[:n], err != nil
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return out, fileUnreadable(path, err)
		}
		if err := a.call(cmd.Context(), http.MethodPost, incidentPath(id, "vault"), in, &out); err != nil {
			return out, err
		}
		if in.Last {
			return out, nil
		}
		in.Upload = out.Upload
		in.N++
	}
}

func hashFile(path string) (sum string, size int64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return "", 0, fileUnreadable(path, err)
	}
	defer file.Close()
	h := sha256.New()
	if size, err = io.Copy(h, file); err != nil {
		return "", 0, fileUnreadable(path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}

func (a *app) evidenceGet() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "get ID SHA256", Short: "Read evidence that a node keeps, and check its hash", Args: exactly("ID", "SHA256"),
		Long:    "Reads what lies in the timeline, or sealed on the node that is asked. What does not\nhave its hash any more is refused.",
		Example: "  foundry incident evidence get latest 9f86d0… --out auth.log",
		RunE: func(cmd *cobra.Command, args []string) error {
			file, done := a.out, func() error { return nil }
			if out != "-" {
				f, err := os.OpenFile(out, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
				if err != nil {
					return problem.New(problem.Invalid, "file-unwritable", sentence(err.Error())).WithField("--out").WithMend("Name a file in a directory that you may write.").Wrap(err)
				}
				file, done = f, f.Close
			}
			h := sha256.New()
			for n := 0; ; n++ {
				var part incident.Part
				if err := a.call(cmd.Context(), http.MethodGet, incidentPath(args[0], "vault", args[1])+"?n="+strconv.Itoa(n), nil, &part); err != nil {
					return err
				}
				h.Write(part.Bytes)
				if _, err := file.Write(part.Bytes); err != nil {
					return err
				}
				if part.Last {
					break
				}
			}
			if hex.EncodeToString(h.Sum(nil)) != args[1] {
				return problem.New(problem.Conflict, "evidence-changed", "What was read does not have this hash.").WithMend("It was changed where it lies: say so in the timeline.")
			}
			return done()
		},
	}
	c.Flags().StringVar(&out, "out", "-", "file to write; -: to standard output")
	return c
}
