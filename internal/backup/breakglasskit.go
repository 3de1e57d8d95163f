package backup

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/problem"
)

// glassState is what the node keeps of the recovery key, in a file, so that it
// is there without the database.
type glassState struct {
	Public    string    `json:"public"` // the recipient: makes kits, opens none
	Set       kit.SetID `json:"set"`
	Threshold int       `json:"threshold"`
	Shares    int       `json:"shares"`
	Created   time.Time `json:"created"`
	Contacts  int       `json:"contacts"`
	Sealed    []byte    `json:"sealed"` // glassSecrets, by the installation's keyring

	Digest string    `json:"digest,omitempty"` // of what the newest kit holds
	Sum    []byte    `json:"sum,omitempty"`    // SHA-256 of the newest kit's file
	Made   time.Time `json:"made,omitzero"`
	Copies []KitCopy `json:"copies,omitempty"`

	Parts   map[string]string `json:"parts,omitempty"`   // digests of what the newest kit holds, by part
	Changes []KitChange       `json:"changes,omitempty"` // the oldest first
}

// glassSecrets name people, or show that a kit is this node's.
type glassSecrets struct {
	Authenticator []byte        `json:"authenticator"`
	Holders       []string      `json:"holders"`
	Contacts      []kit.Contact `json:"contacts"`
	Briefing      string        `json:"briefing"`
	Dirs          []string      `json:"dirs"` // of this machine, where copies go beside the targets
}

const glassLabel = "break glass"

func (g *Glass) stateFile() string { return filepath.Join(g.dir, "recipient.json") }

func (g *Glass) readState() (*glassState, error) {
	body, err := os.ReadFile(g.stateFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, pathProblem(g.stateFile(), err)
	}
	var s glassState
	if err := json.Unmarshal(body, &s); err != nil || s.Public == "" {
		return nil, problem.New(problem.Internal, "break-glass-state", g.stateFile()+" is damaged.").
			WithMend("Restore it from a backup, or make a new recovery key with `foundry breakglass create`.").Wrap(err)
	}
	return &s, nil
}

func (g *Glass) writeState(s *glassState) error {
	body, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(g.stateFile(), append(body, '\n'), 0o600)
}

func (g *Glass) secrets(s *glassState) (out glassSecrets, err error) {
	plain, err := g.o.Open(s.Sealed, []byte(glassLabel))
	if err != nil {
		return out, problem.New(problem.Internal, "break-glass-state", g.stateFile()+" does not open with this node's keys.").
			WithMend("Restore it from the backup that has the keys too, or make a new recovery key.").Wrap(err)
	}
	defer clear(plain)
	return out, json.Unmarshal(plain, &out)
}

func (g *Glass) sealSecrets(s glassSecrets) ([]byte, error) {
	plain, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	return g.o.Seal(plain, []byte(glassLabel))
}

// kitAge is how old a kit may be before it is made anew for its newest
// checkpoint and notes alone.
const kitAge = time.Hour

// content is what a kit made now would hold.
func (g *Glass) content(ctx context.Context, s *glassState) (c kit.Content, secrets glassSecrets, err error) {
	if secrets, err = g.secrets(s); err != nil {
		return c, secrets, err
	}
	if c, err = g.o.Collect(ctx); err != nil {
		return c, secrets, fmt.Errorf("gathering what goes into the emergency kit: %w", err)
	}
	c.Threshold, c.Shares, c.Holders, c.Contacts, c.Briefing = s.Threshold, s.Shares, secrets.Holders, secrets.Contacts, secrets.Briefing
	return c, secrets, nil
}

// digest tells two kits apart by what is in them, leaving out what changes all
// the time. It is keyed: the content can be guessed in part.
func (g *Glass) digest(ctx context.Context, s *glassState) (sum string, c kit.Content, err error) {
	c, secrets, err := g.content(ctx, s)
	if err != nil {
		return "", c, err
	}
	still := c
	still.Audit.Checkpoint, still.Expected = "", nil
	still.Files = nil
	for _, f := range c.Files {
		if !restless(f.Path) {
			still.Files = append(still.Files, f)
		}
	}
	body, err := json.Marshal(still)
	if err != nil {
		return "", c, err
	}
	defer clear(body)
	m := hmac.New(sha256.New, secrets.Authenticator)
	m.Write([]byte(s.Set.String()))
	m.Write(body)
	return hex.EncodeToString(m.Sum(nil)), c, nil
}

// restless files change with every act: a new kit is not made for them alone.
func restless(path string) bool {
	return path == filepath.Join("audit", "newest.json") || path == filepath.Join("audit", "checkpoints.jsonl") ||
		path == filepath.Join("breakglass", "recipient.json") // says when the last kit was made
}

// Refresh makes the kit anew where anything in it changed, where it is old, or
// where a copy is missing, and puts it on every target.
func (g *Glass) Refresh(ctx context.Context) error { return g.refresh(ctx, false) }

// Renew makes the kit anew though nothing else changed, after a backup: what it
// says about the database is then as new as the backup.
func (g *Glass) Renew(ctx context.Context) error { return g.refresh(ctx, true) }

// Reseal seals anew, after a rotation of the installation's keyring, what lies
// in a file for good.
func (g *Glass) Reseal() error {
	g.refreshing.Lock()
	defer g.refreshing.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == nil {
		return nil
	}
	secrets, err := g.secrets(g.state)
	if err != nil {
		return err
	}
	next := *g.state
	if next.Sealed, err = g.sealSecrets(secrets); err != nil {
		return err
	}
	if err := g.writeState(&next); err != nil {
		return err
	}
	g.state = &next
	return nil
}

func (g *Glass) refresh(ctx context.Context, anyway bool) error {
	g.refreshing.Lock()
	defer g.refreshing.Unlock()
	g.mu.Lock()
	s := g.state
	g.mu.Unlock()
	if s == nil {
		return nil
	}
	digest, c, err := g.digest(ctx, s)
	if err != nil {
		return err
	}
	defer c.Wipe()
	now := g.o.Clock()
	missing := len(s.Copies) == 0
	for _, k := range s.Copies {
		missing = missing || k.Failure != ""
	}
	if digest == s.Digest && now.Sub(s.Made) < kitAge && !missing && !anyway {
		return nil
	}
	if g.o.Noted != nil {
		if n, err := g.o.Noted(ctx); err != nil {
			g.o.Log.Warn("the emergency kit has no new notes about the database", "error", err)
		} else if c.Expected, err = json.Marshal(n); err != nil {
			return err
		}
	}
	secrets, err := g.secrets(s)
	if err != nil {
		return err
	}
	file, err := (kit.Recipient{Public: s.Public, Authenticator: secrets.Authenticator}).Seal(c, now)
	if err != nil {
		return err
	}
	next := *s
	sum := sha256.Sum256(file)
	next.Digest, next.Made, next.Sum = digest, now.UTC(), sum[:]
	next.Parts = partsOf(c, secrets)
	next.Changes = changed(s, next.Parts, now)
	next.Copies = g.put(ctx, s, secrets, file)
	if err := g.writeState(&next); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == s { // not replaced meanwhile
		g.state = &next
	}
	return nil
}

// put brings a kit to every target and directory.
func (g *Glass) put(ctx context.Context, s *glassState, secrets glassSecrets, file []byte) (copies []KitCopy) {
	name := kit.FileName(s.Set)
	if g.o.Publish != nil {
		copies = g.o.Publish(ctx, name, file)
	}
	for _, dir := range secrets.Dirs {
		c := KitCopy{Place: filepath.Join(dir, name), At: g.o.Clock().UTC()}
		if err := writeFile(c.Place, file, 0o600); err != nil {
			c.Failure = detail(err)
		} else {
			c.Seen = c.At
		}
		copies = append(copies, c)
	}
	for i, c := range copies {
		if c.Failure == "" {
			continue
		}
		copies[i].At = time.Time{}
		for _, old := range s.Copies { // the one from before still lies there
			if old.Place == c.Place {
				copies[i].At, copies[i].Seen = old.At, old.Seen
			}
		}
	}
	return copies
}
